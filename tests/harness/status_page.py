"""Writes what docs/reference/http.md says of the status document, and its JSON schema, from `proxy.status`.

`python -m tests.harness.status_page` writes both; a test compares them with what would be written now.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from proxy.config.document import describe
from proxy.status import PhaseStatus, Status, TrafficStatus, status_schema

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "http.md"
SCHEMA: Final = PAGE.parent / "status.schema.json"
_BEGIN: Final = "### The status document\n"
_END: Final = "### Filters of `/api/records`\n"


def section() -> str:
    """The part of the page."""
    nested = {"phase": PhaseStatus, "traffic": TrafficStatus}
    rows: list[str] = []
    for name, meaning in describe(Status).items():
        parts = (
            [f"`{part}`: {_inline(about)}" for part, about in describe(nested[name]).items()] if name in nested else []
        )
        rows.append(f"| `{name}` | {meaning}{' ' + '; '.join(parts) + '.' if parts else ''} |")
    return "\n".join(
        [
            _BEGIN,
            "Instants are Unix seconds, shares 0 to 1; `null` is unknown. The JSON schema of all of it is in",
            "[status.schema.json](status.schema.json).",
            "",
            "| field | meaning |",
            "|---|---|",
            *rows,
            "",
            "",
        ]
    )


def render(page: str) -> str:
    """`page` with the section as it should be."""
    before, _, rest = page.partition(_BEGIN)
    if not rest:
        before, _, rest = page.partition(_END)
        return before + section() + _END + rest
    return before + section() + _END + rest.partition(_END)[2]


def schema() -> str:
    """The text of the schema's file."""
    return json.dumps(status_schema(), indent=1, ensure_ascii=False) + "\n"


def _inline(text: str) -> str:
    return text[:1].lower() + text[1:].removesuffix(".")


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
