"""Every URL of ours under hostile requests: bodies without end, numbers out of range, wrong tokens one after another.

The table is the app's own list of routes, the console's included: a route that is added is tested, too.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from proxy import limits
from proxy.app.web_server import WebServer
from proxy.clock import ManualClock
from proxy.limits import Guesses
from proxy.loop.look.explain import explain, history
from proxy.status import PhaseStatus, Status
from proxy.store.store import Store
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.auth import SESSION_COOKIE
from proxy.web.console import with_console
from proxy.web.limits import MAX_ADMIN_BODY_BYTES
from tests.harness.install import Install

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"authorization": f"Bearer {TOKEN}"}
ODD = ("1e308", "1e300", "-1", "9" * 26, str(2**63), "9" * 5000, "NaN", "Infinity", "-inf", "١٢", "²", "1_0", "0x10")
"""What is no number to anybody, or none that a database can hold."""
PARAMETERS = ("at", "before", "limit", "page", "since", "until", "user", "conversation", "arm", "model", "experiment",
              "status", "outcome", "kind", "min_quality", "max_quality", "feedback", "text", "cursor", "range", "split",
              "with", "holds", "next", "line", "id", "epoch")  # fmt: skip


class Port:
    """A whole admin port as the controller serves it, console included, on a real store."""

    def __init__(self, install: Install, token: str | None = TOKEN) -> None:
        self.install = install
        config = install.config
        self.config = replace(config, admin=replace(config.admin, token=token))
        self.refused: list[str] = []
        self.guesses = Guesses(install.clock, count=self.refused.append)
        self.app: Starlette | None = None
        self.address = ("", 0)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        store = await self.install.open_store()
        await store.models.add("champion")
        self.app = create_admin_app(with_console(self._services(store), self.install.root / "training"))
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        server = WebServer(self.app, listener, name="admin")
        await server.start()
        try:
            url = f"http://127.0.0.1:{self.address[1]}"
            async with aiohttp.ClientSession(url, cookie_jar=aiohttp.DummyCookieJar()) as client:
                yield client
        finally:
            await server.stop()
            await store.close()

    def _services(self, store: Store) -> AdminServices:
        async def status() -> Status:
            return Status(phase=PhaseStatus(name="idle"))

        async def submit(verb: str, args: Mapping[str, Any], who: str, why: str, key: Any) -> int:
            return (await store.commands.submit(verb, who=who, why=why, args=args, key=key)).id

        return AdminServices(
            config=self.config,
            clock=self.install.clock,
            keys=self.install.keys,
            metrics=lambda accept: (b"up 1\n", "text/plain; version=0.0.4"),
            status=status,
            health=lambda: {"status": "ok"},
            store=lambda: store,
            submit=submit,
            explain=lambda at: explain(store, at),
            history=lambda limit, before: history(store, limit, before),
            guesses=self.guesses,
        )

    def routes(self, method: str) -> list[str]:
        """The paths that take `method`, each parameter filled with a 1."""
        assert self.app is not None
        paths = [
            route.path for route in self.app.routes if isinstance(route, Route) and method in (route.methods or ())
        ]
        return [_filled(path, "1") for path in paths]

    async def raw(self, data: bytes) -> bytes:
        """What comes back for exactly these bytes, while no more follow: the first of it."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        try:
            async with asyncio.timeout(20):
                return await reader.read(65_536)
        finally:
            writer.close()


def _filled(path: str, value: str) -> str:
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + value + rest.partition("}")[2]
    return path


@pytest.fixture
def port(tmp_path: Path) -> Port:
    return Port(Install(tmp_path))


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


