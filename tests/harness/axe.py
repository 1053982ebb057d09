"""axe-core in a page: what a screen reader, a keyboard or weak eyes stumble over, as far as a machine can tell."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from playwright.sync_api import Page

__all__ = ["barriers", "unfold"]

_MORE_OF_THE_SAME: Final = "figure details tbody tr:nth-child(n+9)"
"""Rows of a chart's table, which one loop makes of numbers: what the first eight have not got, none has."""
_RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def unfold(page: Page) -> None:
    """Show everything that a reader may unfold in the page's own part."""
    page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")


def barriers(page: Page) -> list[str]:
    """One line per violation: the rule, how bad, where, and what would mend it."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    where = {"include": [["html"]], "exclude": [[_MORE_OF_THE_SAME]]}
    how = {"runOnly": list(_RULES), "resultTypes": ["violations"]}
    found: dict[str, Any] = page.evaluate("([where, how]) => axe.run(where, how)", [where, how])
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:120]} — {' '.join(node['failureSummary'].split())}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
