"""What makes a site of pages that are written for a plain code host: the menu, and links that leave docs/.

The menu is docs/index.md: each heading is a tab, each row of a table a section of it, each link a page. A page of docs/
that is not linked there is named by a warning, and `mkdocs build --strict` refuses it.

Pages link to files beside docs/ (examples, the changelog). They come into the site below repository/, with the files
that they link to; links are made anew on the way, in both directions.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
OUTSIDE: Final = "repository"
"""Where the site has what is not below docs/."""
HOME: Final = {"README.md": "index.md"}
"""The code host's first page and the site's."""
FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
NAMED_LINK: Final = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+\.md|[^)\s#]+)(?:#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the site its menu."""
    config.nav = _menu((DOCS / "index.md").read_text(encoding="utf-8"))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the search's helper, and every file beside docs/ that a page leads to."""
    helper = str(DOCS / "_site/iframe-worker.js")
    files.append(File.generated(config, "assets/iframe-worker.js", abs_src_path=helper))
    todo = sorted(path for path in DOCS.rglob("*.md") if "_site" not in path.parts)
    seen = set(todo)
    while todo:
        page = todo.pop()
        for path in sorted(_linked_files(page) - seen):
            seen.add(path)
            if not path.is_relative_to(DOCS):
                files.append(File.generated(config, _site_uri(path), abs_src_path=str(path)))
                todo += [path] if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    source = Path(page.file.abs_src_path or "")
    here = posixpath.dirname(page.file.src_uri)

    def anew(found: re.Match[str]) -> str:
        start, link, end = found.groups()
        name, hash_, fragment = link.partition("#")
        path = _target(source, name)
        if path is None:
            return found[0]
        return f"{start}{posixpath.relpath(_site_uri(path), here or '.')}{hash_}{fragment}{end}"

    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(anew, markdown[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, LINK.sub(anew, markdown[last:])])


def _target(source: Path, name: str) -> Path | None:
    """The file that a link of `source` leads to; None for another host, and for a place on the same page."""
    if not name or "://" in name or name.startswith("mailto:"):
        return None
    path = (source.parent / name).resolve()
    if path.is_dir() and (path / "README.md").exists():
        path /= "README.md"
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _linked_files(page: Path) -> set[Path]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = {_target(page, link.partition("#")[0]) for _, link, _ in LINK.findall(text)}
    return {path for path in found if path is not None and path.relative_to(ROOT).as_posix() not in HOME}


def _site_uri(path: Path) -> str:
    """Where the site has a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name in HOME:
        return HOME[name]
    return name.removeprefix("docs/") if path.is_relative_to(DOCS) else f"{OUTSIDE}/{name}"


def _menu(index: str) -> list[Any]:
    """Tabs, their sections, and their pages; a page that is linked twice stands where it is linked first."""
    menu: list[Any] = [{"Home": "index.md"}]
    seen = {"index.md"}
    for heading, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", index, re.MULTILINE | re.DOTALL):
        entries: list[Any] = []
        for line in text.splitlines():
            row = re.fullmatch(r"\| ([^|\[\]]+?) \| (.+) \|", line.strip())
            found = {uri: title for title, uri in reversed(_pages(row[2] if row else line)) if uri not in seen}
            seen |= found.keys()
            pages = [{title: uri} for uri, title in reversed(found.items())]
            entries += [{row[1]: pages}] if row and pages else pages
        menu += [{heading: entries}] if entries else []
    return menu


def _pages(text: str) -> list[tuple[str, str]]:
    found = [(title, _target(DOCS / "index.md", name)) for title, name in NAMED_LINK.findall(text)]
    return [(title, _site_uri(path)) for title, path in found if path is not None and path.suffix == ".md"]
