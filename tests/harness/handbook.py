"""The demo's first model and its rehearsal buffer: made once by a process that tests, copied for each of them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.demo.story import prepare

__all__ = ["prepared"]


def prepared(directory: Path) -> Path:
    """As `proxy.demo.story.prepare`: `directory` with both in it. Returns the model's path."""
    folder, model = _made()
    shutil.copytree(folder.name, directory, dirs_exist_ok=True)
    return directory / model.name


@cache
def _made() -> tuple[TemporaryDirectory[str], Path]:
    """The folder goes with this process."""
    folder = TemporaryDirectory(prefix="handbook-")
    return folder, prepare(Path(folder.name))
