"""One story, one admin port and one browser for all console tests: telling the story takes a while."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.harness.chromium import open_browser
from tests.harness.console_data import Admin, ConsoleStage


@pytest.fixture(scope="package")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("console"))) as admin:
        yield admin


@pytest.fixture(scope="module")  # no longer: Playwright keeps an event loop running in this thread
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser
