"""Pictures on pages: each is there, each is shown somewhere, and those of the console are made by a script."""

from __future__ import annotations

import re

from tests.harness import pictures
from tests.harness.pages import ROOT, pages

IMAGES = ROOT / "docs/images"
ON_DISK = {path.name for path in IMAGES.iterdir()}


def shown() -> dict[str, str]:
    """Each picture on a page, with its text for who cannot see it."""
    found = {}
    for page in pages():
        for text, link in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if (target := (page.parent / link).resolve()).is_relative_to(IMAGES):
                found[target.name] = text
    return found


def test_every_picture_is_shown_and_every_shown_one_is_there() -> None:
    assert shown().keys() == ON_DISK


def test_every_picture_says_what_it_shows() -> None:
    assert [name for name, text in shown().items() if not text.strip()] == []


def test_the_pictures_of_the_console_are_made_by_the_script() -> None:
    made = {f"console-{picture.name}.png" for picture in pictures._PICTURES} | {"console-order.png"}
    assert {name for name in ON_DISK if name.startswith("console-")} == made
