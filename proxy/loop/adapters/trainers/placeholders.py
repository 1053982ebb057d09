"""What a training is told about its run: the placeholders in a command, an entrypoint or a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.loop.adapters.trainers.runner import RESULT
from proxy.loop.ports import TrainingRun

__all__ = ["fill", "values_of"]

_PLACEHOLDER: Final = re.compile(r"\{(data_path|holdout_path|output_dir|result_path|run_id|champion)\}")


def values_of(run: TrainingRun) -> dict[str, str]:
    """What each placeholder stands for where the training sees our files; `holdout_path` is empty without one."""
    folder = run.output_dir.absolute()
    return {
        "data_path": str(run.data_path.absolute()),
        "holdout_path": "" if run.holdout_path is None else str(run.holdout_path.absolute()),
        "output_dir": str(folder),
        "result_path": str(folder / RESULT),
        "run_id": run.run_id,
        "champion": run.champion,
    }


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its placeholders filled in; other braces stay as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
