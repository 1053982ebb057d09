"""Rewrite the body of a request for a model that is to be asked otherwise (`policies.rewrite`).

What the rewrite does not touch keeps its bytes: numbers, escapes, order and all. Only the fields that it changes are
parsed, of turns just the first level; everything else is stepped over, a millisecond for a megabyte, so that this may
be done where nothing may wait. What could take longer is not done at all (`proxy.wire.rewritable`), in either arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from policies.rewrite import RequestShape, Rewrite, apply, kind_of, lacks, opened_fields

__all__ = ["Rewriter"]

_object: Final[Callable[[bytes], dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_turns: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | str | int | float | bool | None]).decode
_BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeError)


class Rewriter:
    """A rewrite, ready for the bodies of one model's requests."""

    __slots__ = ("_fields", "_rewrite", "_turns")

    def __init__(self, rewrite: Mapping[str, Any]) -> None:
        """Raises `policies.rewrite.RewriteError`."""
        self._rewrite = Rewrite.of(rewrite)
        self._turns, self._fields = opened_fields(self._rewrite)

    def lacks(self, target: str, body: bytes) -> tuple[str, ...]:
        """What of the rewrite this request has no place for, a sentence each."""
        try:
            return lacks(self._rewrite, kind_of(target, _object(body)))
        except _BROKEN:
            return ("the body is no JSON object, so nothing of it is rewritten",)

    def body(self, target: str, body: bytes) -> bytes:
        """The body as the model is to see it, `target` being its path; as it is where it is no JSON object, or says
        nothing that could be asked otherwise."""
        try:
            document = _object(body)
            kind = kind_of(target, document)
            if kind is RequestShape.APART:
                return body
            return msgspec.json.encode(apply(self._rewrite, self._opened(document), kind))
        except _BROKEN:  # whoever reads it in earnest will say so
            return body

    def _opened(self, document: dict[str, msgspec.Raw]) -> dict[str, Any]:
        """The document, in which the fields that the rewrite looks into are parsed."""
        opened: dict[str, Any] = dict(document)
        for name in self._turns & document.keys():
            opened[name] = _opened_turns(document[name])
        for name in self._fields & document.keys():
            opened[name] = msgspec.json.decode(document[name])
        return opened


def _opened_turns(value: msgspec.Raw) -> Any:
    """Turns whose roles can be read, and whose contents, where they are the system's."""
    if bytes(memoryview(value)[:1]) != b"[":  # a text, as a rule
        return msgspec.json.decode(value)
    turns: list[Any] = _turns(value)
    for turn in turns:
        if isinstance(turn, dict) and "role" in turn:
            turn["role"] = msgspec.json.decode(turn["role"])
            if turn["role"] in ("system", "developer") and "content" in turn:
                turn["content"] = msgspec.json.decode(turn["content"])
    return turns