async def test_no_route_reads_a_body_that_it_will_refuse(port: Port) -> None:
    async with port.running():
        paths = port.routes("POST")
        assert {"/api/session", "/api/commands", "/actions", "/login", "/logout"} <= set(paths)
        for path in paths:
            opening = head(
                "POST", path, "Content-Length: 62914560", "Content-Type: application/json", "x-ratchet-csrf: 1"
            )
            answer = await port.raw(opening)  # and not a byte of the body
            is_open = path in ("/api/session", "/login")
            assert answer.split(b" ")[1] == (b"413" if is_open else b"401"), (path, answer)
            answer = await port.raw(opening[:-2] + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            assert answer.split(b" ")[1] == b"413", (path, answer)


async def test_a_body_without_a_length_ends_at_the_limit(port: Port) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b'{"token": "' + b"a" * MAX_ADMIN_BODY_BYTES

    async with port.running() as client:
        for path in port.routes("POST"):
            kind = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
            headers = {**BEARER, "content-type": kind, "x-ratchet-csrf": "1"}
            async with client.post(path, data=endless(), headers=headers) as answer:
                expected = 204 if path == "/logout" else 413  # which reads no body at all
                assert answer.status == expected, path
            async with client.post(path, data=b"x" * MAX_ADMIN_BODY_BYTES, headers=headers) as answer:
                assert answer.status != 413, path


async def test_a_head_and_its_trailers_end_too(port: Port) -> None:
    async with port.running():
        lines = b"".join(b"x-%d: %b\r\n" % (number, b"a" * 1000) for number in range(400))
        assert (await port.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + lines)).startswith(b"HTTP/1.1 431 ")
        endless = b"GET /health HTTP/1.1\r\nHost: localhost\r\nx: " + b"a" * 400_000
        assert (await port.raw(endless)).startswith(b"HTTP/1.1 431 ")
        chunked = head("POST", "/api/session", "Transfer-Encoding: chunked", "x-ratchet-csrf: 1",
                       "Content-Type: application/json") + b"0\r\n"  # fmt: skip
        assert (await port.raw(chunked + 5000 * (b"x: " + b"a" * 1000 + b"\r\n"))).startswith(b"HTTP/1.1 431 ")


async def test_no_number_is_an_error_of_ours(port: Port) -> None:
    async with port.running() as client:
        assert port.app is not None
        for value in ("1e308", "-1", "9" * 26, "9" * 5000, "NaN", "١٢", str(2**63), ""):
            query = dict.fromkeys(PARAMETERS, value)
            for route in port.app.routes:
                assert isinstance(route, Route)
                url = client._base_url.with_path(_filled(route.path, value)).with_query(query)  # type: ignore[union-attr]
                async with client.get(url, headers=BEARER, allow_redirects=False) as answer:
                    assert answer.status < 500, (str(url)[:200], await answer.text())


NUMBERS = ("/api/explain?at=", "/api/history?before=", "/api/history?limit=", "/history?before=", "/api/commands/",
           "/actions/", "/history/", "/experiment/", "/api/records?limit=", "/api/records?status=",
           "/api/records?experiment=", "/api/records?min_quality=", "/api/records?since=", "/records?since=",
           "/api/datasets/1/lines?page=", "/api/datasets/1/lines?limit=", "/runs/1/data?page=",
           "/api/checks?limit=", "/api/checks/", "/checks/", "/api/checks/1/comparisons?limit=")  # fmt: skip


async def test_a_number_out_of_range_is_the_askers_mistake(port: Port) -> None:
    async with port.running() as client:
        for place, value in itertools.product(NUMBERS, ODD):
            async with client.get(place + value, headers=BEARER, allow_redirects=False) as answer:
                assert 400 <= answer.status < 500, (place, value[:40], await answer.text())


SENSELESS = (
    b'{"verb": "share", "why": "x", "args": {"share": 1e308}}',
    b'{"verb": "share", "why": "x", "args": {"share": -1}}',
    b'{"verb": "share", "why": "x", "args": {"share": NaN}}',
    b'{"verb": "share", "why": "x", "args": {"share": 99999999999999999999999999}}',
    b'{"verb": "share", "why": "x", "args": {"share": true}}',
    b'{"verb": "trigger", "why": "x", "args": {"no_train": 1e308}}',
    b'{"verb": "trigger", "why": "x", "args": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    b'{"verb": "trigger", "why": "a\\u0000b"}',
    b'{"verb": 1e308, "why": "x"}',
    b'{"verb": "pause", "why": 1e308}',
    b'{"verb": "pause", "why": "\\ud800"}',
    b"[" * 60_000,
    b"",
)


async def test_an_order_that_makes_no_sense_is_the_askers_mistake(port: Port) -> None:
    async with port.running() as client:
        for body in SENSELESS:
            headers = {**BEARER, "content-type": "application/json"}
            async with client.post("/api/commands", data=body, headers=headers) as answer:
                assert 400 <= answer.status < 500, (body[:80], await answer.text())
        for share in ("nan", "inf", "1e308", "-1", "101", "١", ""):
            form = {"verb": "share", "why": "x", "who": "me", "share": share}
            async with client.post("/actions", data=form, headers=BEARER) as answer:
                assert answer.status == 422, share
                assert "per cent" in await answer.text()


