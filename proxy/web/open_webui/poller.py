"""Fetches the votes of one Open WebUI, a look at a time.

    which votes are there → those that are new or changed, oldest first → our votes → the store
                          → those that are gone: taken back

A vote is stored before it is noted as known, and its id follows from what it says: a controller that is killed in
between fetches it again, and it counts once. What was changed in the very second of a look is asked for once more,
for Open WebUI counts in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from proxy.clock import Clock
from proxy.store.control.outside import OutsideVote
from proxy.store.store import Store
from proxy.store.tables.values import Applied, IngestBatch, NewVote
from proxy.web.open_webui.api import OpenWebUI
from proxy.web.open_webui.reading import fid_of, said_in, taken_back
from proxy.web.votes import redacted

__all__ = ["OpenWebUIPoller"]

_MOST: Final = 200
"""Votes that are fetched in one look; the next one goes on there."""
_AT_ONCE: Final = 20
"""Votes that are stored together: so many are fetched again after a kill at most."""
_DAY_S: Final = 86_400.0

Redact = Callable[[Sequence[str]], Awaitable[list[str] | None]]


class OpenWebUIPoller:
    """Knows what of one Open WebUI is in the store. One at a time; a second one does no harm."""

    def __init__(
        self,
        ui: OpenWebUI,
        system: str,
        store: Store,
        clock: Clock,
        *,
        max_age_days: float,
        redact: Redact | None = None,
        counted: Callable[[Applied], None] = lambda applied: None,
    ) -> None:
        """`system` names this Open WebUI among what was fetched before; votes that nobody has touched for
        `max_age_days` are left where they are; `redact` cleans words; `counted` hears what was stored."""
        self._ui = ui
        self._system = system
        self._store = store
        self._clock = clock
        self._max_age_days = max_age_days
        self._redact = redact
        self._counted = counted
        self._seen_again: dict[str, int] = {}
        """Votes that were fetched behind the second in which they were changed, and that second."""

    async def look(self) -> bool:
        """Fetch what is new; True where there is more. Raises OpenWebUIError, TemporaryError where the store is away,
        TimeoutError where words cannot be cleaned."""
        listed = await self._ui.votes()
        known = await self._store.outside.of(self._system)
        oldest = self._clock.now() - self._max_age_days * _DAY_S
        newest = max(listed.values(), default=0)
        fresh = sorted(
            (changed_s, vote_id)
            for vote_id, changed_s in listed.items()
            if changed_s >= oldest and self._is_news(vote_id, changed_s, known.get(vote_id), newest)
        )
        for start in range(0, min(len(fresh), _MOST), _AT_ONCE):
            await self._fetch(fresh[start : min(start + _AT_ONCE, _MOST)], known)
        await self._take_back([known[vote_id] for vote_id in sorted(known.keys() - listed.keys())[:_MOST]])
        self._seen_again = {name: at for name, at in self._seen_again.items() if listed.get(name) == at}
        return len(fresh) > _MOST or len(known.keys() - listed.keys()) > _MOST

    def _is_news(self, vote_id: str, changed_s: int, known: OutsideVote | None, newest: int) -> bool:
        if known is None or changed_s != known.changed_s:
            return True
        if changed_s < newest or self._seen_again.get(vote_id) == changed_s:
            return False
        self._seen_again[vote_id] = changed_s  # an earlier look has seen this second, and perhaps not its end
        return True

    async def _fetch(self, fresh: Sequence[tuple[int, str]], known: Mapping[str, OutsideVote]) -> None:
        """Store some votes, and note that they are known."""
        entries: list[dict[str, Any]] = []
        notes = []
        for changed_s, vote_id in fresh:
            found = await self._ui.vote(vote_id)
            if found is None:  # it is gone; the next list will say so
                continue
            before = known.get(vote_id)
            said = said_in(found)
            fid = fid_of(self._system, vote_id, said, changed_s, before=None if before is None else before.fid)
            alias = said.get("alias")
            notes.append(OutsideVote(id=vote_id, changed_s=changed_s, fid=fid, alias=alias))
            says_something = said["feedback"] is not None or "comment" in said or before is not None
            if alias is not None and says_something and (before is None or before.fid != fid):
                took_back = said["feedback"] is None and before is not None
                entries.append({"fid": fid, "at_s": changed_s, "took_back": took_back, **said})
        await self._keep(entries)
        await self._store.outside.put(self._system, notes)

    async def _take_back(self, gone: Sequence[OutsideVote]) -> None:
        """Somebody has deleted them."""
        if not gone:
            return
        voters = await self._store.outside.voters([vote.fid for vote in gone])
        votes = [
            NewVote(
                fid=taken_back(vote.fid),
                record_id=record_id,
                alias=None if record_id else vote.alias,
                source=source,
                retracted=True,
                created_us=int(self._clock.now() * 1e6),
            )
            for vote in gone
            if vote.fid in voters
            for record_id, source in [voters[vote.fid]]
        ]
        await self._store_votes(votes)
        await self._store.outside.remove(self._system, [vote.id for vote in gone])

    async def _keep(self, entries: list[dict[str, Any]]) -> None:
        if self._redact is not None and entries:
            await redacted(entries, self._redact)
        await self._store_votes(
            [
                NewVote(
                    fid=entry["fid"],
                    record_id=None,
                    alias=entry["alias"],
                    source=entry["source"],
                    feedback=entry["feedback"],
                    retracted=entry["took_back"],
                    comment=entry.get("comment"),
                    tags=entry.get("tags", {}),
                    created_us=entry["at_s"] * 1_000_000,
                )
                for entry in entries
            ]
        )

    async def _store_votes(self, votes: Sequence[NewVote]) -> None:
        if votes:
            batch = IngestBatch(writer="", segment=0, offset=0, votes=tuple(votes))
            self._counted(await self._store.ingest.apply(batch))
