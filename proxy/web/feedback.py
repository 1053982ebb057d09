"""POST /-/feedback: check the votes, write them to the spool in one frame, answer 202. In that order.

A signed record id is its own authorisation, so that a browser can vote with nothing else; another name of a record
(the provider's id, a client-chosen request id) needs the feedback token. So do scores, corrections and votes of several
people (`policies.ballots`): of a vote without it they are kept, and nothing is made of them. A vote of which nothing
would count is refused, so that a back end learns of its missing token.

No database is waited for: votes are accepted while the store is down and before their record was ingested, and joined
later. Whether a name is several people's is asked of the controller, which may know; else it is found out then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hmac import compare_digest
from typing import Any, Final, Protocol

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from policies.ballots import BallotTrust, trust_in
from proxy.clock import Clock
from proxy.config.model import FeedbackConfig
from proxy.ids import ForgedIdError, RecordIds, minted_at
from proxy.limits import Guesses, RateLimit
from proxy.spool.frames import KIND_FEEDBACK, encode_frame
from proxy.web.counters import ACCEPTED, FEEDBACK_COUNTERS, refused_slot
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError, idle_in, parse_votes, redacted
from proxy.wire.headers import charset
from proxy.wire.lenient import read_json
from proxy.wire.person import person_key, reduce_user

__all__ = [
    "CLIENT_ADDRESS_HEADER",
    "FEEDBACK_COUNTERS",
    "FOR_ANOTHER_HEADER",
    "Ambiguous",
    "FeedbackCounters",
    "FeedbackEndpoint",
    "FeedbackSpool",
    "Redact",
    "client_address",
]  # fmt: skip

Redact = Callable[[Sequence[str]], Awaitable[list[str] | None]]
"""Cleans texts; None where that cannot be done."""

CLIENT_ADDRESS_HEADER: Final = "x-forwarded-for"
"""The address of whoever asks, as the gateway tells it (behind a trusted balancer the right-most untrusted one):
towards this app it replaces whatever the client had put there."""
FOR_ANOTHER_HEADER: Final = "x-ratchet-for-another"
"""There where the address is that of a proxy which speaks for somebody else."""
MAX_BODY_BYTES: Final = 4 << 20
MAX_ANONYMOUS_BYTES: Final = 1 << 20
"""Without the token."""
_MOST_VALUES: Final = 50_000
_LONGEST_BROKEN: Final = 65536
_MOST_STRAY: Final = 2000
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


Ambiguous = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Those of some aliases that several people's records have, as far as that can be known at once."""


