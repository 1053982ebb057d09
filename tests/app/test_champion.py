"""What is said of the champion, from what the workers count and from one question at the start."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.app.champion import ChampionWatch
from proxy.app.model_probe import probe_model
from proxy.app.paths import DataDir
from proxy.app.troubles import Troubles
from proxy.clock import ManualClock
from proxy.config import Config, parse_config
from proxy.gateway.counters import GATEWAY_COUNTERS
from proxy.gateway.faults import Fault, answered_slot, failed_slot, left_slot, refused_slot
from proxy.gateway.outbound import via_token
from proxy.ids import KeyRing
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target, write_routes
from proxy.status import ChampionStatus, PhaseStatus, Status

URL = "http://127.0.0.1:8000"


@dataclass
class Host:
    """A data directory whose workers count what the test says, watched."""

    root: Path
    settings: dict[str, Any] = field(default_factory=lambda: {"url": URL, "name": "old"})

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.data = DataDir(self.root / "data")
        self.data.create()
        self.workers: dict[int, SharedCounters] = {}
        self.keys = KeyRing.load_or_create(self.data.keys)
        self.worker(0)
        self.restart_controller()

    @property
    def config(self) -> Config:
        return parse_config({"champion": self.settings})

    def restart_controller(self) -> None:
        self.troubles = Troubles(self.clock)
        self.watch = ChampionWatch(self.config, self.data, self.clock, self.troubles, self.keys)

    def worker(self, index: int) -> SharedCounters:
        if index not in self.workers:
            self.workers[index] = SharedCounters(self.data.stats(index), GATEWAY_COUNTERS)
        return self.workers[index]

    def count(self, *, good: int = 0, failed: int = 0, fault: Fault = Fault.REFUSED, refused: int = 0,
              status: int = 404, left: int = 0, worker: int = 0, arm: str = "champion") -> None:  # fmt: skip
        """Requests of the next two seconds, and a look."""
        counters = self.worker(worker)
        counters.add(answered_slot(arm), good + failed + refused)
        counters.add(failed_slot(arm, fault), failed)
        counters.add(refused_slot(arm, status), refused)
        counters.add(left_slot(arm), left)
        self.pass_time(2)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.watch.look()

    @property
    def said(self) -> str:
        return self.troubles.of("champion")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_outage_is_said_and_so_is_its_end(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.count(good=4)
    assert (host.watch.healthy, host.said) == (True, "")
    host.count(failed=21)
    assert host.said == (
        f"21 of 25 requests failed in the last minute: connection refused at {URL}; "
        "start the model's server, or correct champion.url"
    )
    began = host.watch.document()["since"]
    for _ in range(97):
        host.count(failed=3)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        host.pass_time(30)
        host.pass_time(16)
        assert host.watch.document()["since"] == began
        host.count(good=1)
    assert caplog.messages[-1] == "champion: answers again after 4 min, 312 requests failed"
    assert (host.watch.healthy, host.said) == (True, "")


def test_what_a_failure_cost_is_not_counted_again_for_the_next(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.count(good=40)
    for failed in (5, 6):
        host.pass_time(60)  # what comes back within seconds is the same trouble
        host.count(failed=failed)
        with caplog.at_level(logging.WARNING):
            host.count(good=3)
        assert caplog.messages[-1] == f"champion: answers again after 2 s, {failed} requests failed"


def test_a_failure_after_a_busy_minute_says_what_is_going_on_now(host: Host) -> None:
    host.count(good=1000)
    host.count(failed=4)
    assert host.said.startswith("the last 4 requests failed, 4 of 1,004 in the last minute: connection refused at ")
    host.count(failed=3)
    assert host.said.startswith("the last 7 requests failed, 7 of 1,007 in the last minute: ")
    host.count(good=1, failed=1)
    assert host.watch.healthy is True


def test_what_is_failing_stays_so_while_nobody_asks(host: Host) -> None:
    host.count(failed=3, fault=Fault.STATUS_503)
    host.pass_time(3600)
    assert host.watch.healthy is False
    assert host.said == (
        f"3 requests failed, and no requests since: status 503 at {URL}; see the log of the model's server"
    )
    assert host.watch.document()["failed_share"] is None
    host.count(good=1, failed=2)
    assert host.watch.healthy is True, "what comes through for the first time came last"


def test_the_documents_figures_are_of_the_last_minute(host: Host) -> None:
    host.count(failed=1, fault=Fault.SILENT)
    error_at = host.clock.now()
    host.pass_time(30)
    host.count(good=3)
    document = host.watch.document()
    assert (document["failed_share"], document["requests"], document["healthy"]) == (0.25, 4, True)
    assert document["last_error"] == {"text": f"no answer in time at {URL}", "at": error_at}
    host.pass_time(29)
    assert (host.watch.document()["failed_share"], host.watch.document()["requests"]) == (0.0, 3)


def test_counters_of_several_workers_add_up_and_a_new_file_counts_from_nothing(host: Host) -> None:
    host.count(good=10)
    host.worker(1)
    host.count(failed=5, worker=1)
    host.count(failed=10, worker=1)
    assert host.watch.document()["requests"] == 25
    host.workers.pop(0).close()
    host.data.stats(0).unlink()
    host.count(good=2, worker=0)  # anew, so that it is less than before
    assert host.watch.document()["requests"] == 27


def test_what_was_counted_before_the_controller_is_not_news(host: Host) -> None:
    host.count(failed=500)
    host.restart_controller()
    host.pass_time(2)
    assert (host.watch.healthy, host.watch.document()["requests"]) == (None, 0)


def test_the_challengers_failures_are_not_the_champions(host: Host) -> None:
    host.count(failed=50, arm="challenger")
    assert (host.watch.healthy, host.watch.document()["requests"]) == (None, 0)


def test_another_champion_begins_with_a_clean_slate(host: Host) -> None:
    host.count(failed=10)
    assert host.said
    for version, name in ((1, "old"), (2, "new")):
        champion = Target(model_id=version, name=name, url=URL)
        write_routes(host.data.routes, RouteTable(version=version, champion=champion))
        host.pass_time(2)
        assert bool(host.said) is (name == "old")
    assert (host.watch.healthy, host.watch.document()["name"]) == (None, "new")


def test_health_that_nobody_has_confirmed_for_long_is_unknown(host: Host) -> None:
    host.count(good=1)
    host.pass_time(899)
    assert host.watch.healthy is True
    host.pass_time(10)
    assert host.watch.healthy is None


def test_a_refusal_is_an_answer_but_that_of_our_own_key_is_not(host: Host, tmp_path: Path) -> None:
    host.count(refused=30, status=401)
    assert host.watch.healthy is True
    assert "old refused all 30 requests of the last minute (401 most often)" in host.watch.note()
    host.count(good=1)
    assert host.watch.note() == ""
    ours = Host(tmp_path / "ours", {"url": URL, "api_key": "sk-1"})
    ours.count(refused=30, status=401)
    assert ours.watch.healthy is False
    assert ours.said == (
        f"30 of 30 requests failed in the last minute: our API key was refused (401) at {URL}; "
        "check champion.api_key and champion.api_key_header"
    )


def test_clients_that_leave_without_an_answer_are_a_sign(host: Host) -> None:
    host.count(left=5)
    assert host.said.startswith(
        "no answers in the last minute, 5 clients disconnected: clients disconnected before any"
    )
    host.pass_time(100)
    assert host.said.startswith("clients disconnected without an answer, and no requests since: ")


def test_credentials_in_a_deployers_url_are_not_shown(host: Host) -> None:
    champion = Target(model_id=2, name="new", url="http://me:secret@127.0.0.1:8000/base")
    write_routes(host.data.routes, RouteTable(version=1, champion=champion))
    host.pass_time(2)
    host.count(failed=3)
    assert "secret" not in host.said + repr(host.watch.document())
    assert "http://127.0.0.1:8000/base" in host.said


def test_status_shows_what_traffic_tells_and_leaves_what_it_does_not(host: Host) -> None:
    phase = PhaseStatus(name="idle")
    loop = Status(phase=phase, champion=ChampionStatus(id=1, name="old", healthy=True), notes=("n",))
    shown = host.watch.into(loop).champion
    assert shown is not None
    assert shown.healthy is True, "the loop's own probe"
    host.count(failed=3)
    merged = host.watch.into(loop)
    assert merged.champion is not None
    assert (merged.champion.id, merged.champion.healthy) == (1, False)
    assert merged.champion.failed_share == 1.0
    assert merged.notes == ("n",)
    first = host.watch.into(Status(phase=phase)).champion
    assert first is not None
    assert first.healthy is False, "before the loop has looked"
    other = Status(phase=phase, champion=ChampionStatus(name="new", healthy=True))
    assert host.watch.into(other) == other, "the routes follow in a moment"


def test_metrics_have_no_sample_while_nothing_is_known(host: Host) -> None:
    registry = CollectorRegistry()
    registry.register(host.watch)

    def shown() -> tuple[float | None, float | None]:
        return tuple(registry.get_sample_value(f"ratchet_champion_{name}") for name in ("up", "failed_share"))  # type: ignore[return-value]

    assert shown() == (None, None)
    host.count(good=3, failed=1)
    assert shown() == (1.0, 0.25)
    host.count(failed=9)
    assert shown()[0] == 0.0


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Model:
    """A server that answers every GET in the way that the test chooses."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.answer: Callable[[], web.Response] = lambda: web.json_response({"data": []})
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        return self.answer()


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    served = Model()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "with_key", "problem"),
    [
        (lambda: web.json_response({"data": []}), False, ""),
        (lambda: web.json_response({}, status=404), False, ""),
        (lambda: web.json_response({}, status=405), False, ""),
        (lambda: web.json_response({}, status=501), False, ""),
        (lambda: web.json_response({}, status=401), False, ""),
        (lambda: web.json_response({}, status=401), True, "refuses our API key (401)"),
        (lambda: web.json_response({}, status=503), False, "answers a plain GET with 503"),
        (lambda: web.json_response({}, status=508), False, "champion.url leads back to this proxy"),
        (lambda: web.Response(text="<h1>hi</h1>", content_type="text/html"), False, "answers with a web page"),
        (lambda: web.Response(text="no", content_type="text/html", status=404), False, ""),
        (lambda: web.Response(status=301, headers={"Location": "https://x.test/"}), False, "https://x.test/"),
    ],
)
async def test_one_harmless_question(
    model: Model, answer: Callable[[], web.Response], with_key: bool, problem: str
) -> None:
    model.answer = answer
    credential = ("authorization", "Bearer sk-1") if with_key else None
    found = await probe_model(model.url, credential=credential, via="ratchet-1")
    assert problem in found
    assert bool(problem) == bool(found)
    assert bool(found) is bool(problem)
    (seen,) = model.seen
    assert (seen.method, seen.path, seen.headers["Via"]) == ("GET", "/v1/models", "1.1 ratchet-1")
    assert seen.headers["User-Agent"].startswith("ratchet/")
    assert ("Authorization" in seen.headers) is with_key


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "http://127.0.0.1:1",
            "connection refused at http://127.0.0.1:1; start the model's server, or correct champion.url",
        ),
        ("http://no-such-host.invalid", "the host name could not be resolved"),
    ],
)
async def test_nobody_there(url: str, problem: str) -> None:
    assert (await probe_model(url)).startswith(problem)


