"""Draws the tables of docs/reference/records.md: columns, API shapes and formats, each from its owner.

`python -m tests.harness.records_page` writes them into the page; a test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from policies.formats import FORMATS, Format, Holds
from policies.kinds import Kind
from proxy.store.tables.columns import SHOWN
from proxy.wire.extract import KINDS, SHAPES, Shape

__all__ = ["PAGE", "columns", "format_row", "formats", "kinds", "replaced"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "records.md"
_COLUMNS: Final = re.compile(r"(?<=\n)(\| `created_at` \|[^\n]*\n).*?(?=\| `query`)", re.DOTALL)
_KINDS: Final = "| kind | what it is | recognised by | may train | operation |\n|---|---|---|---|---|\n"
_FORMATS: Final = "| `format_type` | a line | read by | holds | `check --for` |\n|---|---|---|---|---|\n"


def columns() -> str:
    """The rows of the columns of a record that are shown."""
    return "".join(f"| `{name}` | {column.text} |\n" for name, column in SHOWN)


def kinds() -> str:
    """The rows of the table of kinds."""
    return "".join(
        f"| `{kind.name}` | {kind.meaning} | {_recognised_by(kind)} | {'yes' if kind.trainable else 'no'}"
        f" | {f'`{kind.operation}`' if kind.operation else '–'} |\n"
        for kind in KINDS.values()
    )


def _recognised_by(kind: Kind) -> str:
    return kind.recognised_by or "; ".join(_served(shape) for shape in SHAPES if shape.kind == kind)


def _served(shape: Shape) -> str:
    paths = ", ".join(f"`…{suffix}`" for suffix in shape.suffixes)
    return f"{shape.name}: {paths}"


def formats() -> str:
    """The rows of the table of formats."""
    return "".join(map(format_row, FORMATS.values()))


def format_row(form: Format) -> str:
    """What the page says of a format."""
    held = ", ".join(item.value for item in Holds if item in form.holds) or "text"
    return f"| `{form.name}` | `{form.line}` | {form.meaning} | {held} | {', '.join(sorted(form.consumers))} |\n"


def replaced(page: str) -> str:
    """`page` with the tables as they are."""
    page = _COLUMNS.sub(lambda found: found[1] + columns(), page, count=1)
    for head, rows in ((_KINDS, kinds()), (_FORMATS, formats())):
        before, found, rest = page.partition(head)
        page = before + found + rows + "\n" + rest.partition("\n\n")[2]
    return _COLUMNS.sub(lambda found: found[1] + columns(), page, count=1)


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
