"""The one way of votes into the spool, whoever took them: checked, one frame, durable before anybody hears "accepted".

A signed record id is its own authorisation; another name of a record needs the feedback token. What counts of a vote is
decided here, and kept with it (`policies.ballots`); a vote of which nothing would count is refused, so that a back end
learns of its missing token. `check` says that of each vote by itself, for some callers refuse a whole list for one of
them, and others do not.

No database is waited for: votes are accepted while the store is down and before their record was ingested, and joined
later. Whether a name is several people's is asked of the controller, which may know; else it is found out then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hmac import compare_digest
from typing import Any, Final, Protocol

from starlette.requests import Request

from policies.ballots import BallotTrust
from proxy.clock import Clock
from proxy.config.model import FeedbackConfig
from proxy.ids import ForgedIdError, RecordIds, minted_at
from proxy.limits import Guesses, RateLimit
from proxy.spool.frames import KIND_FEEDBACK, encode_frame
from proxy.store.tables.keys import SHORT_NAME
from proxy.web.counters import ACCEPTED, refused_slot
from proxy.web.responses import ApiError
from proxy.web.votes import Vote, idle_in, redacted
from proxy.wire.person import person_key, reduce_user

__all__ = [
    "CLIENT_ADDRESS_HEADER",
    "FOR_ANOTHER_HEADER",
    "Ambiguous",
    "BallotBox",
    "Entries",
    "FeedbackCounters",
    "FeedbackSpool",
    "Redact",
    "client_address",
]

Redact = Callable[[Sequence[str]], Awaitable[list[str] | None]]
"""Cleans texts; None where that cannot be done."""
Ambiguous = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Those of some aliases that several people's records have, as far as that can be known at once."""
Entries = list[dict[str, Any]]
"""A vote as the spool keeps it: once for each record that it names."""

CLIENT_ADDRESS_HEADER: Final = "x-forwarded-for"
"""The address of whoever asks, as the gateway tells it (behind a trusted balancer the right-most untrusted one):
towards this app it replaces whatever the client had put there."""
FOR_ANOTHER_HEADER: Final = "x-ratchet-for-another"
"""There where the address is that of a proxy which speaks for somebody else."""
_SIGNED_FORM: Final = re.compile(r"[0-9A-Z_a-z~]{36}", re.ASCII)
_DAY_S: Final = 86_400.0


class FeedbackSpool(Protocol):
    """Where votes are written: proxy.spool.SpoolWriter."""

    def append_synced(self, frame: bytes) -> bool:
        """Write one frame; False when it was dropped, or is not as durable as it is configured to be."""
        ...


class FeedbackCounters(Protocol):
    """Where events are counted: proxy.metrics.SharedCounters with the slots of FEEDBACK_COUNTERS."""

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        ...


