"""What a training has to return, checked in one place for every trainer that leaves files behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from policies.rewrite import Rewrite, RewriteError
from proxy.loop.adapters.trainers.plain import NotPlainError, plain
from proxy.loop.ports import Failed, Succeeded

__all__ = ["MARKER", "accept", "fraction", "from_log", "is_path", "read_json"]


MARKER = "RATCHET_RESULT "
"""A training without a folder in common with us prints its result after this word, as JSON on one line."""


_LINES: Final = ("data.jsonl", "holdout.jsonl", "openai-*.jsonl")
"""Of a run's folder: removed after a training that went well, and when their users are deleted."""
_PASSING: Final = ("train.log", "failure.txt", "progress.json", "staging.db", "*.tmp", "*.next")
"""Emptied, replaced or removed as we need, or when a user is deleted whose words may be in them."""
_OURS: Final = (*_LINES, *_PASSING, "manifest.json", "lineage.csv", "order.json", "exit.json", "result.json",
                "process.json", "run.lock", "rewrite.json")  # fmt: skip
"""What we write in a run's folder."""


def accept(result: Any, *, base: Path | None, home: Path | None = None) -> Succeeded | Failed:
    """Succeeded where `result` is an object that names a model; its metrics may have any shape that JSON has.

    With a `base` the model's path must exist on this machine, and is relative to it. Without, it was trained elsewhere.
    `home` is the run's folder, where there is one here: a model may be in it, but not in the files that we clean up.
    A `model_path` with `://` in it (hf://org/name, s3://…) names a model that is kept elsewhere. A training that
    deployed its model itself may return `url` instead; one that found a better way to ask the champion's model, a
    `rewrite` alone.
    """
    if not isinstance(result, Mapping):
        return Failed(reason=f"the training returned {type(result).__name__}, not an object with model_path")
    if not result:
        return Failed(reason="the training returned an empty result; it needs a model_path, or a rewrite")
    try:
        result = plain(result)
    except NotPlainError as error:
        return Failed(reason=str(error), kept=error.kept)
    path = result.get("model_path")
    if result.get("rewrite") is not None:
        try:
            Rewrite.of(result["rewrite"])
        except RewriteError as error:
            kept = f"the training's {str(error).partition(':')[0]} cannot be used"  # what is wrong there may be a text
            return Failed(reason=f"the training's {error}", kept=kept)
    if path is None and (isinstance(result.get("url"), str) or result.get("rewrite") is not None):
        return Succeeded(result=result)
    if not isinstance(path, str) or not path.strip():
        return Failed(reason="the training's result has no model_path")
    if base is None or not is_path(path):
        return Succeeded(result=result)
    return _accept_path(result, path, Path(os.path.normpath(base / Path(path).expanduser())), home)


def _accept_path(result: Mapping[str, Any], path: str, found: Path, home: Path | None) -> Succeeded | Failed:
    try:
        there = found.exists()
        why = next(_why_not_kept(found, home), None) if there and home is not None else None
    except (OSError, ValueError) as error:  # too long, a NUL in it, no right to look
        return Failed(reason=f"the training's model_path {path!r} cannot be read: {error}")
    if not there:
        return Failed(
            reason=f"the training's model_path {path} does not exist;"
            " for a model stored elsewhere return a URL, such as hf://org/name"
        )
    if why is not None:
        return Failed(reason=f"the training's model_path {path} {why}; write the model to a file or folder of its own")
    return Succeeded(result={**result, "model_path": str(found)})


def _why_not_kept(found: Path, home: Path) -> Iterator[str]:
    """Reasons why what is at `found` will not stay there, whichever way it is reached."""
    for path, folder in ((found, Path(os.path.abspath(home))), (found.resolve(), home.resolve())):
        if not path.is_relative_to(folder.parent):
            continue
        run, *rest = (*path.relative_to(folder.parent).parts, "")
        if run != folder.name:
            if (
                run
                and (folder.parent / run / "manifest.json").exists()
                and (folder.parent / run / "data.jsonl").exists()
            ):
                yield (
                    f"is in the folder of {run}, which failed: that folder is removed after"
                    " store.retention.failed_runs_days"
                )
        elif _is_one_of(rest[0], _LINES):
            yield f"is in {rest[0]} of the run's data: that file is removed after the training"
        elif _is_one_of(rest[0], _PASSING):
            yield f"is in {rest[0]}, a file that Ratchet writes and removes"
        elif not rest[0] and all(_is_one_of(entry.name, _OURS) for entry in path.iterdir()):
            yield "is the run's folder, which has only its data, and that is removed after the training"


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


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