class FeedbackEndpoint:
    """The feedback URL of one worker."""

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
        self._config = config
        self._redact = redact
        self._ambiguous = ambiguous
        self._spool = spool
        self._ids = ids
        self._counters = counters
        self._clock = clock
        self._guesses = Guesses(clock, where="feedback")
        self._limit = RateLimit(config.rate_per_second, burst=max(config.rate_per_second, config.max_batch))

    async def post(self, request: Request) -> Response:
        """Answer one POST: 202, or an error that names the field."""
        try:
            trusted = self._has_token(request)
            body = await _body(request, MAX_BODY_BYTES if trusted else MAX_ANONYMOUS_BYTES)
            return await self._accept(request, body, trusted=trusted)
        except ApiError as exc:
            refusal = self._instead(request, exc)
            self._counters.add(refused_slot(refusal.status))
            raise refusal from exc

    async def _accept(self, request: Request, body: bytes, *, trusted: bool) -> Response:
        now = self._clock.now()
        if not trusted:
            _refuse_crowd(body)
        document = _decode(body, request.headers.get("content-type", ""), tolerant=trusted or _is_soon_read(body))
        trust = trust_in(token=trusted, anonymous=self._config.anonymous)
        if not trusted:
            self._hold_back(request, len(document) if isinstance(document, list) else 1)
        try:
            votes = parse_votes(document, self._config.max_batch)
        except VoteError as exc:
            raise ApiError(400, str(exc), field=exc.field) from exc
        single = not isinstance(document, list)
        places = ["" if single else f"[{index}]." for index in range(len(votes))]
        groups = [self._entries(vote, now, trust, at=at) for vote, at in zip(votes, places, strict=True)]
        await self._refuse_ambiguous(groups, places)
        entries = [entry for group in groups for entry in group]
        if self._redact is not None:
            await self._clean(entries, self._redact)
        frame = encode_frame(KIND_FEEDBACK, {"t": int(now * 1e6), "votes": entries})
        if not self._spool.append_synced(frame):
            message = "the vote cannot be saved now (the disk is full or failing); send it again later"
            raise ApiError(503, message, headers={"retry-after": "5"})
        self._counters.add(ACCEPTED, len(votes))
        fids = [group[0]["fid"] for group in groups]
        answer = {"feedback_id": fids[0]} if single else {"feedback_ids": fids}
        return JsonResponse({"accepted": len(votes), **answer, **self._in_vain(votes, trust, single=single)}, 202)

    def _in_vain(self, votes: Sequence[Vote], trust: BallotTrust, *, single: bool) -> dict[str, Any]:
        """Which fields are kept and do not count, and why; nothing where all count."""
        paths = ["" if single else f"[{index}]." for index in range(len(votes))]
        idle = [path + name for path, vote in zip(paths, votes, strict=True) for name in idle_in(vote, trust)]
        return {"not_counted": idle, "why": self._without_token()} if idle else {}

    def _entries(self, vote: Vote, now: float, trust: BallotTrust, *, at: str) -> list[dict[str, Any]]:
        """The vote as the spool keeps it, once for each record that it names; raises ApiError where an id may not be
        used. A conversation's vote that is kept for several of its records counts once."""
        ids = vote.record_ids
        fields = [f"{at}references[{n}]" if vote.references else f"{at}record_id" for n in range(len(ids))]
        names = [self._name(one, now, trust, where) for one, where in zip(ids, fields, strict=True)]
        said = {**self._about(vote, trust, at), **vote.says, "source": vote.source, "tr": int(trust)}
        idle = idle_in(vote, trust)
        if len(idle) == len(vote.says):
            raise ApiError(403, f"{at}{idle[0]}: {self._without_token()}", field=f"{at}{idle[0]}")
        if vote.tags:
            said["tags"] = dict(vote.tags)
        nameless: dict[str, str | None] = {"id": None, "alias": None}
        return [{"fid": self._ids.new_uuid(now), **name, **said} for name in names or [nameless]]

    def _name(self, record_id: str, now: float, trust: BallotTrust, where: str) -> dict[str, str | None]:
        try:
            known = self._ids.verify(record_id)
        except ForgedIdError as exc:
            if BallotTrust.TOKEN not in trust:
                raise ApiError(403, f"{where}: {self._refusal(record_id, exc)}", field=where) from exc
            return {"id": None, "alias": record_id}
        if now - minted_at(known) > self._config.max_age_days * _DAY_S:
            message = f"{where}: the record is older than {self._config.max_age_days:g} days, too old for votes"
            raise ApiError(410, message, field=where)
        return {"id": known, "alias": None}

    def _about(self, vote: Vote, trust: BallotTrust, at: str) -> dict[str, Any]:
        """What a vote on a whole conversation says of it; names are kept as hashes, as those of requests are.

        Where nobody is named, the conversation stands for its user, as it does in requests that name nobody.
        """
        if not vote.whole:
            return {}
        about: dict[str, Any] = {"wh": True}
        if vote.conversation is not None:
            person, session = reduce_user(vote.conversation)
            about["conv"] = self._ids.user_hash((session or person).encode())
        if not vote.record_ids:
            if BallotTrust.TOKEN not in trust:
                message = f"{at}conversation: without the feedback token, name a record of it as well"
                raise ApiError(403, message, field=f"{at}conversation")
            about["usr"] = about["conv"] if vote.user is None else self._ids.user_hash(person_key(vote.user))
        return about

    async def _refuse_ambiguous(self, groups: Sequence[Sequence[Mapping[str, Any]]], places: Sequence[str]) -> None:
        """Raise ApiError for the first vote by a name that is known to be several people's."""
        aliases = {entry["alias"] for group in groups for entry in group} - {None}
        if not aliases or self._ambiguous is None:
            return
        found = await self._ambiguous(sorted(aliases))
        for group, at in zip(groups, places, strict=True):
            if any(entry["alias"] in found for entry in group):
                field = f"{at}record_id" if len(group) == 1 else f"{at}references"
                message = f"{field}: requests of several users share this id, so it does not identify one answer"
                raise ApiError(409, f"{message}; use the id from x-ratchet-record-id", field=field)

    async def _clean(self, entries: list[dict[str, Any]], redact: Redact) -> None:
        """Clean all words of the votes; raises ApiError where that cannot be done."""
        try:
            await redacted(entries, redact)
        except TimeoutError as exc:
            raise ApiError(503, str(exc), headers={"retry-after": "5"}) from exc

    def _refusal(self, record_id: str, exc: ForgedIdError) -> str:
        if _SIGNED_FORM.fullmatch(record_id):
            return str(exc)
        if self._config.token:
            return (
                "not a signed record id; to use another id of the record, send `Authorization: Bearer <feedback.token>`"
            )
        return f"{exc}; other ids are accepted only if feedback.token is configured"

    def _without_token(self) -> str:
        """Why a part of a vote does not count, and how it would."""
        kinds = ", ".join(self._config.anonymous) or "comment"
        token = (
            "`Authorization: Bearer <feedback.token>`"
            if self._config.token
            else "feedback.token, which is not configured"
        )
        return f"without the feedback token only these count: {kinds} (feedback.anonymous); this needs {token}"

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = self._config.token
        return (
            bool(token) and scheme.lower() == "bearer" and compare_digest(given.strip().encode(), str(token).encode())
        )

    def _instead(self, request: Request, refusal: ApiError) -> ApiError:
        """The refusal, or another where somebody guesses: what lacks the token and came with a wrong one."""
        if refusal.status != 403 or not self._config.token or "authorization" not in request.headers:
            return refusal
        wait_s = self._guesses.wrong(client_address(request))
        if wait_s <= 0:
            return refusal
        return ApiError(
            429,
            "too many wrong tokens from this address; wait before the next one",
            headers={"retry-after": _whole_s(wait_s)},
        )

    def _hold_back(self, request: Request, votes: int) -> None:
        wait_s = self._limit.take(client_address(request), max(1, votes), self._clock.monotonic())
        if wait_s > 0:
            message = f"more than {self._config.rate_per_second:g} votes per second from this address; send fewer"
            raise ApiError(429, message, headers={"retry-after": _whole_s(wait_s)})


