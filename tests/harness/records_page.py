"""Draws the table of kinds in docs/reference/records.md from `proxy.wire.extract`, which owns them.

`python -m tests.harness.records_page` writes it into the page; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from policies.kinds import Kind
from proxy.wire.extract import KINDS, SHAPES, Shape

__all__ = ["PAGE", "kinds", "replaced"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "records.md"
_KINDS: Final = "| kind | what it is | recognised by | may train | operation |\n|---|---|---|---|---|\n"


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


def replaced(page: str) -> str:
    """`page` with the table as it is."""
    before, head, rest = page.partition(_KINDS)
    return before + head + kinds() + "\n" + rest.partition("\n\n")[2]


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
