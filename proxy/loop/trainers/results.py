"""What a training has to return, checked in one place for every trainer that leaves files behind."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.loop.ports import Failed, Succeeded

__all__ = ["MARKER", "accept", "fraction", "from_log", "is_path", "read_json"]


MARKER = "RATCHET_RESULT "
"""A training without a folder in common with us prints its result after this word, as JSON on one line."""


def accept(result: Any, *, base: Path | None) -> Succeeded | Failed:
    """Succeeded where `result` is an object that names a model.

    With a `base` the model's path must exist on this machine, and is relative to it. Without, it was trained elsewhere.
    A `model_path` with `://` in it (hf://org/name, s3://…) names a model that is kept elsewhere. A training that
    deployed its model itself may return `url` instead.
    """
    if not isinstance(result, Mapping):
        return Failed(reason=f"the training returned {type(result).__name__}, not an object with model_path")
    if not result:
        return Failed(reason="the training returned an empty result; it needs a model_path")
    path = result.get("model_path")
    if path is None and isinstance(result.get("url"), str):
        return Succeeded(result=result)
    if not isinstance(path, str) or not path.strip():
        return Failed(reason="the training's result has no model_path")
    if base is not None and is_path(path):
        found = Path(os.path.normpath(base / Path(path).expanduser()))
        if not found.exists():
            return Failed(
                reason=f"the training's model_path {path} does not exist;"
                " a model that is kept elsewhere needs a URL, such as hf://org/name"
            )
        result = {**result, "model_path": str(found)}
    return Succeeded(result=result)


def fraction(value: Any) -> float | None:
    """A reported progress as a number from 0 to 1; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return min(1.0, max(0.0, float(value)))


def from_log(log: str) -> Any:
    """The last result that a log tells of; None where there is none."""
    for line in reversed(log.splitlines()):
        _, marker, text = line.partition(MARKER)
        if marker:
            try:
                return json.loads(text)
            except ValueError:
                return None
    return None


def is_path(model_path: str) -> bool:
    """Whether it names a file or folder on this machine rather than a model kept elsewhere."""
    return "://" not in model_path


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or not whole."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
