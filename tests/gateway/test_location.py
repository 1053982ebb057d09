"""What an answer says about where something is keeps its client with us, and sends nobody elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.records import Arm
from proxy.clock import SystemClock
from proxy.config.serving import GatewayConfig
from proxy.gateway.backend import Backend, parse_url
from proxy.gateway.deadlines import Deadlines
from proxy.gateway.location import homeward
from proxy.gateway.pool import UpstreamPool
from proxy.routes import Target
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Line, Script, Seen, Upstream, reply, serve_upstream


class Uncounted:
    """Counters that nobody reads."""

    def add(self, name: str, amount: float = 1.0) -> None:
        return None


def backend(url: str) -> Backend:
    clock = SystemClock()
    pool = UpstreamPool(
        parse_url(url)[0], GatewayConfig(), clock=clock, deadlines=Deadlines(clock, 1.0), counters=Uncounted()
    )
    return Backend(Arm.CHAMPION, Target(model_id=1, name="m", url=url), pool, None, None, verbatim=True)


PLAIN, ROOTED, SECURE, SIX = (
    "http://model:8000",
    "http://model:8000/tenant-a/",
    "https://api.example.com",
    "http://[::1]:80",
)
WHERE = [
    (PLAIN, b"http://model:8000/v1/models/", b"/v1/models/"),
    (PLAIN, b"HTTP://MODEL:8000/v1?a=b#c", b"/v1?a=b#c"),
    (PLAIN, b"//model:8000/v1", b"/v1"),
    (PLAIN, b"http://model:8000", b"/"),
    (PLAIN, b"http://model:8000?x=1", b"/?x=1"),
    (PLAIN, b"http://model:8000#f", b"/#f"),
    (PLAIN, b"http://model/v1", None),
    (PLAIN, b"http://model:80001/v1", None),
    (PLAIN, b"http://model:8000.evil.com/v1", None),
    (PLAIN, b"http://evil.com/http://model:8000/v1", None),
    (PLAIN, b"http://model:8000@evil.com/v1", None),
    (PLAIN, b"http://me@model:8000/v1", None),
    (PLAIN, b"https://model:8000/v1", None),
    (PLAIN, b"ftp://model:8000/v1", None),
    (PLAIN, b"/v1/models/", None),
    (PLAIN, b"../v1", None),
    (PLAIN, b"", None),
    (PLAIN, b"http://model:8000//evil.com/x", b"/.//evil.com/x"),
    (PLAIN, b"http://model:8000/\\evil.com", b"/./\\evil.com"),
    (PLAIN, b"http://model:8000/\t/evil.com", b"/./\t/evil.com"),
    (ROOTED, b"http://model:8000/tenant-a/v1/models/", b"/v1/models/"),
    (ROOTED, b"http://model:8000/tenant-a", b"/"),
    (ROOTED, b"http://model:8000/tenant-a?x", b"/?x"),
    (ROOTED, b"/tenant-a/v1", b"/v1"),
    (ROOTED, b"/tenant-a//evil.com", b"/.//evil.com"),
    (ROOTED, b"http://model:8000/tenant-ab/v1", None),
    (ROOTED, b"http://model:8000/tenant-b/v1", None),
    (ROOTED, b"/login", None),
    (SECURE, b"https://api.example.com/v1/x", b"/v1/x"),
    (SECURE, b"https://api.example.com:443/v1/x", b"/v1/x"),
    (SECURE, b"http://api.example.com/v1/x", None),
    (SECURE, b"https://api.example.com:8443/v1/x", None),
    (SIX, b"http://[::1]/x", b"/x"),
    (SIX, b"http://[::1]:80/x", b"/x"),
    (SIX, b"http://::1/x", None),
    (PLAIN, b"http://model:" + b"9" * 5000 + b"/x", None),
    (PLAIN, b"http://model:00008000/x", b"/x"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "said", "seen"), WHERE)
async def test_only_what_the_model_itself_serves_is_ours(url: str, said: bytes, seen: bytes | None) -> None:
    assert homeward(said, backend(url)) == (said if seen is None else seen)


@given(rest=st.text("/\\.?#@:\t%a", max_size=12).map(str.encode), own=st.sampled_from([PLAIN, ROOTED.rstrip("/")]))
def test_nobody_is_sent_to_another_host(rest: bytes, own: str) -> None:
    said = own.encode() + rest
    seen = homeward(said, backend(own))
    browser = seen.replace(b"\t", b"").replace(b"\\", b"/")
    assert seen == said or (browser.startswith(b"/") and not browser.startswith(b"//"))


def answering(status: bytes, headers: bytes, body: bytes = b"") -> Script:
    async def answer(seen: Seen, line: Line) -> None:
        await line.send(reply(body, status=status, headers=headers.replace(b"HOST", seen.header("host") or b"")))

    return answer


async def ask(door: Door, path: bytes = b"/x") -> bytes:
    return (await door.ask(b"GET %b HTTP/1.1\r\nHost: proxy\r\n\r\n" % path))[0]


async def test_a_client_that_is_redirected_stays(door: Door, upstream: Upstream) -> None:
    headers = b"Location: http://HOST/x/?a=b\r\nContent-Location:http://HOST/y\r\nREFRESH: 5; URL='http://HOST/z'\r\n"
    upstream.on("/x", answering(b"307 Temporary Redirect", headers))
    for _ in range(2):  # the second head is known already
        head = await ask(door)
        assert b"\r\nLocation: /x/?a=b\r\nContent-Location:/y\r\nREFRESH: 5; URL='/z'\r\n" in head
        assert b"\r\nx-ratchet-record-id: " in head


@pytest.mark.parametrize("line", [b"Location: https://elsewhere.example/x", b"Refresh: 5", b"Refresh: 0;url=/y",
                                  b"X-Location: http://HOST/x", b"Link: <http://HOST/x>; rel=next"])  # fmt: skip
async def test_what_names_somebody_else_is_left_alone(door: Door, upstream: Upstream, line: bytes) -> None:
    upstream.on("/x", answering(b"201 Created", line + b"\r\n"))
    assert line.replace(b"HOST", b"127.0.0.1:%d" % upstream.port) in await ask(door)


async def test_each_answer_has_its_own_length(door: Door, upstream: Upstream) -> None:
    async def created(seen: Seen, line: Line) -> None:
        host = seen.header("host") or b""
        await line.send(reply(seen.target, status=b"201 Created", headers=b"Location: http://%b/made\r\n" % host))

    upstream.default = created  # type: ignore[method-assign]
    for path in (b"/a", b"/abc", b"/" + b"d" * 300, b"/a"):
        head, body = await door.ask(b"GET %b HTTP/1.1\r\nHost: proxy\r\n\r\n" % path)
        assert b"\r\nLocation: /made\r\n" in head
        assert body == path


async def test_the_setting_leaves_every_line_as_it_came(upstream: Upstream, tmp_path: Path) -> None:
    upstream.on("/x", answering(b"301 Moved Permanently", b"Location: http://HOST/y\r\n"))
    settings = config(gateway={"rewrite_locations": False})
    async with open_gateway(tmp_path, upstream.url, settings=settings) as door:
        assert b"\r\nLocation: %b/y\r\n" % upstream.url.encode() in await ask(door)


async def test_each_arm_speaks_of_itself_and_below_its_path(upstream: Upstream, tmp_path: Path) -> None:
    async with serve_upstream() as other:
        other.default = answering(b"302 Found", b"Location: http://HOST/lora/made\r\n")  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url + "/lora") as door:
            assert b"\r\nLocation: /made\r\n" in await ask(door)
            assert other.seen[0].target == b"/lora/x"


async def test_an_http_1_0_client_stays_too(door: Door, upstream: Upstream) -> None:
    async def chunked(seen: Seen, line: Line) -> None:
        head = b"HTTP/1.1 302 Found\r\nLocation: http://%b/y\r\n" % (seen.header("host") or b"")
        await line.send(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    upstream.on("/x", chunked)
    answer = await door.dialogue(b"GET /x HTTP/1.0\r\n\r\n")
    assert b"\r\nLocation: /y\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")