def client_address(request: Request) -> str:
    """Who asks, as the gateway saw it; as we see it where no gateway is in between."""
    peer = request.client.host if request.client else ""
    return request.headers.get(CLIENT_ADDRESS_HEADER, peer)


def _whole_s(seconds: float) -> str:
    return str(math.ceil(seconds))


async def _body(request: Request, most: int) -> bytes:
    """The whole body; raises ApiError where it is longer than `most` bytes."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise ApiError(413, f"the body is longer than {most} bytes; send smaller batches")
    except ClientDisconnect as exc:
        raise ApiError(400, "the connection was closed before the end of the body") from exc
    return bytes(body)


def _refuse_crowd(body: bytes) -> None:
    """A stranger's body is read in the event loop: raise ApiError where it has more values than any batch of votes."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ApiError(413, f"the body has more than {_MOST_VALUES} values; send smaller batches")


def _is_soon_read(body: bytes) -> bool:
    """Whether the tolerant reading, which takes a hundred times as long as the strict one, is soon done."""
    return len(body) <= _LONGEST_BROKEN and len(body) - len(body.decode("utf-8", "ignore").encode()) <= _MOST_STRAY


def _decode(body: bytes, content_type: str, *, tolerant: bool) -> Any:
    """JSON, whatever the content type says (`navigator.sendBeacon` sends text/plain), and, where `tolerant`, however it
    is spelled."""
    try:
        return read_json(body, charset(content_type)) if tolerant else orjson.loads(body)
    except ValueError as exc:
        raise ApiError(400, f"the body is not JSON ({exc})", field="body") from exc
