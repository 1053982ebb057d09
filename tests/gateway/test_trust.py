"""Whom we believe when they name a user, and which cluster stands for those whom we do not."""

from __future__ import annotations

import ipaddress
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import StickyConfig
from proxy.gateway.head import RequestHead, RequestParser
from proxy.gateway.trust import READ, UNKNOWN, UserTrust

BACKEND = b"10.1.2.3"
STRANGER = b"203.0.113.9"


def keyed(value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big", signed=True)


def trust(*, credentials_pass: bool = True, **settings: Any) -> UserTrust:
    return UserTrust(StickyConfig(**settings), keyed, credentials_pass=credentials_pass)


def head(*lines: bytes) -> RequestHead:
    data = b"\r\n".join((b"POST /v1 HTTP/1.1", b"Host: x", *lines, b"", b""))
    return RequestParser(READ).parse(data, len(data) - 4)


def origin(peer: bytes, *lines: bytes, by: UserTrust | None = None) -> tuple[int, bool]:
    by = by or trust()
    return by.origin(head(*lines), by.network(peer))


def network(text: str) -> int:
    """The cluster of an address."""
    address = ipaddress.ip_address(text)
    return keyed(b"\0cluster\0network\0" + address.packed[: 3 if address.version == 4 else 8])


BELIEVED = [
    (b"127.0.0.1", ()),
    (b"::1", ()),
    (b"unix", ()),
    (b"::ffff:192.168.4.4", ()),
    (BACKEND, ()),
    (BACKEND, (b"X-Forwarded-For: 10.9.9.9, 127.0.0.1",)),
    (BACKEND, (b"Forwarded: for=10.9.9.9;proto=https",)),
]


@pytest.mark.parametrize(("peer", "lines"), BELIEVED)
def test_backends_are_believed(peer: bytes, lines: tuple[bytes, ...]) -> None:
    assert origin(peer, *lines)[1] is False


CLAIMED = [
    (STRANGER, (), "203.0.113.9"),
    (STRANGER, (b"X-Forwarded-For: 10.0.0.1",), "203.0.113.9"),  # he says so himself
    (b"2001:db8:1:2:3::4", (), "2001:db8:1:2::"),
    (BACKEND, (b"X-Forwarded-For: 198.51.100.7",), "198.51.100.7"),
    (BACKEND, (b"X-Forwarded-For: 1.1.1.1, 198.51.100.7, 10.0.0.2",), "198.51.100.7"),
    (BACKEND, (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 198.51.100.7"), "198.51.100.7"),
    (BACKEND, (b"X-Forwarded-For: 198.51.100.7:4711",), "198.51.100.7"),
    (BACKEND, (b"X-Forwarded-For: [2001:db8::7]:4711",), "2001:db8::7"),
    (BACKEND, (b"Forwarded: for=1.1.1.1, for=198.51.100.7;by=10.0.0.1",), "198.51.100.7"),
    (BACKEND, (b'Forwarded: proto=http;For="[2001:db8:cafe::17]:4711"',), "2001:db8:cafe::17"),
    (BACKEND, (b"Forwarded: for=198.51.100.7", b"X-Forwarded-For: 198.51.100.7"), "198.51.100.7"),
]


@pytest.mark.parametrize(("peer", "lines", "address"), CLAIMED)
def test_everybody_else_claims(peer: bytes, lines: tuple[bytes, ...], address: str) -> None:
    assert origin(peer, *lines) == (network(address), True)


UNCLEAR = [
    (BACKEND, (b"X-Forwarded-For: 1.1.1.1, unknown",)),
    (BACKEND, (b"X-Forwarded-For: 1.1.1.1,",)),
    (BACKEND, (b"Forwarded: for=_hidden",)),
    (BACKEND, (b"Forwarded: proto=https",)),
    (BACKEND, (b"Forwarded: for=1.1.1.1", b"X-Forwarded-For: 198.51.100.7")),
    (BACKEND, (b"Forwarded: for=10.0.0.1", b"X-Forwarded-For: 198.51.100.7")),
    (BACKEND, (b"X-Forwarded-For: " + b",".join([b"198.51.100.7", *[b"10.0.0.1"] * 40]),)),
    (BACKEND, (b"Forwarded: " + b"for=198.51.100.7," * 40 + b",".join([b"for=10.0.0.1"] * 32),)),
    (BACKEND, (b"Forwarded: for=198.51.100.7;" + b"; " * 200,)),  # longer than anybody writes
    (b"no address", ()),
]


@pytest.mark.parametrize(("peer", "lines"), UNCLEAR)
def test_whose_address_cannot_be_told_is_one_of_all_unknown(peer: bytes, lines: tuple[bytes, ...]) -> None:
    assert origin(peer, *lines) == (UNKNOWN, True)


def test_addresses_of_one_network_are_one_cluster() -> None:
    assert origin(b"203.0.113.9") == origin(b"203.0.113.200") != origin(b"203.0.114.9")
    assert origin(b"2001:db8:1:2::1") == origin(b"2001:db8:1:2:ffff::1") != origin(b"2001:db8:1:3::1")


def test_a_credential_is_its_own_cluster_wherever_it_comes_from() -> None:
    lines = (b"Authorization: Bearer a",)
    here, there = origin(STRANGER, *lines), origin(b"198.51.100.7", *lines)
    assert here == there != origin(STRANGER, b"Authorization: Bearer b")
    assert here[0] not in (network("203.0.113.9"), UNKNOWN)
    assert here[1] is True


@pytest.mark.parametrize("by", [trust(credentials_pass=False), trust(cluster_by="network")])
def test_a_credential_that_nobody_checks_is_none(by: UserTrust) -> None:
    assert origin(STRANGER, b"Authorization: Bearer made-up", by=by) == (network("203.0.113.9"), True)


SPELLED = [(b"authorization: bearer a",), (b"Authorization: BeArEr  a",), (b"Authorization: a",), (b"x-api-key: a",),
           (b"Authorization: Bearer a", b"x-api-key: a")]  # fmt: skip


@pytest.mark.parametrize("lines", SPELLED)
def test_a_credential_is_one_cluster_however_it_is_spelled(lines: tuple[bytes, ...]) -> None:
    assert origin(STRANGER, *lines) == origin(STRANGER, b"Authorization: Bearer a")


MADE_UP = [
    (b"Authorization: Bearer made-up", b"x-api-key: good"),
    (b"x-api-key: good", b"api-key: made-up"),
    (b"Authorization: Bearer good", b"Authorization: Bearer made-up"),
    (b"Authorization: Bearer made-up, Bearer good",),
    (b"Authorization: Basic Z29v=ZA==",),
    (b"Authorization: AWS4-HMAC-SHA256 Credential=good, SignedHeaders=host, Signature=other-each-time",),
    (b"Authorization: Bearer good made-up",),
]


@pytest.mark.parametrize("lines", MADE_UP)
def test_what_may_be_made_up_beside_a_good_key_is_no_cluster(lines: tuple[bytes, ...]) -> None:
    assert origin(STRANGER, *lines) == (network("203.0.113.9"), True)


def test_a_token_is_believed_from_anywhere_and_a_wrong_one_from_nowhere() -> None:
    by = trust(trust="token", token="a-token-of-some-length")
    assert origin(STRANGER, b"x-ratchet-token: a-token-of-some-length", by=by)[1] is False
    assert origin(STRANGER, b"x-ratchet-token: another", by=by)[1] is True
    assert origin(BACKEND, by=by)[1] is True
    assert origin(BACKEND, b"x-ratchet-token: ", by=trust(trust="token"))[1] is True


def test_all_are_believed_where_the_settings_say_so() -> None:
    assert origin(STRANGER, by=trust(trust="all")) == (network("203.0.113.9"), False)


def test_what_the_record_says() -> None:
    by = trust()
    claimed, believed = by.network(STRANGER), by.network(BACKEND)
    assert by.facts(head(), claimed) == b',"cl":%d,"cm":1' % network("203.0.113.9")
    assert by.facts(head(), believed) == b',"cl":%d' % network("10.1.2.3")
    assert by.network(STRANGER) is claimed


_ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
_JUNK = st.one_of(
    _ADDRESSES.map(str), st.sampled_from(["unknown", "", "_x", "[", "1.2.3.4:99", "a=b", '"', "for=1.1.1.1"]),
    st.text("0123456789abcdef.:[];=\" ", max_size=12),
)  # fmt: skip


@given(invented=st.lists(_JUNK, max_size=6), twice=st.booleans())
def test_nothing_that_a_client_writes_changes_its_cluster(invented: list[str], twice: bool) -> None:
    """Its balancer appends the address that it saw, to the same line or on one of its own."""
    written = b"X-Forwarded-For: " + ", ".join(invented).encode()
    seen = b"198.51.100.7"
    lines = (written, b"X-Forwarded-For: " + seen) if twice else (written + b", " + seen,)
    assert origin(BACKEND, *lines) == (network("198.51.100.7"), True)


@given(invented=st.lists(_JUNK, max_size=6))
def test_nor_can_it_be_believed_by_the_other_header(invented: list[str]) -> None:
    """Where the balancer writes one of the two and the client the other, they agree or nobody is known."""
    other = b"Forwarded: " + ", ".join(f"for={each}" for each in invented).encode()
    cluster, claimed = origin(BACKEND, other, b"X-Forwarded-For: 198.51.100.7")
    assert claimed
    assert cluster in (UNKNOWN, network("198.51.100.7"))
