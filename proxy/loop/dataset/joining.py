"""Conversations that the provider keeps, put together again from the log.

A Responses request may send only what is new, and name the answer that it goes on from. The earlier part is taken from
the record of that answer, and so on to the beginning. By the API's rules its instructions and its tools do not go over.
All of it must be there, whole, and of the same user: else the context is elsewhere. Who asked not to be trained on is
not, through somebody else's turn either.

Whoever reads newest first meets a chain's last part first, and then each of the others: what was looked up is kept for
a while, so that a chain of n parts costs n reads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

from policies.conversation import Conversation, Lack, Turn
from policies.kinds import Kind
from policies.records import Sample
from proxy.loop.dataset.reading import conversation_of, provider_id_of
from proxy.store.earlier import Earlier

__all__ = ["AnswerSource", "Joining"]

_MOST_LINKS: Final = 100
"""Parts of a chain; a longer one counts as being elsewhere."""
_KEPT_BYTES: Final = 32 << 20
"""Of the exchanges that are remembered; a build has 256 MiB."""
_KEY_BYTES: Final = 512
"""Of what is remembered beside them."""
_NAMED: Final = b"previous_response_id"
_LOST: Final = frozenset({Lack.CONTEXT_ELSEWHERE, Lack.TRUNCATED, Lack.UNREAD})


@runtime_checkable
class AnswerSource(Protocol):
    """The part of the store that finds earlier answers. What has it not (an archive) is asked for none."""

    async def earlier(self, provider_id: str) -> tuple[Earlier, ...]:
        """Exchanges whose answer may have this id, newest first."""
        ...

    async def names_user(self, record_id: str) -> bool:
        """Whether this record's key is a user."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """An earlier part, as it is remembered."""

    said: Conversation
    user: int | None
    names_user: bool
    trainable: bool
    bytes: int


class Joining:
    """Joins the conversations of one build, batch by batch."""

    def __init__(self, store: object) -> None:
        """Of a `store` that is no AnswerSource nothing is joined."""
        self._store = store if isinstance(store, AnswerSource) else None
        self._links: OrderedDict[str, _Link | None] = OrderedDict()
        self._bytes = 0

    async def join(self, batch: list[Sample]) -> list[Sample]:
        """The batch, with the conversations of those that go on from another."""
        if self._store is None or not any(map(_goes_on, batch)):
            return batch
        return [await self._joined(sample, self._store) if _goes_on(sample) else sample for sample in batch]

    async def _joined(self, sample: Sample, store: AnswerSource) -> Sample:
        said = await asyncio.to_thread(conversation_of, sample)
        if said.goes_on_from is None or said.lacks is not None:
            return replace(sample, conversation=said)
        links: list[_Link] = []
        wanted: str | None = said.goes_on_from
        while wanted is not None:
            link = await self._link(wanted, store) if len(links) < _MOST_LINKS else None
            if link is None or not await _same_user(sample, link, store):
                said.lacks = Lack.CONTEXT_ELSEWHERE
                return replace(sample, conversation=said)
            if not link.trainable:
                return replace(sample, conversation=said, trainable=False)
            links.append(link)
            wanted = link.said.goes_on_from
        return replace(sample, conversation=_together(said, [link.said for link in reversed(links)]))

    async def _link(self, name: str, store: AnswerSource) -> _Link | None:
        """The part whose answer has that id; None where it is not at hand."""
        if name in self._links:
            self._links.move_to_end(name)
            return self._links[name]
        found = await store.earlier(name)
        link = self._links[name] = await asyncio.to_thread(_read, name, found)
        self._bytes += _size(link)
        while self._bytes > _KEPT_BYTES and len(self._links) > 1:
            _, gone = self._links.popitem(last=False)
            self._bytes -= _size(gone)
        return link


def _size(link: _Link | None) -> int:
    return _KEY_BYTES if link is None else _KEY_BYTES + link.bytes


def _goes_on(sample: Sample) -> bool:
    exchange = sample.exchange
    return exchange.kind == Kind.RESPONSES and sample.conversation is None and _NAMED in exchange.request


def _read(name: str, found: Sequence[Earlier]) -> _Link | None:
    """The newest of these whose answer really has that id, if it is whole."""
    for one in found:
        exchange = one.sample.exchange
        if exchange.kind != Kind.RESPONSES or provider_id_of(exchange) != name:
            continue
        said = conversation_of(one.sample)
        if not one.whole or said.lacks in _LOST:
            return None
        return _Link(
            said=said,
            user=one.sample.user,
            names_user=one.names_user,
            trainable=one.sample.trainable,
            bytes=len(exchange.request) + len(exchange.response),
        )
    return None


async def _same_user(sample: Sample, link: _Link, store: AnswerSource) -> bool:
    """Whether both are one user's. Keys that stand in for a user prove nothing: the provider knew that id by whom it
    belongs to."""
    if sample.user == link.user:
        return True
    return not link.names_user and not await store.names_user(sample.record_id)


def _together(said: Conversation, earlier: Sequence[Conversation]) -> Conversation:
    """What was said before, oldest first, then what is new; instructions are those of the last request alone."""
    turns: list[Turn] = []
    for before in earlier:
        turns += before.turns[before.instructed :]
        malformed = before.lacks is Lack.MALFORMED
        if not before.answer.empty:
            turns.append(replace(before.answer, taught=False) if malformed else before.answer)
    turns += said.turns[said.instructed :]
    lacks = (before.lacks for before in earlier if before.lacks not in (None, Lack.MALFORMED))
    return replace(
        said,
        turns=(*said.turns[: said.instructed], *_named(turns)),
        lacks=next(lacks, None),
        goes_on_from=None,
    )


def _named(turns: Sequence[Turn]) -> list[Turn]:
    """The turns, in which results know the tool whose call stands in an earlier part."""
    names = {call.id: call.name for turn in turns for call in turn.calls}
    return [
        replace(turn, name=names[turn.call_id])
        if turn.role == "tool" and turn.name is None and turn.call_id in names
        else turn
        for turn in turns
    ]
