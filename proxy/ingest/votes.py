"""A frame of feedback as votes. The side app has checked them; here they only change their form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies.ballots import FULL_TRUST, BallotTrust, trust_in
from proxy.spool.frames import Frame
from proxy.store.tables.keys import DAY_US, alias_hash, id_time_us, is_record_id
from proxy.store.tables.values import NewVote

__all__ = ["votes_of"]


def votes_of(frame: Frame) -> tuple[NewVote, ...]:
    """The votes in `frame`. Raises KeyError, TypeError or ValueError where it is no frame of votes."""
    received_us = int(frame.meta["t"])
    return tuple(_vote(entry, received_us) for entry in frame.meta["votes"])


def _vote(entry: dict[str, Any], received_us: int) -> NewVote:
    bytes.fromhex(entry["fid"])
    names = [name for name in (entry.get("alias"), *entry.get("or", ())) if name is not None]
    return NewVote(
        fid=entry["fid"],
        record_id=entry.get("id"),
        alias=entry.get("alias"),
        source=_storable(entry.get("source")) or "anonymous",
        feedback=entry.get("feedback"),
        retracted="feedback" in entry and entry["feedback"] is None,
        comment=_storable(entry.get("comment")),
        correction=_storable(entry.get("correction")),
        quality_score=entry.get("quality_score"),
        tags={key.replace("\0", ""): value.replace("\0", "") for key, value in (entry.get("tags") or {}).items()},
        created_us=received_us,
        trust=_trust(entry),
        whole=entry.get("wh") is True,
        conversation=_hash(entry.get("conv")),
        user_hash=_hash(entry.get("usr")),
        copied=entry.get("signal") == "copied",
        external=_hash(entry.get("ext")),
        amends=entry.get("am") is True,
        hashed_alias=_hash(entry.get("ah")),
        other_names=tuple(map(alias_hash, names[1:])),
        own_id=_own_id(names, received_us),
    )


def _own_id(names: Sequence[str], received_us: int) -> str | None:
    """That of the names which may be a record's id: a UUIDv7 minted before the vote came, also as MLflow writes traces.
    Hardly any id of another system is so; each costs a look-up."""
    for name in names:
        id = name.removeprefix("tr-")
        if is_record_id(id) and id[12] == "7" and id[16] in "89ab" and id_time_us(id) <= received_us + DAY_US:
            return id
    return None


def _trust(entry: dict[str, Any]) -> BallotTrust:
    """What counts of it. An older version did not write it down, but took aliases from holders of the token alone."""
    said = entry.get("tr")
    if said is None:
        return trust_in(token=entry.get("alias") is not None)
    return BallotTrust(int(said)) & FULL_TRUST


def _hash(value: Any) -> int | None:
    return None if value is None else int(value)


def _storable(text: str | None) -> str | None:
    """PostgreSQL keeps any text but NUL; a vote is not to be lost for one."""
    return text.replace("\0", "") if text is not None else None
