"""Nothing in a request reaches beyond what its sender may say: paths stay below the model's, trailers are no heads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.dot_segments import has_dot_segments
from proxy.gateway.outbound import kept_from_trailers, trailer_lines
from proxy.routes import Target
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Upstream, serve_upstream

CLIMBING = [
    b"/../tenant-b/v1/models", b"/%2e%2e/tenant-b/v1/models", b"/v1/../../tenant-b", b"/.%2E/x", b"/%2e./x", b"/./x",
    b"/v1/.", b"/v1/..", b"/..", b"/..;/x", b"/..;a=b/x", b"/x/..%2fy", b"/x/..%2Fy", b"/x/..%5cy", b"/x\\..\\y",
    b"/x/%5c..%5cy", b"/x%2f..%2fy", b"/%252e%252e/x", b"/%25252e%25252e%25252fx", b"/%252e%2e%255cx", b"/..%00/x",
    b"/..%20/x", b"/%20../x", b"/..%09/x", b"/..#x", b"/..?x", b"/..%3fx", b"/..%23x", b"/..%3b/x",
    b"/%c0%ae%c0%ae/x", b"/%e0%80%ae./x", b"/..%c0%afx", b"/..%c1%9cx", b"/%ef%bc%8e%ef%bc%8e/x", b"/..%ef%bc%8fx",
    b"/\xc0\xae\xc0\xae/x", b"/%e2%80%a5/x", b"/%u002e%u002e/x", b"/%uff0e%uff0e/x", b"/..%u2215x", b"/.%0a./x",
    b"/..%0d/x",
    b"/%25c0%25ae./x", b"/%" + b"25" * 30_000 + b"2e", b"//../x", b"http://h/../x", b"http://h/%2e%2e", b"HTTP://h/a/%2e%2e?b",
]  # fmt: skip
LEVEL = [b"/v1/models", b"/v1.0/models", b"/a..b/...", b"/..a/b..", b"/.well-known/x", b"/x?path=../../y", b"/x#../y",
         b"/%zz%2", b"/%u00zz./x.y", b"/%c3%bc.txt",
         b"/\xc3\xbc.txt", b"/%ef%bc%8e%ef%bc%8e%ef%bc%8e/x",
         b"/v1/files/report..pdf", b"/a/.../b", b"/", b"http://h/v1", b"/x?u=http://h/../y",
         b"/%2e%2e%2e/x", b"/x%2fy.z"]  # fmt: skip


def get(target: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target


@pytest.mark.parametrize("target", CLIMBING)
async def test_a_path_that_climbs_is_refused_where_it_could_leave_something(
    upstream: Upstream, tmp_path: Path, target: bytes
) -> None:
    async with open_gateway(tmp_path, upstream.url + "/tenant-a") as door:
        answer = await door.dialogue(get(target))
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"dot segments" in answer
        assert (upstream.seen, door.frames(), door.count("in_flight")) == ([], [], 0)


@pytest.mark.parametrize("target", LEVEL)
async def test_every_other_path_goes_below_the_prefix(upstream: Upstream, tmp_path: Path, target: bytes) -> None:
    async with open_gateway(tmp_path, upstream.url + "/tenant-a") as door:
        assert (await door.dialogue(get(target))).startswith(b"HTTP/1.1 200 OK\r\n")
    assert upstream.seen[0].target == b"/tenant-a" + target.removeprefix(b"http://h")


async def test_without_a_prefix_nothing_is_refused(door: Door, upstream: Upstream) -> None:
    for target in CLIMBING:
        assert (await door.dialogue(get(target))).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [seen.target for seen in upstream.seen] == [
        target.removeprefix(b"http://h").removeprefix(b"HTTP://h") for target in CLIMBING
    ]


@pytest.mark.parametrize(
    ("champion", "challenger", "status"), [("", "/b", b"400"), ("/a", "", b"400"), ("", "", b"200")]
)
async def test_either_arms_prefix_is_kept(
    upstream: Upstream, tmp_path: Path, champion: str, challenger: str, status: bytes
) -> None:
    async with (
        serve_upstream() as other,
        open_gateway(tmp_path, upstream.url + champion, challenger=other.url + challenger) as door,
    ):
        assert (await door.dialogue(get(b"/../x")))[9:12] == status
        (breaker,) = door.gateway.router._breakers.values()
        assert breaker.allow(0.0)


async def test_a_refused_path_does_not_use_up_the_breakers_probe(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url + "/b") as door:
        (breaker,) = door.gateway.router._breakers.values()
        for _ in range(5):
            breaker.failure(-1000.0)  # open, and long due to be probed
        assert (await door.dialogue(get(b"/../x")))[9:12] == b"400"
        assert breaker.is_open
        assert (await door.dialogue(get(b"/x")))[9:12] == b"200"
        assert not breaker.is_open


READINGS = (lambda p: p, unquote, lambda p: unquote(unquote(p)), lambda p: unquote(p).replace("\\", "/"),
            lambda p: "/".join(segment.partition(";")[0] for segment in unquote(p).split("/")))  # fmt: skip


@given(
    st.lists(
        st.sampled_from([".", "%2e", "%2E", "%252e", "/", "%2f", "\\", "%5c", ";", "a", "%41", "%", "%00"]), max_size=10
    )
)
def test_however_a_path_is_read_it_does_not_climb(parts: list[str]) -> None:
    path = "/" + "".join(parts)
    if not has_dot_segments(path.encode()):
        for read in READINGS:
            assert not {".", ".."} & set(read(path).split("/")), path


@pytest.mark.parametrize("target", [b"example.com:443", b"/", b"127.0.0.1:22", b"http://x/"])
async def test_connect_is_not_allowed(door: Door, upstream: Upstream, target: bytes) -> None:
    answer = await door.dialogue(b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: GET, HEAD, POST, " in answer
    assert b"\r\nconnection: close\r\n" in answer
    assert (upstream.seen, door.frames()) == ([], [])
    assert door.count('protocol_errors_total{status="405"}') == 1


SECRETS = [b"X-Api-Key", b"api-key", b"Cookie", b"Proxy-Authorization", b"X-Goog-Api-Key", b"X-Forwarded-For",
           b"X-Forwarded-Anything", b"Forwarded", b"X-Real-IP", b"Via", b"X-Ratchet-Whatever"]  # fmt: skip


@pytest.mark.parametrize("key", [None, "sk-own"])
@pytest.mark.parametrize("cut", [False, True])
async def test_a_trailer_says_nothing_that_only_a_head_may(
    upstream: Upstream, tmp_path: Path, key: str | None, cut: bool
) -> None:
    champion = {"api_key": key, "api_key_header": "X-Model-Key"}
    trailer = b"".join(b"%b: client\r\n" % name for name in (b"X-Sum", *SECRETS, b"x-model-key", b"X-Last"))
    request = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" + trailer + b"\r\n"
    async with open_gateway(tmp_path, upstream.url, settings=config(champion=champion)) as door:
        client = await door.connect()
        await client.send(request[:-30] if cut else request)
        if cut:
            await asyncio.wait_for(upstream_connected(door), 120)
            await client.send(request[-30:])
        assert (await client.response())[1] == CHAT
    assert upstream.seen[0].trailer == b"X-Sum: client\r\nX-Last: client\r\n"
    assert upstream.seen[0].payload == b"hi"


async def upstream_connected(door: Door) -> None:
    await door.settled("upstream_connections", 1)


@pytest.mark.parametrize("name", [b"Authorization", b"X-Ratchet-User", b"Content-Length", b"Host", b"Connection"])
async def test_some_trailers_end_the_request(door: Door, upstream: Upstream, name: bytes) -> None:
    request = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n%b: 1\r\n\r\n" % name
    assert (await door.dialogue(request)).startswith(b"HTTP/1.1 400 ")
    assert upstream.seen == []


async def test_a_fallback_gets_no_more_of_a_trailer(upstream: Upstream, tmp_path: Path) -> None:
    target = Target(model_id=2, name="new", url="http://127.0.0.1:1")
    async with open_gateway(tmp_path, upstream.url, challenger=target) as door:
        await door.ask(
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
            b"Cookie: a=b\r\nX-Sum: 1\r\n\r\n"
        )
    assert upstream.seen[0].trailer == b"X-Sum: 1\r\n"


@given(st.lists(st.tuples(st.sampled_from([*SECRETS, b"x-sum", b"X-OTHER"]), st.binary(max_size=3)), max_size=8))
def test_what_is_left_of_a_trailer_is_as_it_came(fields: list[tuple[bytes, bytes]]) -> None:
    lines = [(name, b"%b: %b\r\n" % (name, value.hex().encode())) for name, value in fields]
    left = trailer_lines(b"".join(line for _, line in lines), kept_from_trailers("authorization"))
    assert left == b"".join(line for name, line in lines if name not in SECRETS)
