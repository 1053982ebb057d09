"""Debian's Chromium, driven by Playwright; a page that complains or calls out of this machine fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.harness.require import need

__all__ = ["open_browser", "watched_page"]

_PATIENCE_MS = 120_000
"""Longest wait for anything on a page: a busy machine is no failure."""


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


@contextmanager
def watched_page(browser: Browser, *, color_scheme: str = "light", width: int = 1000) -> Iterator[Page]:
    """A page in a session of its own. At the end: no console error, no exception, no foreign host."""
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            complaints.append(f"a request left the machine: {request.url}")

    context = browser.new_context(color_scheme=color_scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)  # of navigation, too
        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.on("request", on_request)
        yield page
    finally:
        context.close()
    assert not complaints, "\n".join(complaints)
