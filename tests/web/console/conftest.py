"""One story, one admin port and one browser for all console tests: telling the story takes a while."""

from collections.abc import Iterator

import pytest

from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.windows import browser, page, window

__all__ = ["admin", "browser", "page", "window"]


@pytest.fixture(scope="package")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("console"))) as admin:
        yield admin
