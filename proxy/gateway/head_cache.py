"""Heads that were read before: what follows from a head alone is worked out once and known by the head's bytes.

The clients of a model send the same head again and again; only the number in Content-Length changes with the
body. So a head is looked up with that number cut out of it, and a head that is found costs neither parsing nor
rendering nor JSON. What is found is what the strict parser made of the same bytes, so nothing is read more
leniently here: a head that is not in this memory goes through the parser, always.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import orjson

from policies.rewrite import RequestShape, kind_of
from proxy.gateway.head import RequestHead, ResponseHead, parse_response
from proxy.gateway.outbound import Destination, request_head, response_head
from proxy.gateway.trust import Network, UserTrust
from proxy.users.body_watch import Watch
from proxy.users.sticky import StickyKey, StickySources

__all__ = ["CachedHead", "HeadCache", "KnownResponse", "known_responses"]

_REMEMBERED: Final = 512
_LONGEST_REMEMBERED: Final = 4096
_MOST_DIGITS: Final = 18
_MAYBE_JSON: Final = ("application/json", "text/plain", "application/x-www-form-urlencoded")
_NEVER_JSON: Final = ("audio/", "image/", "video/", "multipart/")
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"))


class _Known:
    """What both kinds of heads have in common: how to know them again."""

    __slots__ = ("_after", "_before", "_seen_after", "_seen_before", "_seen_until", "varies")

    def __init__(self) -> None:
        self.varies = False
        """Whether it is known without the number in Content-Length: then `head.length` is another message's."""
        self._seen_before = self._seen_after = b""
        self._seen_until = 0
        self._before = self._after = b""

    def seen(self, before: bytes, after: bytes, *, varies: bool) -> None:
        """Remember the head's lines before and behind that number; all of them are `before` unless it `varies`."""
        self.varies = varies
        self._seen_before = before if varies else before + b"\r\n\r\n"
        self._seen_after = after + b"\r\n"
        self._seen_until = len(self._seen_before)

    def again(self, data: bytes) -> tuple[int, int | None] | None:
        """If `data` begins with this very head: where its body begins, and the number. None if it does not."""
        if not data.startswith(self._seen_before):
            return None
        start = self._seen_until
        if not self.varies:
            return (start, None) if start else None
        stop = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        number = _plain(data[start:stop]) if stop > 0 else 0
        end = stop + len(self._seen_after)
        return (end, number) if number and data[stop:end] == self._seen_after else None


class CachedHead(_Known):
    """A request head, and what follows from it for routing, forwarding and the record."""

    __slots__ = (
        "_backend",
        "_network",
        "_origin",
        "conversation",
        "facts",
        "head",
        "internal",
        "key",
        "maybe_json",
        "no_train",
        "recorded",
        "unreadable",
    )

    sized = True
    """Whether a Content-Length says how long the body is."""

    def __init__(
        self,
        head: RequestHead,
        *,
        key: StickyKey | None,
        skip_paths: frozenset[bytes],
        no_train_header: bytes,
        conversation: bytes | None = None,
        conversation_hash: int | None = None,
    ) -> None:
        """`key` is the user that the head names, `conversation` the conversation and its keyed hash, if any."""
        super().__init__()
        self.head = head
        self.key = key
        self.conversation = conversation
        self.internal = head.target.startswith(b"/-/")
        """Whether it is for one of our own URLs, which are neither recorded nor counted."""
        self.recorded = not self.internal and head.target.partition(b"?")[0] not in skip_paths
        kind = head.recorded.get("content-type", "application/json").lower()
        self.maybe_json = kind.startswith(_MAYBE_JSON) or "json" in kind
        """Whether the body may name the user or the model."""
        self.unreadable = not self.maybe_json and _might_be_rewritten(head, kind)
        """Whether a rewrite would be for this request, if only its Content-Type were JSON's."""
        facts: dict[str, Any] = {"m": head.method_text, "p": head.target_text, "rh": head.recorded}
        self.no_train = _opted_out(head, no_train_header)
        """Whether the client does not want its words used for anything but the answer."""
        if self.no_train:
            facts["nt"] = True
        if conversation_hash is not None:
            facts["conv"] = conversation_hash
        self.facts = orjson.dumps(facts)[1:-1]
        """Its part of the record: members of a JSON object."""
        self._backend: Destination | None = None
        self._network: Network | None = None
        self._origin = b""

    def watch(self, sticky: StickySources) -> Watch:
        """What reads the body of such a request while it passes, for what the head does not say."""
        recorded = self.head.recorded
        kind, encoding = recorded.get("content-type", ""), recorded.get("content-encoding")
        return sticky.watch(kind, encoding, user_known=self.key is not None)

    def origin(self, trust: UserTrust, network: Network) -> bytes:
        """What the record says of who sent it from `network`: see `UserTrust.facts`."""
        if network is not self._network:
            self._origin = trust.facts(self.head, network)
            self._network = network
        return self._origin

    def opening(self, backend: Destination, length: int | None) -> bytes:
        """The head as it is sent to `backend`, for a body of `length` bytes."""
        if backend is not self._backend:
            self._render(backend)
        if self.varies and length is not None:
            return b"%b%d%b" % (self._before, length, self._after)
        return self._before

    def _render(self, backend: Destination) -> None:
        self._backend = backend
        self._before = rendered = request_head(self.head, backend)
        if self.varies:
            start, number = _number(rendered, len(rendered) - 4)
            self._before, self._after = rendered[:start], rendered[start + len(number) :]


