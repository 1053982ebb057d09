"""What an epoch was begun under, and what of it has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["changes"]

_LONGEST_SHOWN: Final = 30


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """The terms that differ, in words: `ab_test_config.icc is 0.2 (was 0.1)`. A term that one of the two does not know
    has not changed: another version of the program, or of the settings, says nothing of it."""
    return tuple(
        _in_words(name, before[name], value) for name, value in after.items() if before.get(name, value) != value
    )


def _in_words(name: str, before: str, after: str) -> str:
    if max(len(before), len(after)) > _LONGEST_SHOWN:
        return f"{name} has changed"
    return f"{name} is {after} (was {before})"