async def test_every_answer_says_nosniff(port: Port) -> None:
    async with port.running() as client:
        for headers in ({}, BEARER):
            for path in (*port.routes("GET"), "/nothing", "/api/explain?at=x", "/%00", "/api/records?text=%00"):
                async with client.get(path, headers=headers, allow_redirects=False) as answer:
                    assert answer.headers.get("x-content-type-options") == "nosniff", (path, answer.status)
            for path in port.routes("POST"):
                async with client.post(path, headers=headers) as answer:
                    assert answer.headers.get("x-content-type-options") == "nosniff", (path, answer.status)


GUESSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "session": ("POST", "/api/session", {"json": {"token": "wrong"}, "headers": {"x-ratchet-csrf": "1"}}),
    "login": ("POST", "/login", {"data": {"token": "wrong"}, "headers": {"x-ratchet-csrf": "1"}}),
    "bearer": ("GET", "/status", {"headers": {"authorization": "Bearer wrong"}}),
    "cookie": ("GET", "/status", {"headers": {"cookie": f"{SESSION_COOKIE}=99999999999.beef"}}),
}


@pytest.mark.parametrize("way", GUESSES)
async def test_whoever_guesses_is_slowed_down_and_seen(way: str, port: Port, caplog: pytest.LogCaptureFixture) -> None:
    method, path, request = GUESSES[way]
    with caplog.at_level(logging.WARNING):
        async with port.running() as client:
            answers = []
            for _ in range(60):
                async with client.request(method, path, **request) as answer:
                    answers.append((answer.status, answer.headers.get("retry-after")))
            assert answers[:10] == [(401, None)] * 10
            assert {status for status, _ in answers[10:]} == {429}
            if way != "login":
                assert answers[-1][1] == "1"
            port.install.clock.advance(2.0)
            async with client.request(method, path, **request) as answer:
                assert answer.status == 401
            async with client.get("/status", headers=BEARER) as answer:  # the token itself is never locked out
                assert answer.status == 200
    assert port.refused == ["wrong"] * 10 + ["too_many"] * 50 + ["wrong"]
    said = [record.getMessage() for record in caplog.records if record.name == limits.__name__]
    assert len(said) == 12
    assert all("127.0.0.1" in line for line in said)
    assert not any("wrong token" not in line or "beef" in line for line in said)


async def test_who_gives_no_token_guesses_nothing(port: Port) -> None:
    async with port.running() as client:
        for _ in range(30):
            async with client.get("/status") as answer:
                assert answer.status == 401
    assert port.refused == []


async def test_an_ended_session_is_no_guess(port: Port) -> None:
    async with port.running() as client:
        form = {"data": {"token": TOKEN}, "headers": {"x-ratchet-csrf": "1"}}
        async with client.post("/login", **form) as answer:
            cookie = answer.headers["set-cookie"].partition(";")[0]
        port.install.clock.advance(86_400)
        for _ in range(30):
            async with client.get("/status", headers={"cookie": cookie}) as answer:
                assert answer.status == 401
    assert port.refused == []


async def test_a_short_token_has_to_wait_even_if_it_is_right(tmp_path: Path) -> None:
    port = Port(Install(tmp_path), token="short")
    async with port.running() as client:
        right = {"authorization": "Bearer short"}
        async with client.get("/status", headers=right) as answer:
            assert answer.status == 200
        for _ in range(20):
            async with client.get("/status", headers={"authorization": "Bearer wrong"}):
                pass
        async with client.get("/status", headers=right) as answer:
            assert answer.status == 429
        session = {"json": {"token": "short"}, "headers": {"x-ratchet-csrf": "1"}}
        async with client.post("/api/session", **session) as answer:
            assert answer.status == 429
        async with client.post("/login", data={"token": "short"}, headers={"x-ratchet-csrf": "1"}) as answer:
            assert answer.status == 429
        port.install.clock.advance(30)
        async with client.get("/status", headers=right) as answer:
            assert answer.status == 200


def test_addresses_are_told_apart_and_a_network_of_ipv6_is_one() -> None:
    guesses = Guesses(ManualClock())
    for number in range(10):
        assert guesses.wrong(f"2001:db8::{number:x}") == 0.0
    assert guesses.wrong("2001:db8::ffff") > 0
    assert guesses.wait_s("2001:db8::1") > 0
    assert guesses.wrong("2001:db8:0:1::1") == 0.0
    assert guesses.wait_s("10.0.0.1") == 0.0
