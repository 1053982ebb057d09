"""Writes the rows of a record's columns into docs/reference/records.md, from `proxy.store.tables.columns`.

`python -m tests.harness.records_page` writes them; a test compares them with the table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from proxy.store.tables.columns import SHOWN

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "records.md"
_ROWS: Final = re.compile(r"(?<=\n)(\| `created_at` \|[^\n]*\n).*?(?=\| `query`)", re.DOTALL)


def render(page: str) -> str:
    """The page, with a row for each column that is shown."""
    rows = "".join(f"| `{name}` | {column.text} |\n" for name, column in SHOWN)
    return _ROWS.sub(lambda found: found[1] + rows, page, count=1)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