class KnownResponse(_Known):
    """The head of a response, and what follows from it for the client and the record."""

    __slots__ = ("facts", "head", "sized")

    def __init__(self, head: ResponseHead) -> None:
        super().__init__()
        self.head = head
        self.sized = head.status >= 200 and head.status not in (204, 304)
        """As for a CachedHead."""
        self.facts = orjson.dumps(head.recorded)
        """Its part of the record: a JSON object."""

    def opening(self, added: bytes, length: int | None) -> bytes:
        """The head as it is sent to the client, for a body of `length` bytes; `added` are whole lines with CRLF."""
        if not self._before:
            self._render()
        if self.varies and length is not None:
            return b"%b%d%b%b\r\n" % (self._before, length, self._after, added)
        return b"%b%b\r\n" % (self._before, added)

    def _render(self) -> None:
        self._before = rendered = response_head(self.head)[:-2]
        if self.varies:
            start, number = _number(rendered, len(rendered) - 2)
            self._before, self._after = rendered[:start], rendered[start + len(number) :]


Known = TypeVar("Known", CachedHead, KnownResponse)


class HeadCache(Generic[Known]):
    """The memory. `parse(data, end)` reads the head in `data`, whose empty line begins at `end`, and may raise."""

    def __init__(self, parse: Callable[[bytes, int], Known]) -> None:
        self._parse: Callable[[bytes, int], Known] = parse
        self._known: dict[tuple[bytes, bytes], Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def read(self, data: bytes, end: int) -> tuple[Known, int | None]:
        """What is known of the head in `data`, and the length of the body where it is given."""
        start, number = _number(data, end)
        key = (data[:start], data[start + len(number) : end + 2] if number else b"")
        known = self._known.get(key)
        if known is None:
            return self._learn(key, number, data, end)
        return known, int(number) if number else known.head.length

    def _learn(self, key: tuple[bytes, bytes], number: bytes, data: bytes, end: int) -> tuple[Known, int | None]:
        known = self._parse(data, end)
        length = known.head.length
        if end <= _LONGEST_REMEMBERED:
            if number and (not known.sized or b"".join(key).lower().count(b"content-length") > 1):
                return known, length
            known.seen(*key, varies=bool(number))
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known, length


def _number(data: bytes, end: int) -> tuple[int, bytes]:
    """The number in a plainly written Content-Length, behind where it begins in the head; `end`, b"" if there is none.

    A number that is not remembered away (0, or written with zeros before it) stays part of the head.
    """
    at = data.find(b"\r\nContent-Length: ", 0, end)
    if at < 0:
        at = data.find(b"\r\ncontent-length: ", 0, end)
        if at < 0:
            return end, b""
    start = at + 18
    number = data[start : data.find(b"\r", start, end + 1)]
    return (start, number) if len(number) <= _MOST_DIGITS and _plain(number) else (end, b"")


@lru_cache(4096)
def _plain(digits: bytes) -> int:
    """The number that these few digits are, without zeros before it; 0 where they are none. Remembered: as with heads,
    the same come again and again."""
    return int(digits) if digits.isdigit() and digits[0] != 48 else 0


def _opted_out(head: RequestHead, header: bytes) -> bool:
    """Whether the request carries the no-train header with any value but 0 and false."""
    value = head.fields.get(header)
    return value is not None and value.lower() not in (b"0", b"false")


def _might_be_rewritten(head: RequestHead, content_type: str) -> bool:
    """Whether servers that do not look at the Content-Type may take the body for JSON that asks for a text."""
    if head.method in _BODILESS or content_type.startswith(_NEVER_JSON):
        return False
    return kind_of(head.target_text, {}) is not RequestShape.APART


def _parse_answer(data: bytes, end: int) -> KnownResponse:
    return KnownResponse(parse_response(data, end, b"GET"))


known_responses: Final[HeadCache[KnownResponse]] = HeadCache(_parse_answer)
"""For the answers to everything but HEAD. Raises BadResponseError."""
