"""Debian's Chromium, driven by Playwright; a page that complains or calls out of this machine fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.harness.require import FULL, need

__all__ = ["VIEWS", "Window", "open_browser", "open_window", "watched_page"]

_PATIENCE_MS = 120_000
"""Longest wait for anything on a page: a busy machine is no failure."""

VIEWS = [("light", 1200), ("dark", 360)]
"""Each colour scheme and each width (in pixels) once; with RATCHET_FULL=1 also the other way round."""
if FULL:
    VIEWS += [("light", 360), ("dark", 1200)]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window. Skips (or fails, see `need`) where there is no Chromium."""
    path = shutil.which("chromium")
    need("chromium", path is not None)
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=_PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


_GIVEN_UP: Final = ("htmx:sendAbort", "htmx:afterRequest")
"""Of a request in whose place another was sent. What fails has a message of its own beside the second."""


class Window:
    """A page in a session of its own, and what it has complained of: a console error, an exception, a foreign host."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._complaints: list[str] = []
        page.set_default_timeout(_PATIENCE_MS)  # of navigation, too
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complaints.append(f"exception: {error}"))
        page.on("request", self._on_request)

    @contextmanager
    def watched(self) -> Iterator[Page]:
        """Its page, which has complained of nothing at the end."""
        self._complaints.clear()
        yield self.page
        assert not self._complaints, "\n".join(self._complaints)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_GIVEN_UP):
            self._complaints.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about", "file") and parts.hostname != "127.0.0.1":
            self._complaints.append(f"a request left the machine: {request.url}")


@contextmanager
def open_window(
    browser: Browser, *, color_scheme: str = "light", width: int = 1000, timezone: str | None = None
) -> Iterator[Window]:
    """A window for several tests: opening one, and reading its scripts anew, costs a second."""
    context = browser.new_context(
        color_scheme=color_scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 800},
        timezone_id=timezone,
    )
    try:
        yield Window(context.new_page())
    finally:
        context.close()


@contextmanager
def watched_page(
    browser: Browser, *, color_scheme: str = "light", width: int = 1000, timezone: str | None = None
) -> Iterator[Page]:
    """A page in a session of its own. At the end: no console error, no exception, no foreign host."""
    opened = open_window(browser, color_scheme=color_scheme, width=width, timezone=timezone)
    with opened as window, window.watched() as page:
        yield page
