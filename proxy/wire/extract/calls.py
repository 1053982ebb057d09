"""Tool calls as their deltas arrive, in the many ways in which servers send them.

By the book a delta names its call by `index`, and the id and the name come once. In the wild the index is missing, or 0
for every call; id and name come with every delta, or another id does; arguments are objects instead of text. So:

* a delta belongs to the call at its index, without one to the call of its id, without both to the last call;
* it begins a new call where its id is a new one and it has a name too (or the call so far has all of its arguments);
  and, where there are no ids to go by, where its name is another one, or the same (at an index: with more arguments)
  after all the arguments have come.

Two deltas with names that come in one list are never of one call, unless index or id say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.wire.extract.values import compact, count, json_in, mapping, text

__all__ = ["Call", "Calls"]

_MAX_LOOKS: Final = 64
"""At the arguments of one call, whether they are whole."""
_MAX_LOOKED_AT: Final = 2 << 20
"""Characters that all calls of one answer are looked at so."""


@dataclass(slots=True)
class _Room:
    """Characters that may still be looked at."""

    left: int = _MAX_LOOKED_AT


class Call:
    """One call. The name comes once (or is repeated), the arguments in pieces, or as an object."""

    __slots__ = ("_looks", "_pieces", "_value", "custom", "id", "index", "kind", "name")

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.kind = "function"
        self.custom = False
        self._pieces: list[str] = []
        self._value: Any = None
        self._looks = 0

    def add(self, said: dict[str, Any], key: str = "arguments") -> None:
        """A function (or custom tool) as a delta has it, its arguments under `key`."""
        self.name = text(said.get("name")) or self.name
        given = said.get(key)
        if isinstance(given, str):
            self._pieces.append(given)
        elif given is not None:
            self._value = given

    @property
    def arguments(self) -> str:
        """What has come of them. Pieces of text win over an object, which is often an empty one that keeps a place."""
        whole = "".join(self._pieces)
        return whole if whole or self._value is None else compact(self._value)

    def is_complete(self, room: _Room) -> bool:
        """Whether the arguments are a whole JSON value; after many looks, or without room for them, they count as never
        ending."""
        if not any(self._pieces):
            return self._value is not None
        self._looks += 1
        if self._looks > _MAX_LOOKS or room.left < 0:
            return False
        room.left -= sum(map(len, self._pieces))
        try:
            orjson.loads("".join(self._pieces).encode("utf-8", "surrogatepass"))
        except orjson.JSONDecodeError:
            return not isinstance(json_in("".join(self._pieces)), str)
        return True

    def as_function(self) -> dict[str, Any]:
        """As an unstreamed message has it."""
        return {"name": self.name, "arguments": self.arguments}

    def as_tool_call(self) -> dict[str, Any]:
        """As an unstreamed message has it in its list; a custom tool's keeps its form."""
        if self.custom:
            return {"id": self.id, "type": "custom", "custom": {"name": self.name, "input": self.arguments}}
        return {"id": self.id, "type": self.kind, "function": self.as_function()}


class Calls:
    """The calls of one message."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._at: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._room = _Room()

    def add(self, deltas: list[Any]) -> None:
        """The `tool_calls` of one delta."""
        touched: set[Call] = set()
        for delta in map(mapping, deltas):
            current = self._at.get(index) if type(index := delta.get("index")) is int else None
            if current is not None and not current.custom and "id" not in delta and "custom" not in delta:
                more = mapping(delta.get("function"))
                if not more.get("name"):
                    touched.add(current)  # nearly every delta
                    current.add(more)
                    continue
            custom = mapping(delta.get("custom"))
            said = custom or mapping(delta.get("function"))
            given = said.get("input" if custom else "arguments")
            call = self._call(delta, text(said.get("name")), touched, more=bool(given))
            touched.add(call)
            if name := text(delta.get("id")):
                call.id = call.id or name
                self._by_id[name] = call
            call.kind = text(delta.get("type")) or call.kind
            if custom or call.kind == "custom":
                call.custom = True
            call.add(said, "input" if custom else "arguments")

    def _call(self, delta: dict[str, Any], name: str | None, touched: set[Call], *, more: bool) -> Call:
        """The call that `delta` goes on with, or a new one."""
        given, index = text(delta.get("id")) or None, count(delta.get("index"))
        if index is not None:
            current = self._at.get(index)
            if current is None and given in self._by_id and not name:
                return self._by_id[given]
            if current is None or self._begins(current, given, name, more=more):
                current = self._at[index] = self._new(index)
            return current
        if given in self._by_id:
            return self._by_id[given]
        last = self._calls[-1] if self._calls else None
        if last is None or (name and last in touched) or self._begins_unnumbered(last, given, name):
            return self._new(last.index + 1 if last else 0)
        return last

    def _new(self, index: int) -> Call:
        self._calls.append(Call(index))
        return self._calls[-1]

    def whole(self) -> list[dict[str, Any]]:
        """All calls, by index and then as they came."""
        return [call.as_tool_call() for call in sorted(self._calls, key=lambda call: call.index)]

    def _begins(self, current: Call, given: str | None, name: str | None, *, more: bool) -> bool:
        """Whether a delta at the index of `current` is the first of another call; `more`: it has arguments."""
        if given is None:
            return bool(name and current.name) and (name != current.name or (more and current.is_complete(self._room)))
        return given != current.id and current.id is not None and (bool(name) or current.is_complete(self._room))

    def _begins_unnumbered(self, last: Call, given: str | None, name: str | None) -> bool:
        """Whether a delta without an index, and without an id that is known, is the first of another call."""
        if given is not None and last.id is not None:
            return bool(name) or last.is_complete(self._room)
        return bool(name and last.name) and (name != last.name or last.is_complete(self._room))
