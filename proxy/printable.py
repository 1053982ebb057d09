"""What users, models and their servers said, made safe for a terminal: it moves no cursor, changes no colour, turns no
line around, and hides nothing.

Everything that a person reads in a terminal goes through here on its way out, the command line's words (`proxy.cli`)
and the processes' logs (`proxy.app.logs`) alike. The escapes are those of Python's string literals; in JSON they are
JSON's own, so that a program reads the text as it was.
"""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["PrintableFormatter", "json_printable", "one_direction", "printable"]

_COMMANDS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Control characters but tab and newline (a carriage return overwrites its line), marks of writing direction, what has
no width, separators of lines and paragraphs, tags, and halves of surrogate pairs, which no terminal can be sent."""

_TURNS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates of writing direction."""


def printable(text: str) -> str:
    r"""`text` with whatever would command the terminal, or hide in it, as an escape: `\x1b[2J`, `\u202e`."""
    return _COMMANDS.sub(_escape, text)


def json_printable(document: str) -> str:
    r"""A JSON `document` that means the same and can be printed: JSON itself escapes no more than C0 (`\u001b`)."""
    return _COMMANDS.sub(_json_escape, document)


def one_direction(text: str) -> str:
    r"""`text` for a page of HTML, with what turns a line around as an escape (`\u202e`). Arabic and Hebrew need none of
    these characters; the marks that they use stay."""
    return _TURNS.sub(_escape, text)


class PrintableFormatter(logging.Formatter):
    """A log's lines, safe for a terminal; what an entry says on further lines is indented, so that none passes for an
    entry of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry, exception included."""
        return printable(super().format(record)).replace("\n", "\n    ")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + ((code - 0x10000) >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
