"""One story, one admin port and one browser for all console tests: telling the story takes a while."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.harness.chromium import Window, open_browser, open_window
from tests.harness.console_data import Admin, ConsoleStage


@pytest.fixture(scope="package")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("console"))) as admin:
        yield admin


@pytest.fixture(scope="module")  # no longer: Playwright keeps an event loop running in this thread
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Window]:
    with open_window(browser) as window:
        yield window


@pytest.fixture
def page(window: Window) -> Iterator[Page]:
    """The module's page, for a test that goes where it wants to be first."""
    with window.watched() as page:
        yield page
