"""A URL that is one vote: whoever has it may vote, without a key, on one answer and under one name, until it expires.

LangSmith's SDK takes nothing of such a URL but the UUID at its end, and no worker has a table to look one up in. So the
UUID's 128 bits are all there is, and they say it themselves:

    64  the hash of the answer's name, by which records are found
    20  until when, in quarters of an hour from 2020 to 2049
    44  MAC over both and the name of the score, under a signing key of the install

The score's name does not fit; it is found by trying those that can count. Guessing a MAC takes 2⁴⁴ requests at the rate
that `feedback.rate_per_second` allows, and then gives one vote on one answer.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any, Final

from starlette.requests import Request

from policies.ballots import BallotTrust
from proxy.ids import RecordIds
from proxy.store.tables.keys import alias_hash
from proxy.web.others.names import Names
from proxy.web.votes import Vote, VoteError

__all__ = ["TRUST", "Token", "expiry", "on", "opened", "origin", "token_for"]

TRUST: Final = BallotTrust.TOKEN | BallotTrust.THUMB | BallotTrust.SCORE
"""Whoever made the URL holds the feedback token, and chose the name; corrections count as those of anybody."""
_PURPOSE: Final = b"ratchet ballot"
_EPOCH_S: Final = 1_577_836_800
"""2020-01-01."""
_STEP_S: Final = 900
_STEP_BITS: Final = 20
_MAC_BITS: Final = 44
_DEFAULT_S: Final = 3 * 3600.0
_MOST_OF_A_UNIT: Final = 1_000_000
_UNITS_S: Final = {"days": 86_400, "hours": 3600, "minutes": 60}


@dataclass(frozen=True, slots=True)
class Token:
    """What a URL allows."""

    hashed_name: int
    """Of the answer: `alias_hash` of what a client calls it."""
    name: str
    """Of the score."""
    steps: int
    text: str
    """The UUID."""

    @property
    def until(self) -> float:
        """When it expires, Unix seconds."""
        return _EPOCH_S + self.steps * _STEP_S


def token_for(ids: RecordIds, answer: str, name: str, until: float) -> Token:
    """A URL's token; `until` (Unix seconds) is rounded up to a quarter of an hour."""
    hashed = alias_hash(answer)
    steps = min(max(math.ceil((until - _EPOCH_S) / _STEP_S), 0), (1 << _STEP_BITS) - 1)
    said = (hashed & 0xFFFFFFFFFFFFFFFF) << _STEP_BITS | steps
    mac = next(_macs(ids, said, name))
    return Token(hashed, name, steps, str(uuid.UUID(int=said << _MAC_BITS | mac)))


def opened(ids: RecordIds, text: str, names: Names, now: float) -> Token | None:
    """What the URL with this token allows, expired or not; None where it was not made here."""
    try:
        bits = uuid.UUID(text).int
    except ValueError:
        return None
    said, mac = bits >> _MAC_BITS, bits & (1 << _MAC_BITS) - 1
    hashed, steps = said >> _STEP_BITS, said & (1 << _STEP_BITS) - 1
    signed = hashed - (1 << 64) if hashed >> 63 else hashed
    for name in sorted(names.thumbs | names.scores):
        if any(compare_digest(_bytes(one), _bytes(mac)) for one in _macs(ids, said, name)):
            return Token(signed, name, steps, str(uuid.UUID(int=bits)))
    return None


def on(vote: Vote, token: Token) -> Vote:
    """The vote, on the answer that the token is for. It has no id there: who sends a comment behind a thumb does not
    replace the thumb."""
    return replace(vote, record_id=None, hashed_name=token.hashed_name, external=None)


def expiry(item: Mapping[str, Any], now: float) -> float:
    """Until when a URL that is asked for is to be good, Unix seconds. Raises VoteError."""
    at, after = item.get("expires_at"), item.get("expires_in")
    if at is not None:
        try:
            moment = datetime.fromisoformat(str(at))
        except ValueError as exc:
            raise VoteError("expires_at", f"not a time as in ISO 8601 ({exc})") from exc
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if after is None:
        return now + _DEFAULT_S
    parts = [(after.get(name) or 0, unit) for name, unit in _UNITS_S.items()] if isinstance(after, Mapping) else []
    if not parts or not all(isinstance(n, int | float) and 0 <= n < _MOST_OF_A_UNIT for n, _ in parts):
        raise VoteError("expires_in", "not days, hours and minutes")
    return now + float(sum(n * unit for n, unit in parts))


def origin(request: Request) -> str:
    """Where clients reach us: as configured, or as whoever asks for a URL has."""
    return request.app.state.public_url or f"{request.app.state.scheme}://{request.url.netloc}"


def _macs(ids: RecordIds, said: int, name: str) -> Iterator[int]:
    """Under the key that signs now first."""
    data = said.to_bytes(11, "big") + name.casefold().encode("utf-8", "surrogatepass")
    for stamp in ids.stamps(data, _PURPOSE):
        yield int.from_bytes(stamp, "big") & (1 << _MAC_BITS) - 1


def _bytes(mac: int) -> bytes:
    return mac.to_bytes(6, "big")
