"""What every example needs: a model, and Ratchet in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.programs import EXAMPLES, program
from tests.harness.serve import RatchetProcess
from tests.harness.windows import browser, page, window

__all__ = ["browser", "eliza", "page", "ratchet", "window"]


@pytest.fixture(scope="session")
def eliza() -> Iterator[str]:
    """URL of the model that comes with the examples."""
    with program(EXAMPLES / "chat/eliza.py", "0", says=r"listens on (\S+)") as found:
        yield found


@pytest.fixture(scope="module")
def ratchet(eliza: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RatchetProcess]:
    """`ratchet serve` in front of it, fresh for each example."""
    directory: Path = tmp_path_factory.mktemp("ratchet")
    with RatchetProcess(directory, champion=eliza) as process:
        process.await_admin()
        yield process
