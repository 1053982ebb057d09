"""Requests and answers that a stranger can make without any credential, and that cost whoever reads them: bodies that
are small on the wire and millions of values in memory, codings within codings, floods of events, marks and members.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import brotli
import orjson
import zstandard

__all__ = ["Hostile", "hostile_answers", "hostile_requests", "raw_deflate"]

_MIB = 1 << 20


class Hostile(NamedTuple):
    """A body with its headers."""

    name: str
    body: bytes
    content_type: str = "application/json"
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": self.content_type} | ({"content-encoding": self.encoding} if self.encoding else {})


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=-15)
    return stream.compress(data) + stream.flush()


def _filled(head: bytes, unit: bytes, tail: bytes, size: int = 8 * _MIB) -> bytes:
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


_PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 9),
    "br": lambda data: brotli.compress(data, quality=3),
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
    "deflate": raw_deflate,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "gzip, gzip, gzip": lambda data: gzip.compress(gzip.compress(gzip.compress(data))),
}
_EVENT = b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}}]}\n\n'


def _said(text: str) -> bytes:
    return orjson.dumps({
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}],
    })  # fmt: skip


@cache
def _bombs() -> tuple[Hostile, ...]:
    bomb = _filled(b'{"messages":[[]', b",[]", b"]}")
    return tuple(Hostile(f"lists, {name}", pack(bomb), encoding=name) for name, pack in _PACKED.items())


@cache
def hostile_requests() -> tuple[Hostile, ...]:
    """What clients send."""
    members = b",".join(b'"%d":0' % n for n in range(24_000))
    messages = _filled(b'{"messages":[0', b',{"role":"user"}', b"]}", 3 * _MIB)
    return (
        *_bombs(),
        Hostile("1101 codings", raw_deflate(b"a" * 8 * _MIB), encoding=", ".join(["deflate"] * 1101)),
        Hostile("a gigabyte", gzip.compress(bytes(64 * _MIB)), encoding="gzip"),
        Hostile("objects", gzip.compress(_filled(b'{"messages":[{}', b',{"a":{}}', b"]}")), encoding="gzip"),
        Hostile("messages", gzip.compress(messages), encoding="gzip"),
        Hostile("members", b"{" + members + b"}"),
        Hostile("depth", b'{"messages":' + b"[" * 200_000),
        Hostile("digits", b'{"messages":[' + b"9" * 200_000 + b"]}"),
        Hostile("marks", gzip.compress(_said("```\n" + "<tool_call>\n" * 60_000)), encoding="gzip"),
        Hostile("thoughts", gzip.compress(_said("a<think>\n" * 80_000)), encoding="gzip"),
        Hostile("stray bytes", b'{"messages":["' + b"\xe9a" * 100_000),
    )


@cache
def hostile_answers() -> tuple[Hostile, ...]:
    """What models' servers answer."""
    return (
        *_bombs(),
        Hostile("calls without an end", gzip.compress(_EVENT * 90_000), "text/event-stream", "gzip"),
        Hostile("lines", gzip.compress(b"data:\n" * 1_000_000), "text/event-stream", "gzip"),
        Hostile("broken events", b'data: {"a\n\n' * 80_000, "text/event-stream"),
        Hostile("choices", gzip.compress(_filled(b'{"choices":[0', b",{}", b"]}")), encoding="gzip"),
    )
