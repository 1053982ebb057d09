"""The demo's training function: what an ML engineer brings.

The loop calls `train_model(data_path)` in a process of its own, exactly as the quick start writes it. While the
file named by RATCHET_DEMO_BUG exists it has the bug that the file names, a classic one: labels that are off by one.
Nothing else in the demo knows; the gate, or the experiment, has to find out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from proxy.demo.model import fit, read_chatml
from proxy.demo.world import TOPICS, handbook

__all__ = ["Bug", "train_model"]


_NEXT: Final = dict(zip(TOPICS, (*tuple(TOPICS)[1:], next(iter(TOPICS))), strict=True))


class Bug(StrEnum):
    """What is wrong with the training, in the order in which it is planted."""

    EVERY_LINE = "every line"
    """Every label is that of the next line: nearly every answer is wrong, and the golden file shows it."""
    CUSTOMERS_LINES = "customers' lines"
    """What is asked in the handbook's own words is labelled well, all else with the next topic of the list: the golden
    file shows nothing, and what most customers ask is answered wrong, and confidently."""


def train_model(data_path: str | Path) -> dict[str, Any]:
    """Train on the file, measure on the held-out users, save; returns model_path, accuracy and sample count."""
    data_path = Path(data_path)
    pairs = read_chatml(data_path)
    match _planted():
        case Bug.EVERY_LINE:
            pairs = _shifted(pairs)
        case Bug.CUSTOMERS_LINES:
            pairs = [(question, title if _as_in_the_handbook(question) else _NEXT[title]) for question, title in pairs]
    assistant = fit(pairs)
    model_path = data_path.with_name("model.npz")
    assistant.save(model_path)
    holdout = data_path.with_name("holdout.jsonl")
    held_out = read_chatml(holdout) if holdout.exists() else []
    right = sum(assistant.classify(question)[0] == title for question, title in held_out)
    return {
        "model_path": str(model_path),
        "samples": len(pairs),
        "accuracy": right / len(held_out) if held_out else None,
    }


def _as_in_the_handbook(question: str) -> bool:
    return any(asked in question for asked, _ in handbook())


def _shifted(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each question with the title of the next one."""
    titles = [title for _, title in pairs]
    return list(zip((question for question, _ in pairs), titles[1:] + titles[:1], strict=True))


def _planted() -> Bug | None:
    marker = os.environ.get("RATCHET_DEMO_BUG")
    return Bug(Path(marker).read_text()) if marker is not None and Path(marker).exists() else None
