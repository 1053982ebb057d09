"""Conversations that the provider keeps, put together again from the log.

A Responses request may send only what is new, and name the answer that it goes on from. The earlier part is taken from
the record of that answer, and so on to the beginning. By the API's rules its instructions and its tools do not go over.
All of it must be there, whole, and of the same user: else the context is elsewhere. Who asked not to be trained on is
not, through somebody else's turn either.

Whoever reads newest first meets a chain's last part first, and then each of the others: what was looked up is kept for
a while, so that a chain of n parts costs n reads; and what a batch needs is looked up together.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

from policies.conversation import Conversation, Lack, Turn
from policies.records import Sample
from proxy.loop.dataset.reading import conversation_of, provider_id_of
from proxy.store.reading.earlier import Earlier
from proxy.wire.extract.apis.responses import KIND as RESPONSES

__all__ = ["AnswerSource", "Joining"]

_MOST_LINKS: Final = 100
"""Parts of a chain; a longer one counts as being elsewhere."""
_AT_ONCE: Final = 50
"""Samples that are looked up together."""
_KEPT_BYTES: Final = 32 << 20
"""Of the exchanges that are remembered; a build has 256 MiB."""
_KEY_BYTES: Final = 512
"""Of what is remembered beside them."""
_NAMED: Final = b"previous_response_id"
_LOST: Final = frozenset({Lack.CONTEXT_ELSEWHERE, Lack.TRUNCATED, Lack.UNREAD})


@runtime_checkable
class AnswerSource(Protocol):
    """The part of the store that finds earlier answers. What has it not (an archive) is asked for none."""

    async def earlier(self, provider_ids: Sequence[str]) -> Mapping[str, tuple[Earlier, ...]]:
        """Exchanges whose answers may have these ids, newest first."""
        ...

    async def name_users(self, record_ids: Sequence[str]) -> set[str]:
        """Those of the records whose key is a user."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """An earlier part, as it is remembered."""

    record_id: str
    whole: bool
    """All of it is at hand."""
    said: Conversation
    user: int | None
    names_user: bool
    trainable: bool
    bytes: int

    @property
    def after(self) -> str | None:
        """What has to be known, too."""
        return self.said.goes_on_from if self.trainable and self.whole else None


_Links = tuple[_Link, ...]
"""Those whose answers have one id, newest first: nobody goes on from what came later. One as a rule."""


class Joining:
    """Joins the conversations of one build, batch by batch."""

    def __init__(self, store: object) -> None:
        """Of a `store` that is no AnswerSource nothing is joined."""
        self._store = store if isinstance(store, AnswerSource) else None
        self._links: OrderedDict[str, _Links] = OrderedDict()
        self._bytes = 0

    async def join(self, batch: list[Sample]) -> list[Sample]:
        """The batch, with the conversations of those that go on from another."""
        places = [place for place, sample in enumerate(batch) if _goes_on(sample)]
        if self._store is None or not places:
            return batch
        joined = list(batch)
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            for place, sample in zip(some, await self._some([batch[at] for at in some], self._store), strict=True):
                joined[place] = sample
        return joined

    async def _some(self, samples: list[Sample], store: AnswerSource) -> list[Sample]:
        """As many as are looked up at once: a query a generation, of which most are known already."""
        read = await asyncio.to_thread(lambda: [replace(one, conversation=conversation_of(one)) for one in samples])
        wanted = [said.goes_on_from for one in read if (said := one.said).lacks is None]
        known: dict[str, _Links] = {}
        for _ in range(_MOST_LINKS):
            names = {name for name in wanted if name is not None and name not in known}
            if not names:
                break
            known |= await self._known(names, store)
            wanted = [link.after for name in names for link in known[name]]
        users = await store.name_users([one.record_id for one in read])
        return await asyncio.to_thread(lambda: [_joined(one, known, one.record_id in users) for one in read])

    async def _known(self, names: set[str], store: AnswerSource) -> dict[str, _Links]:
        """The parts whose answers have these ids."""
        links = {name: self._links[name] for name in names if name in self._links}
        for name in links:
            self._links.move_to_end(name)
        if asked := sorted(names - links.keys()):
            found = await store.earlier(asked)
            new = await asyncio.to_thread(lambda: {name: _read(name, found.get(name, ())) for name in asked})
            links |= new
            self._remember(new)
        return links

    def _remember(self, links: Mapping[str, _Links]) -> None:
        self._links |= links
        self._bytes += sum(map(_size, links.values()))
        while self._bytes > _KEPT_BYTES and self._links:
            _, gone = self._links.popitem(last=False)
            self._bytes -= _size(gone)


def _joined(sample: Sample, known: Mapping[str, _Links], names_user: bool) -> Sample:
    """The sample with what is `known` put before it; `names_user`: its key is a user."""
    said = sample.said
    if said.goes_on_from is None or said.lacks is not None:
        return sample
    links: list[_Link] = []
    wanted: str | None = said.goes_on_from
    before = sample.record_id
    while wanted is not None:
        link = next((link for link in known.get(wanted, ()) if link.record_id < before), None)
        if link is None or not link.whole or len(links) == _MOST_LINKS or not _same_user(sample, link, names_user):
            said.lacks = Lack.CONTEXT_ELSEWHERE
            return sample
        if not link.trainable:
            return replace(sample, trainable=False)
        links.append(link)
        wanted, before = link.after, link.record_id
    return replace(sample, conversation=_together(said, [link.said for link in reversed(links)]))


def _size(links: _Links) -> int:
    return _KEY_BYTES + sum(link.bytes for link in links)


def _goes_on(sample: Sample) -> bool:
    exchange = sample.exchange
    return exchange.kind == RESPONSES.name and sample.conversation is None and _NAMED in exchange.request


def _read(name: str, found: Sequence[Earlier]) -> _Links:
    """Those whose answer really has that id."""
    links: list[_Link] = []
    for one in found:
        exchange = one.sample.exchange
        if exchange.kind != RESPONSES.name or provider_id_of(exchange) != name:
            continue
        said = conversation_of(one.sample)
        links.append(
            _Link(
                record_id=one.sample.record_id,
                whole=one.whole and said.lacks not in _LOST,
                said=said,
                user=one.sample.user,
                names_user=one.names_user,
                trainable=one.sample.trainable,
                bytes=len(exchange.request) + len(exchange.response),
            )
        )
    return tuple(links)


def _same_user(sample: Sample, link: _Link, names_user: bool) -> bool:
    """Whether both are one user's. Keys that stand in for a user prove nothing: the provider knew whose that id is."""
    return sample.user == link.user or not (link.names_user or names_user)


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