async def test_a_name_server_that_hangs_is_no_model_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr("proxy.app.model_probe._CONNECT_S", 0.1)

    def hang(*args: Any, **more: Any) -> list[Any]:
        let_go.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert await probe_model("http://slow.test") == (
            "connecting timed out at http://slow.test; check champion.url, DNS, the firewall and the network"
        )
    finally:
        let_go.set()


async def test_https_to_a_server_without_tls(model: Model) -> None:
    assert "TLS" in await probe_model(model.url.replace("http:", "https:"))


async def test_the_question_counts_until_traffic_tells_more(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path, {"url": model.url})
    model.answer = lambda: web.json_response({}, status=503)
    await host.watch.ask()
    assert host.watch.healthy is False
    assert host.said.startswith(
        f"checked before the first request: {model.url} answers a plain GET with 503; see the log"
    )
    model.answer = lambda: web.json_response({})
    await host.watch.ask()
    assert (host.watch.healthy, host.said) == (True, "")
    assert "champion: answers after 0 s" in caplog.text
    assert model.seen[0].headers["Via"] == f"1.1 {via_token(host.keys.user_hash).decode()}"
    host.count(failed=3)
    await host.watch.ask()
    assert host.said == "", "it could not be reached, and now it can"
    host.count(failed=3, fault=Fault.STATUS_500)
    await host.watch.ask()
    assert host.said, "a GET that is answered says nothing of answers that fail"


async def test_who_says_no_is_asked_again_and_who_says_yes_is_not(model: Model, tmp_path: Path) -> None:
    host = Host(tmp_path, {"url": model.url})
    running = asyncio.create_task(host.watch.run())
    try:
        async with asyncio.timeout(60):
            while host.watch.healthy is None:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert len(model.seen) == 1