class BallotBox:
    """Where the votes of one worker go in."""

    def __init__(
        self,
        config: FeedbackConfig,
        spool: FeedbackSpool,
        ids: RecordIds,
        counters: FeedbackCounters,
        clock: Clock,
        redact: Redact | None = None,
        ambiguous: Ambiguous | None = None,
    ) -> None:
        """`ambiguous` tells which aliases are several people's; without, that is found out later. `redact` cleans the
        words of votes."""
        self.config = config
        self.ids = ids
        self.clock = clock
        self._redact = redact
        self._ambiguous = ambiguous
        self._spool = spool
        self._counters = counters
        self._guesses = Guesses(clock, where="feedback")
        self._limit = RateLimit(config.rate_per_second, burst=max(config.rate_per_second, config.max_batch))

    def believes(self, token: str) -> bool:
        """Whether this is the feedback token. The comparison takes constant time."""
        expected = self.config.token
        return bool(expected) and compare_digest(token.strip().encode(), str(expected).encode())

    def guessed(self, request: Request) -> ApiError | None:
        """A wrong token came with `request`: counted and logged; a refusal (429) where its address guesses too fast."""
        wait_s = self._guesses.wrong(client_address(request))
        if wait_s <= 0:
            return None
        return ApiError(
            429,
            "too many wrong tokens from this address; wait before the next one",
            headers={"retry-after": _whole_s(wait_s)},
        )

    def hold_back(self, request: Request, votes: int) -> None:
        """Who has no token may send so many votes now; raises ApiError (429) where that is too fast."""
        wait_s = self._limit.take(client_address(request), max(1, votes), self.clock.monotonic())
        if wait_s > 0:
            message = f"more than {self.config.rate_per_second:g} votes per second from this address; send fewer"
            raise ApiError(429, message, headers={"retry-after": _whole_s(wait_s)})

    def refused(self, refusal: ApiError) -> None:
        """Count a request that is refused."""
        if (slot := refused_slot(refusal.status)) is not None:
            self._counters.add(slot)

    async def check(
        self, votes: Sequence[Vote], trust: BallotTrust, places: Sequence[str] = ()
    ) -> list[Entries | ApiError]:
        """What the spool would keep of each vote, or why it is refused. `places` begin the names of fields in
        messages."""
        now = self.clock.now()
        places = places or [""] * len(votes)
        checked: list[Entries | ApiError] = []
        for vote, at in zip(votes, places, strict=True):
            try:
                checked.append(self._entries(vote, now, trust, at=at))
            except ApiError as exc:
                checked.append(exc)
        return await self._without_ambiguous(checked, places)

    async def keep(self, groups: Sequence[Entries]) -> list[str]:
        """Write votes that were checked, in one frame; returns the id of each. Raises ApiError (503) where that is not
        possible now."""
        entries = [entry for group in groups for entry in group]
        if self._redact is not None:
            try:
                await redacted(entries, self._redact)
            except TimeoutError as exc:
                raise ApiError(503, str(exc), headers={"retry-after": "5"}) from exc
        frame = encode_frame(KIND_FEEDBACK, {"t": int(self.clock.now() * 1e6), "votes": entries})
        if not self._spool.append_synced(frame):
            message = "the vote cannot be saved now (the disk is full or failing); send it again later"
            raise ApiError(503, message, headers={"retry-after": "5"})
        self._counters.add(ACCEPTED, len(groups))
        return [group[0]["fid"] for group in groups]

    def without_token(self) -> str:
        """Why a part of a vote does not count, and how it would."""
        kinds = ", ".join(self.config.anonymous) or "comment"
        token = (
            "`Authorization: Bearer <feedback.token>`" if self.config.token
            else "feedback.token, which is not configured"
        )  # fmt: skip
        return f"without the feedback token only these count: {kinds} (feedback.anonymous); this needs {token}"

    def _entries(self, vote: Vote, now: float, trust: BallotTrust, *, at: str) -> Entries:
        """The vote as the spool keeps it, once for each record that it names; raises ApiError where an id may not be
        used. A conversation's vote that is kept for several of its records counts once."""
        ids = vote.record_ids
        fields = [f"{at}references[{n}]" if vote.references else f"{at}record_id" for n in range(len(ids))]
        names: list[dict[str, Any]] = [
            self._name(one, now, trust, where) for one, where in zip(ids, fields, strict=True)
        ]
        if vote.other_names:
            names = [self._one_of((*ids, *vote.other_names), now, trust, fields[0])]
        said = {**self._about(vote, trust, at), **vote.says, "source": vote.source, "tr": int(trust)}
        idle = idle_in(vote, trust)
        if idle and len(idle) == len(vote.says):
            raise ApiError(403, f"{at}{idle[0]}: {self.without_token()}", field=f"{at}{idle[0]}")
        if vote.tags:
            said["tags"] = dict(vote.tags)
        if vote.external is not None:
            said["ext"] = self.ids.user_hash(f"vote\0{vote.external}".encode("utf-8", "surrogatepass"))
        if vote.amends:
            said["am"] = True
        if vote.hashed_name is not None:
            said["ah"] = vote.hashed_name
        nameless: dict[str, str | None] = {"id": None, "alias": None}
        return [{"fid": self.ids.new_uuid(now), **name, **said} for name in names or [nameless]]

    def _name(self, record_id: str, now: float, trust: BallotTrust, where: str) -> dict[str, str | None]:
        try:
            known = self.ids.verify(record_id)
        except ForgedIdError as exc:
            if BallotTrust.TOKEN not in trust:
                raise ApiError(403, f"{where}: {self._refusal(record_id, exc)}", field=where) from exc
            return {"id": None, "alias": record_id}
        if now - minted_at(known) > self.config.max_age_days * _DAY_S:
            message = f"{where}: the record is older than {self.config.max_age_days:g} days, too old for votes"
            raise ApiError(410, message, field=where)
        return {"id": known, "alias": None}

    def _one_of(self, given: Sequence[str], now: float, trust: BallotTrust, where: str) -> dict[str, Any]:
        """The record that is named in several ways: by its own id where that is among them, else by all of them."""
        known = [self._name(one, now, trust, where) for one in dict.fromkeys(given)]
        if (own := next((one for one in known if one["id"] is not None), None)) is not None:
            return own
        first, *others = [one["alias"] for one in known]
        return {"id": None, "alias": first, "or": others} if others else {"id": None, "alias": first}

    def _about(self, vote: Vote, trust: BallotTrust, at: str) -> dict[str, Any]:
        """What a vote on a whole conversation says of it; names are kept as hashes, as those of requests are.

        Where nobody is named, the conversation stands for its user, as it does in requests that name nobody.
        """
        if not vote.whole:
            return {}
        about: dict[str, Any] = {"wh": True}
        if vote.conversation is not None:
            person, session = reduce_user(vote.conversation)
            about["conv"] = self.ids.user_hash((session or person).encode())
        if not vote.record_ids:
            if BallotTrust.TOKEN not in trust:
                message = f"{at}conversation: without the feedback token, name a record of it as well"
                raise ApiError(403, message, field=f"{at}conversation")
            about["usr"] = about["conv"] if vote.user is None else self.ids.user_hash(person_key(vote.user))
        return about

    async def _without_ambiguous(
        self, checked: list[Entries | ApiError], places: Sequence[str]
    ) -> list[Entries | ApiError]:
        """The same, but that votes by a name that is known to be several people's are refused (409)."""
        aliases = {
            name for group in checked if not isinstance(group, ApiError) for entry in group for name in _aliases(entry)
        }
        if not aliases or self._ambiguous is None:
            return checked
        found = await self._ambiguous(sorted(aliases))
        return [
            group if isinstance(group, ApiError) or not any(_is_among(entry, found) for entry in group)
            else _ambiguous_name(f"{at}record_id" if len(group) == 1 else f"{at}references", group)
            for group, at in zip(checked, places, strict=True)
        ]  # fmt: skip

    def _refusal(self, record_id: str, exc: ForgedIdError) -> str:
        if _SIGNED_FORM.fullmatch(record_id):
            return str(exc)
        if self.config.token:
            return (
                "not a signed record id; to use another id of the record, send `Authorization: Bearer <feedback.token>`"
            )
        return f"{exc}; other ids are accepted only if feedback.token is configured"


def client_address(request: Request) -> str:
    """Who asks, as the gateway saw it; as we see it where no gateway is in between."""
    peer = request.client.host if request.client else ""
    return request.headers.get(CLIENT_ADDRESS_HEADER, peer)


def _aliases(entry: Mapping[str, Any]) -> list[str]:
    """All names of its record but the record's own id."""
    return [] if entry["alias"] is None else [entry["alias"], *entry.get("or", ())]


def _is_among(entry: Mapping[str, Any], ambiguous: frozenset[str]) -> bool:
    """Whether no name of its record is left that may mean one."""
    names = _aliases(entry)
    return bool(names) and ambiguous.issuperset(names)


def _ambiguous_name(field: str, group: Entries) -> ApiError:
    short = any(len(name) < SHORT_NAME for entry in group for name in _aliases(entry))
    message = (
        f"{field}: requests of several users (or, as it is short, of several conversations) share this id, so it does "
        "not identify one answer"
        if short
        else f"{field}: requests of several users share this id, so it does not identify one answer"
    )
    return ApiError(409, f"{message}; use the id from x-ratchet-record-id", field=field)


def _whole_s(seconds: float) -> str:
    return str(math.ceil(seconds))
