"""How long a training file is in tokens: by the model's own tokenizer where there is one, else by characters.

A number to plan with, not to pay by: what a chat template adds around every message is not counted, and neither are
pictures and sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["BY_CHARACTERS", "TokenCount", "characters"]

BY_CHARACTERS: Final = "characters / 4"
_NO_WORDS = frozenset(("role", "type", "id", "tool_call_id", "url", "data", "file_data", "file_id", "format", "detail"))
"""Keys whose texts a model does not read, or not as text."""


def characters(content: Any) -> int:
    """Characters of all texts in a line."""
    total, parts = 0, [content]
    for part in parts:  # which grows
        if isinstance(part, str):
            total += len(part)
        elif isinstance(part, dict):
            parts += [value for key, value in part.items() if key not in _NO_WORDS]
        elif isinstance(part, list | tuple):
            parts += part
    return total


class TokenCount:
    """Adds lines up."""

    def __init__(self, tokenizer: str | None) -> None:
        """`tokenizer` is a tokenizer.json, or a folder with one; None counts characters."""
        self._count, self.by = _counting(tokenizer)
        """The latter: how it is counted, in words."""
        self._total = 0

    @property
    def exact(self) -> bool:
        """Whether a tokenizer counts."""
        return self._count is not None

    def add(self, line: bytes) -> None:
        """Count a line of the file."""
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError:  # nested too deep
            self._total += len(line) if self._count is None else len(line) // 4
            return
        if self._count is None:
            self._total += characters(content)
        else:
            self._total += sum(map(self._count, _texts(content)))

    def add_characters(self, count: int) -> None:
        """Count a line whose characters are known already, where they are what counts."""
        self._total += count

    @property
    def tokens(self) -> int:
        """So far."""
        return self._total if self._count is not None else self._total // 4


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            if key not in _NO_WORDS:
                yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)


def _counting(tokenizer: str | None) -> tuple[Callable[[str], int] | None, str]:
    """A text's number of tokens, where it can be told, and how the file is counted, in words."""
    if tokenizer is None:
        return None, BY_CHARACTERS
    path = Path(tokenizer).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        library: Any = import_module("tokenizers")
    except ImportError:
        return None, f"{BY_CHARACTERS}, for the library tokenizers is not installed"
    try:
        made = library.Tokenizer.from_file(str(path))
    except Exception as exc:  # noqa: BLE001 - the library raises nothing more special
        return None, f"{BY_CHARACTERS}, for {path} cannot be read ({exc})"
    return lambda text: len(made.encode(text, add_special_tokens=False).ids), f"tokenizer {path}"
