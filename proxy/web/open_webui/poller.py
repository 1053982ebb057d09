"""Fetches the votes of one Open WebUI, a look at a time.

    which votes are there → those that are new or changed, oldest first → our votes → the store
                          → those that are gone, each asked for by itself: taken back

A list that is short is no proof that people have taken their votes back: it may be a part, or that of an Open WebUI
that has lost its database. So a vote that is not listed is asked for, and taken back only where Open WebUI says that it
does not exist; and where much is missing at once, this is not even asked until it has been so for a day.

A vote that cannot be read keeps no other one waiting: it is asked for again, last.

A vote is noted as known in the transaction that stores it, so that a controller which is killed at any time can take it
back later. Its id follows from what it says, so that what is fetched again counts once. What was changed in the very
second of a look is asked for once more, for Open WebUI counts in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from proxy.clock import Clock
from proxy.store.store import Store
from proxy.store.tables.values import Applied, IngestBatch, NewVote, OutsideVote
from proxy.web.open_webui.api import OpenWebUI, OpenWebUIError
from proxy.web.open_webui.reading import external_of, fid_of, said_in, taken_back
from proxy.web.votes import redacted

__all__ = ["OpenWebUIPoller"]

_MOST: Final = 200
"""Votes that are fetched in one look; the next one goes on there."""
_MOST_GONE: Final = 50
"""Votes that are not listed, and are asked for in one look."""
_MOST_IN_VAIN: Final = 5
"""Votes that cannot be read, in one look; so many, and it is not about the votes."""
_FEW: Final = 20
"""So many may vanish together without being much."""
_AT_ONCE: Final = 20
"""Votes that are stored together: so many are fetched again after a kill at most."""
_DAY_S: Final = 86_400.0
_TIDY_S: Final = 3600.0

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
        self._in_vain: dict[str, int] = {}
        """Votes that could not be read, and the second in which they were changed."""
        self._unlisted: set[str] = set()
        """Votes that are there all the same, or of which that is not known."""
        self._short_since: float | None = None
        self._tidied = float("-inf")
        self.remark = ""
        """What was odd in the last look, which went on all the same: plain English, no full stop."""

    async def look(self) -> bool:
        """Fetch what is new; True where there is more. Raises OpenWebUIError, TemporaryError where the store is away,
        TimeoutError where words cannot be cleaned."""
        self.remark = ""
        listed = await self._ui.votes()
        known = await self._store.outside.of(self._system)
        oldest = self._clock.now() - self._max_age_days * _DAY_S
        newest = max(listed.values(), default=0)
        fresh = [
            (changed_s, vote_id)
            for vote_id, changed_s in listed.items()
            if changed_s >= oldest and self._is_news(vote_id, changed_s, known.get(vote_id), newest)
        ]
        fresh.sort(key=lambda vote: (self._in_vain.get(vote[1]) == vote[0], vote))
        self._in_vain = {name: at for name, at in self._in_vain.items() if listed.get(name) == at}
        more = await self._fetch_all(fresh[:_MOST], known) and len(fresh) > _MOST
        more |= await self._look_for_gone(listed, known)
        self._seen_again = {name: at for name, at in self._seen_again.items() if listed.get(name) == at}
        await self._tidy(oldest)
        return more

    async def _fetch_all(self, fresh: Sequence[tuple[int, str]], known: Mapping[str, OutsideVote]) -> bool:
        """Whether it makes sense to go on at once."""
        ills: list[OpenWebUIError] = []
        for start in range(0, len(fresh), _AT_ONCE):
            if len(ills) < _MOST_IN_VAIN:
                await self._fetch(fresh[start : start + _AT_ONCE], known, ills)
        if ills:
            self.remark = f"{ills[0]}; so it was for {len(ills)} of the votes, which are asked for again"
        return len(ills) < _MOST_IN_VAIN

    async def _look_for_gone(self, listed: Mapping[str, int], known: Mapping[str, OutsideVote]) -> bool:
        """Take back what is gone; True where there is more of it."""
        missing = known.keys() - listed.keys()
        self._unlisted &= missing
        if self._is_held(len(listed), len(known), len(missing)):
            return False
        asked = sorted(missing - self._unlisted)[:_MOST_GONE] or sorted(missing)[:_MOST_GONE]
        gone: list[OutsideVote] = []
        ills = 0
        for vote_id in asked:
            try:
                found = await self._ui.vote(vote_id)
            except OpenWebUIError as exc:  # nothing is known of it, so it stays
                self.remark = self.remark or f"{exc}; so it was for a vote that its list lacks"
                self._unlisted.add(vote_id)
                ills += 1
            else:
                (self._unlisted.discard if found is None else self._unlisted.add)(vote_id)
                gone += [known[vote_id]] if found is None else []
            if ills >= _MOST_IN_VAIN:
                break
        await self._take_back(gone)
        if self._unlisted:
            n = len(self._unlisted)
            self.remark = self.remark or f"Open WebUI at {self._system}: {n} of its votes are there and not in its list"
        return not ills and bool(missing - self._unlisted - {vote.id for vote in gone})

    def _is_held(self, listed: int, known: int, missing: int) -> bool:
        """Whether so much is missing at once that nothing of it is believed yet."""
        if missing <= (max(_FEW, known // 2) if listed else 1):
            self._short_since = None
            return False
        now = self._clock.monotonic()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since >= _DAY_S:
            return False
        self.remark = (
            f"Open WebUI at {self._system}: its list lacks {missing} of {known} known votes: has it lost its database? "
            "They count on here; they are taken back if it is so for a day"
        )
        return True

    async def _tidy(self, oldest: float) -> None:
        if oldest > 0 and self._clock.monotonic() - self._tidied >= _TIDY_S:
            await self._store.outside.tidy(int(oldest))
            self._tidied = self._clock.monotonic()

    def _is_news(self, vote_id: str, changed_s: int, known: OutsideVote | None, newest: int) -> bool:
        if known is None or changed_s != known.changed_s:
            return True
        # an earlier look has seen this second, and perhaps not its end
        return changed_s >= newest and self._seen_again.get(vote_id) != changed_s

    async def _fetch(
        self, fresh: Sequence[tuple[int, str]], known: Mapping[str, OutsideVote], ills: list[OpenWebUIError]
    ) -> None:
        """Store some votes, and note that they are known; what is wrong with others is added to `ills`."""
        entries: list[dict[str, Any]] = []
        notes = []
        older = [known[vote_id].fid for _, vote_id in fresh if vote_id in known]
        stored = await self._store.outside.voters(older) if older else {}
        for changed_s, vote_id in fresh:
            try:
                found = await self._ui.vote(vote_id)
            except OpenWebUIError as exc:
                self._in_vain[vote_id] = changed_s
                ills.append(exc)
                if len(ills) >= _MOST_IN_VAIN:
                    break
                continue
            self._in_vain.pop(vote_id, None)
            if found is None:  # it is gone; the next list will say so
                continue
            before = known.get(vote_id)
            if before is not None and before.changed_s == changed_s:
                self._seen_again[vote_id] = changed_s
            said = said_in(found)
            fid = fid_of(self._system, vote_id, said, changed_s, before=None if before is None else before.fid)
            alias = said.get("alias")
            notes.append(OutsideVote(id=vote_id, changed_s=changed_s, fid=fid, alias=alias))
            says_something = said["feedback"] is not None or "comment" in said or before is not None
            if alias is not None and says_something and (before is None or before.fid != fid):
                took_back = said["feedback"] is None and before is not None
                words = {} if before is None else {"comment": ""}  # what it said is what it says, or was taken back
                entry = {"fid": fid, "at_s": changed_s, "took_back": took_back, **words, **said}
                of_old = None if before is None else stored.get(before.fid)
                entry["external"] = external_of(self._system, vote_id) if of_old is None else of_old.external
                entries.append(entry)
        if entries:
            await self._keep(entries, notes)
        else:
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
                external=external,
            )
            for vote in gone
            if vote.fid in voters
            for record_id, source, external in [voters[vote.fid]]
        ]
        await self._store_votes(votes)
        await self._store.outside.remove(self._system, [vote.id for vote in gone])

    async def _keep(self, entries: list[dict[str, Any]], notes: Sequence[OutsideVote]) -> None:
        if self._redact is not None:
            await redacted(entries, self._redact)
        await self._store_votes(
            [
                NewVote(
                    fid=entry["fid"],
                    record_id=None,
                    alias=entry["alias"],
                    source=entry["source"],
                    feedback=entry["feedback"],
                    retracted=entry["took_back"] and not (entry["external"] and entry.get("comment")),
                    comment=entry.get("comment"),
                    external=entry["external"],
                    tags=entry.get("tags", {}),
                    created_us=entry["at_s"] * 1_000_000,
                )
                for entry in entries
            ],
            notes,
        )

    async def _store_votes(self, votes: Sequence[NewVote], notes: Sequence[OutsideVote] = ()) -> None:
        if votes:
            batch = IngestBatch(
                writer="", segment=0, offset=0, votes=tuple(votes), fetched_from=self._system, fetched=tuple(notes)
            )
            self._counted(await self._store.ingest.apply(batch))
