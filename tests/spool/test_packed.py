"""Packed facts: the object that they stand for, member by member, and what is none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.spool.frames import TornFrameError, decode_payload
from proxy.spool.packed import FALLBACKS, pack_exchange

ID = "0190a0a0b0b07abc8def0123456789ab"
Members = dict[str, Any]


def frame(**changes: Any) -> bytes:
    parts: dict[str, Any] = {
        "source": b"header", "known": b'"m":"POST","rh":{}', "routing": b'"arm":1', "response_head": b'{"a":"b"}',
        "origin": b"", "rarer": b"", "request": b"ask", "response": b"answer",
    }  # fmt: skip
    numbers: dict[str, Any] = {
        "kind": 1, "record_id": bytes.fromhex(ID), "arrived_us": 5, "duration_us": 4, "first_byte_us": 3,
        "upstream_us": 2, "own_us": 1, "user_hash": -9, "request_bytes": 3, "response_bytes": 6, "status": 200,
        "outcome": 0, "fallback": 0,
    }  # fmt: skip
    return pack_exchange(**numbers | parts | changes)


def row(members: Members) -> bytes:
    """As it stands behind a comma; nothing of nothing."""
    return b"," + orjson.dumps(members)[1:-1] if members else b""


MEMBERS = st.dictionaries(st.sampled_from(["m", "rh", "st", "cl", "x"]), st.integers(0, 9) | st.text(), max_size=3)


@given(
    st.tuples(MEMBERS, MEMBERS, MEMBERS, MEMBERS),
    st.dictionaries(st.text(), st.text(), max_size=2),
    st.integers(0, len(FALLBACKS) - 1),
    st.booleans(),
)
def test_the_parts_make_one_object_in_their_order(
    parts: tuple[Members, Members, Members, Members], head: dict[str, str], fallback: int, looked: bool
) -> None:
    known, routing, origin, rarer = parts
    data = frame(
        known=row(known)[1:], routing=row(routing)[1:], origin=row(origin), rarer=row(rarer), fallback=fallback,
        response_head=orjson.dumps(head), first_byte_us=-1, source=b"random" if looked else b"", user_hash=None,
    )  # fmt: skip
    found = decode_payload(data)
    plain = {
        "id": ID, "t": 5, **known, **routing, "st": 200, "out": 0, "dur": 4, "ttfb": None, "up": 2, "own": 1,
        **({"key": None, "src": "random"} if looked else {}), "fb": FALLBACKS[fallback], "rb": 3, "sb": 6, "sh": head,
        **origin, **rarer,
    }  # fmt: skip
    assert list(found.meta.items()) == list(plain.items())
    assert (found.request, found.response) == (b"ask", b"answer")


def test_the_user_that_was_found_is_in_it() -> None:
    meta = decode_payload(frame()).meta
    assert (meta["key"], meta["src"], meta["ttfb"]) == (-9, "header", 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"known": b"1,2"}, "unreadable frame"), ({"response_head": b"[1]"}, "no JSON object"),
        ({"rarer": b',"a":'}, "unreadable frame"), ({"source": b"\xff"}, "can't decode"),
        ({"fallback": len(FALLBACKS)}, "no packed facts"), ({"rarer": b',"a":1' + b" " * 5000 + b"}"}, "unreadable"),
    ],
)  # fmt: skip
def test_what_is_no_object_is_no_frame(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TornFrameError, match=says):
        decode_payload(frame(**changes))


def test_parts_that_do_not_add_up_are_no_frame() -> None:
    longer = bytearray(frame())
    longer[1 + 12 + 90] ^= 1  # within the lengths of the parts
    with pytest.raises(TornFrameError, match="add up"):
        decode_payload(bytes(longer))
    assert decode_payload(frame(known=b'"m":"' + b"x" * 5000 + b'"')).meta["m"] == "x" * 5000
