"""Secrets that stand inside of other settings: a key among the words of a command, a password in a URL.

A secret has a setting of its own, which is masked whole. But people write keys where a program takes them, and what is
shown of their settings is kept in the store and read by others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["MASK", "without_secrets"]

MASK: Final = "***"
_NAME: Final = (
    r"(?:[\w.\-]*[_.\-])?(?:api)?(?:keys?|tokens?|secrets?|passwords?|passwd|passphrase|credentials?|authorization)"
)
"""`api_key`, `--hf-token`, `AWS_SECRET`: the last word of a name tells; `key_file` and `tokenizer` are none."""
_NUMBER: Final = r"(?!(?:\d+(?:\.\d+)?|true|false)\b)"
"""What no secret is: `max_tokens` has one."""
_FLAG: Final = re.compile(rf"--?{_NAME}", re.I)
_WITHIN: Final = (
    re.compile(rf"((?<![\w.\-]){_NAME}=){_NUMBER}[^\s&#'\"]+", re.I),
    re.compile(rf"((?:^|\s)--?{_NAME}\s+){_NUMBER}(?!-)[^\s'\"]+", re.I),
    re.compile(rf"(\"{_NAME}\"\s*:\s*\"){_NUMBER}[^\"]+", re.I),
    re.compile(r"(\b(?:bearer|basic)\s+)[^\s\"']+", re.I),
    re.compile(r"(://)[^/?#@\s]+(?=@)"),
)


def without_secrets(value: Any) -> Any:
    """`value`, plain data, with what looks like a secret in it masked."""
    if isinstance(value, str):
        for secret in _WITHIN:
            value = secret.sub(rf"\g<1>{MASK}", value)
        return value
    if isinstance(value, Mapping):
        return {name: _given(re.fullmatch(_NAME, name, re.I), one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_words(value))
    return value


def _words(words: Sequence[Any]) -> list[Any]:
    """`--api-key X` loses its X, where these are two words."""
    before: list[Any] = ["", *words]
    return [
        _given(isinstance(flag, str) and _FLAG.fullmatch(flag), word) for flag, word in zip(before, words, strict=False)
    ]


def _given(secret: object, value: Any) -> Any:
    """What stands behind a name that is that of a `secret`."""
    if secret and isinstance(value, str) and re.match(rf"{_NUMBER}(?!--?\w)\S", value, re.I):
        return MASK
    return without_secrets(value)
