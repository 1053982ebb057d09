"""What users and models said, made safe for a terminal: it moves no cursor, changes no colour, turns no line around."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["plain", "printable"]

_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline (a carriage return overwrites its line), marks of writing direction, line
separators, and halves of surrogate pairs, which no terminal can be sent."""


def printable(text: str) -> str:
    r"""`text` with whatever would command the terminal as an escape: `\x1b[2J`, `\u202e`."""
    return _COMMANDS.sub(_escape, text)


def plain(text: str, style: str = "") -> Text:
    """`text` for a table, panel or title of rich's: safe, and nothing in it read as markup."""
    from rich.text import Text

    return Text(printable(text), style=style)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
