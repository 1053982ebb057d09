"""Fixtures of tests that look at pages: a browser and a window for all tests of a file. A conftest imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.harness.chromium import Window, open_browser, open_window

__all__ = ["browser", "page", "window"]


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
