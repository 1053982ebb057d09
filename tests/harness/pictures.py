"""Make the console's pictures in docs/images anew: `python -m tests.harness.pictures [NAME …]`.

After a change that shows. The story, the keys, the clocks of server and browser, the time zone and the sizes are always
the same: the same code makes the same pictures, so that what changes in them is what has changed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from proxy.ids import create_ring
from tests.harness.chromium import open_browser, watched_page
from tests.harness.console_data import Admin, ConsoleStage

_IMAGES = Path(__file__).parents[2] / "docs/images"
_COLOURS = 256
_KEYS = {"pepper": "5a" * 32, "signing": [{"id": 1, "key": "a5" * 32}]}
_ZONE = "Europe/Berlin"
_SINCE_S = 40
"""How long ago the story has ended when a picture is taken."""


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    path: str
    height: int
    width: int = 1100
    dark: bool = False
    link: str = ""
    """A link of this name is followed before the picture is taken, "first" being the first of the table, "data" the
    dataset of that."""


_PICTURES = (
    _Picture("now", "/", 820),
    _Picture("side-by-side", "/checks/1/side-by-side?who=ann&tag=returns", 900),
    _Picture("experiment", "/experiment", 900),
    _Picture("traffic", "/traffic?range=24h", 900, dark=True),
    _Picture("record", "/records?feedback=any", 900, dark=True, link="first"),
    _Picture("history", "/history", 700),
    _Picture("dataset", "/runs", 1000, link="data"),
    _Picture("decision", "/history", 900, link="Decide for the challenger"),
    _Picture("phone-records", "/records", 844, width=390),
)


def _take(page: Page, name: str) -> None:
    with Image.open(BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
            _IMAGES / f"console-{name}.png", optimize=True
        )


@contextmanager
def _reader(admin: Admin, browser: Browser, picture: _Picture) -> Iterator[Page]:
    """A page of the right size, whose clock stands still."""
    scheme = "dark" if picture.dark else "light"
    with watched_page(browser, color_scheme=scheme, width=picture.width, timezone=_ZONE) as page:
        page.set_viewport_size({"width": picture.width, "height": picture.height})
        page.clock.set_fixed_time(datetime.fromtimestamp(admin.stage.ends_at + _SINCE_S, UTC))
        yield page


def _photograph(picture: _Picture, admin: Admin, browser: Browser) -> None:
    with _reader(admin, browser, picture) as page:
        page.goto(admin.url + picture.path)
        if picture.link:
            found = page.get_by_role("link", name=picture.link)
            (page.locator("table.rows tbody a") if picture.link in ("first", "data") else found).first.click()
            page.wait_for_load_state()
        if picture.link == "data":
            page.get_by_role("link", name="Look at the data").click()
            page.wait_for_load_state()
        expect(page.locator("figure[data-src] canvas")).to_have_count(page.locator("figure[data-src]").count())
        _take(page, picture.name)


def _photograph_an_order(admin: Admin, browser: Browser) -> None:
    with _reader(admin, browser, _Picture("order", "/", 800)) as page:
        page.goto(admin.url)
        page.get_by_role("button", name="Change the share").click()
        page.get_by_label("Share of the users").fill("50")
        page.get_by_label("Why").fill("Sooner a decision: the campaign starts on Friday")
        page.get_by_label("Who you are").fill("ann")
        _take(page, "order")


def main() -> None:
    """Tell the console tests' story, and take a picture of each page, or of those that are named."""
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory, open_browser() as browser:
        create_ring(Path(directory) / "keys.json", _KEYS)
        with Admin(ConsoleStage(Path(directory))) as admin:
            for picture in _PICTURES:
                if not wanted or picture.name in wanted:
                    _photograph(picture, admin, browser)
            if not wanted or "order" in wanted:
                _photograph_an_order(admin, browser)


if __name__ == "__main__":
    main()
