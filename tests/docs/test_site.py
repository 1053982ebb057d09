"""The documentation as a site: every link of it leads somewhere, it asks no other host for anything, search needs no
server, and it shows what a plain code host shows of the same pages."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, expect

from tests.harness.chromium import open_browser, open_window
from tests.harness.pages import ROOT

FETCHED = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
"""What a browser fetches by itself, and by which attribute."""
STRUCTURE = {"h1", "h2", "h3", "h4", "li", "tr", "pre", "blockquote", "img"}


@dataclass
class Read(HTMLParser):
    """One page of the site: its anchors, what it links to, what it fetches, and the elements of its text."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)
    classes: set[str] = field(default_factory=set)
    _in_text: bool = False

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.ids |= {known[name] for name in ("id", "name") if name in known}
        self.classes |= set(known.get("class", "").split())
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if known.get(FETCHED.get(tag, "")) and known.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(known[FETCHED[tag]])
        if tag == "article":
            self._in_text = True
        if self._in_text and tag in STRUCTURE:
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._in_text = self._in_text and tag != "article"


def build(directory: Path) -> Path:
    """The site, as `make site` builds it. Not with --quiet: warnings that are not shown are not counted either."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, Read]:
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Read()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_page_is_there(site: Path, read: dict[Path, Read]) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert {path for path in pages if site / path.with_suffix(".html") not in read} == set()
    outside = ["CHANGELOG.html", "CONTRIBUTING.html", "examples/chat/index.html", "config.example.toml"]
    assert [name for name in outside if not (site / "repository" / name).exists()] == []


def test_links_and_anchors_resolve(site: Path, read: dict[Path, Read]) -> None:
    broken = []
    for path, page in read.items():
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.is_file() and target.is_relative_to(site)
            if not there or (parts.fragment and target in read and unquote(parts.fragment) not in read[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site: Path, read: dict[Path, Read]) -> None:
    """Scripts of the theme know two more hosts: one is asked for diagrams, one about a repository that is named."""
    asked = {url for page in read.values() for url in page.fetched if urlsplit(url).netloc}
    assert asked == set()
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^\"')]+", sheets) == []
    assert {"mermaid", "md-source"} & {name for page in read.values() for name in page.classes} == set()


def test_the_same_pages_make_the_same_site(site: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    files = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    _, differ, unread = filecmp.cmpfiles(site, again, files, shallow=False)
    assert (differ, unread) == ([], [])


def plain(page: Path) -> Counter[str]:
    """The elements that a code host makes of a page."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(page.read_text(encoding="utf-8"))
    return Counter(tag for tag in re.findall(r"<(\w+)", html) if tag in STRUCTURE)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT / "docs"))
)
def test_the_site_shows_what_a_code_host_shows(page: Path, site: Path, read: dict[Path, Read]) -> None:
    """The same headings, list items, rows, blocks and pictures: two kinds of Markdown, one reading."""
    built = read[site / page.relative_to(ROOT / "docs").with_suffix(".html")]
    assert built.elements == plain(page)


INDEX = """
## Start

[A](tutorial/quickstart.md) · [Again](tutorial/quickstart.md) · [Elsewhere](https://example.com/a.md)

## How to

| | |
|---|---|
| Run it | [Deploy](how-to/deploy.md#x) · [Chat](../examples/chat/README.md) |
"""


def test_the_index_leads_to_every_page() -> None:
    """The site's menu is made of it; a merge that puts two lines into one leaves pages out."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    menu = load_hooks()._menu(index)
    assert [name for tab in menu for name in tab] == ["Home", "Start", "How to", "Reference", "Explanation", "Project"]
    named = set(re.findall(r"'([\w/.-]+\.md)'", str(menu)))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - named == set(), "link it in docs/index.md"


def test_the_menu_is_made_of_the_index() -> None:
    """A page that is not in it is refused by --strict, as the settings ask."""
    assert load_hooks()._menu(INDEX) == [
        {"Home": "index.md"},
        {"Start": [{"A": "tutorial/quickstart.md"}]},
        {"How to": [{"Run it": [{"Deploy": "how-to/deploy.md"}, {"Chat": "repository/examples/chat/README.md"}]}]},
    ]
    assert "omitted_files: warn" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def load_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/_site/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def test_search_finds_a_term_without_a_server(site: Path, browser: Browser) -> None:
    with open_window(browser, width=1200) as window, window.watched() as page:
        page.goto(f"file://{site}/index.html")
        page.get_by_role("textbox", name="Search").fill("sample ratio mismatch")
        results = page.locator(".md-search-result__item a")
        expect(results.first).to_be_visible()
        results.first.click()
        expect(page.locator("article mark").first).to_be_visible()
