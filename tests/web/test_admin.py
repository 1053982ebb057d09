"""The admin port over a real socket: who may use it, and what it shows of a real store."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from proxy.config import Config
from proxy.errors import TemporaryError
from proxy.status import PhaseStatus, Status
from proxy.store.store import Store
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.auth import SESSION_S, Sessions
from tests.harness.install import Install
from tests.harness.webserver import serving

TOKEN = {"authorization": "Bearer s3cret"}


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


class Admin:
    """An admin port with everything that the composition root would hand in."""

    def __init__(self, install: Install, *, token: str | None = "s3cret", **changes: Any) -> None:
        config = install.config
        self.config = replace(config, admin=replace(config.admin, token=token, **changes.pop("admin", {})))
        self.install = install
        self.changes = changes
        self.submitted: list[tuple[str, Mapping[str, Any], str, str]] = []

    def services(self, store: Store | None) -> AdminServices:
        async def status() -> Status:
            return Status(phase=PhaseStatus(name="idle"))

        async def submit(verb: str, args: Mapping[str, Any], who: str, why: str, key: Any) -> int:
            self.submitted.append((verb, args, who, why))
            assert store is not None
            return (await store.commands.submit(verb, who=who, why=why, args=args, key=key)).id

        async def page(request: Request) -> Response:
            return PlainTextResponse("page")

        services = AdminServices(
            config=self.config,
            clock=self.install.clock,
            keys=self.install.keys,
            metrics=lambda accept: (b"up 1\n", "text/plain; version=0.0.4"),
            status=status,
            health=lambda: {"status": "ok"},
            store=lambda: store,
            submit=submit,
            console=[Route("/", page), Route("/login", page), Route("/static/{name}", page)],
            open_paths=("/login", "/static/"),
            login_path="/login",
        )
        return replace(services, **self.changes)

    @contextlib.asynccontextmanager
    async def running(self, *, store: bool = True) -> AsyncIterator[aiohttp.ClientSession]:
        opened = await self.install.open_store() if store else None
        jar = aiohttp.CookieJar(unsafe=True)
        try:
            async with (
                serving(create_admin_app(self.services(opened))) as url,
                aiohttp.ClientSession(url, cookie_jar=jar) as client,
            ):
                yield client
        finally:
            if opened is not None:
                await opened.close()


async def status_of(client: aiohttp.ClientSession, method: str, path: str, **kwargs: Any) -> int:
    async with client.request(method, path, allow_redirects=False, **kwargs) as response:
        return response.status


async def get(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path, headers=TOKEN) as response:
        return response.status, await response.json()


async def test_with_a_token_everything_but_metrics_and_health_wants_it(install: Install) -> None:
    async with Admin(install).running() as client:
        for path in (
            "/status",
            "/api/records",
            "/api/datasets/run-1/lines",
            "/api/history",
            "/",
            "/runs/run-1/data",
            "/api/checks/1/comparisons",
            "/checks/1/side-by-side",
        ):
            async with client.get(path) as response:
                assert response.status == 401
                assert response.headers["www-authenticate"].startswith("Bearer")
        assert await status_of(client, "GET", "/status", headers={"authorization": "Bearer wrong"}) == 401
        assert await status_of(client, "GET", "/status", headers={"authorization": "Bearer \xfc"}) == 401
        assert await status_of(client, "GET", "/status", headers=TOKEN) == 200
        assert await status_of(client, "GET", "/metrics") == 200
        assert await status_of(client, "GET", "/health") == 200


async def test_metrics_can_want_the_token_too(install: Install) -> None:
    async with Admin(install, admin={"metrics_need_token": True}).running() as client:
        assert await status_of(client, "GET", "/metrics") == 401
        assert await status_of(client, "GET", "/metrics", headers=TOKEN) == 200


async def test_a_token_file_that_was_not_read_does_not_open_the_port(install: Install) -> None:
    admin = Admin(install, token=None, admin={"token_file": "/run/secrets/token"})
    with pytest.raises(ValueError, match="load_config"):
        create_admin_app(admin.services(None))


async def test_without_a_token_only_a_loopback_name_is_answered(install: Install) -> None:
    async with Admin(install, token=None).running() as client:
        for host in ("localhost:8081", "127.0.0.1", "[::1]:8081"):
            assert await status_of(client, "GET", "/status", headers={"host": host}) == 200
        for host in ("evil.example", "localhost.evil.example", "10.0.0.1:8081"):
            assert await status_of(client, "GET", "/status", headers={"host": host}) == 403
            assert await status_of(client, "GET", "/metrics", headers={"host": host}) == 403


async def test_a_browser_is_sent_to_the_login_page_and_gets_in_with_a_cookie(install: Install) -> None:
    csrf = {"x-ratchet-csrf": "1"}
    async with Admin(install).running() as client:
        async with client.get("/", headers={"accept": "text/html"}, allow_redirects=False) as response:
            assert (response.status, response.headers["location"]) == (303, "/login?next=/")
        assert await status_of(client, "GET", "/login") == 200
        assert await status_of(client, "GET", "/static/a.css") == 200
        assert await status_of(client, "POST", "/api/session", json={"token": "no"}, headers=csrf) == 401
        async with client.post("/api/session", json={"token": "s3cret"}, headers=csrf) as response:
            cookie = response.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert "s3cret" not in cookie
        assert await status_of(client, "GET", "/") == 200
        assert await status_of(client, "DELETE", "/api/session", headers=csrf) == 200
        assert await status_of(client, "GET", "/status") == 401


async def test_a_session_ends_and_can_not_be_made_up(install: Install) -> None:
    sessions = Sessions("s3cret", install.clock)
    session = sessions.issue()
    assert sessions.valid(session)
    ends, mac = session.split(".")
    assert not sessions.valid(f"{int(ends) + 1}.{mac}")
    assert not sessions.valid("")
    assert not Sessions("other", install.clock).valid(session)
    install.clock.advance(SESSION_S)
    assert not sessions.valid(session)


async def test_a_cookie_alone_changes_nothing(install: Install) -> None:
    order = {"verb": "pause", "why": "maintenance"}
    async with Admin(install).running() as client:
        session = {"cookie": f"ratchet_session={Sessions('s3cret', install.clock).issue()}"}
        assert await status_of(client, "POST", "/api/commands", json=order, headers=session) == 403
        ours = session | {"x-ratchet-csrf": "1"}
        assert await status_of(client, "POST", "/api/commands", data=b"verb=pause", headers=ours) == 415
        assert await status_of(client, "POST", "/api/commands", json=order, headers=ours) == 202
        assert await status_of(client, "POST", "/api/commands", json=order, headers=TOKEN) == 202


async def test_a_local_page_of_another_site_can_not_give_orders_without_a_token(install: Install) -> None:
    order = {"verb": "promote", "why": "mischief"}
    admin = Admin(install, token=None)
    async with admin.running() as client:
        assert await status_of(client, "POST", "/api/commands", json=order) == 403
        assert await status_of(client, "OPTIONS", "/api/commands", headers={"origin": "http://evil.example"}) == 405
    assert admin.submitted == []


async def test_an_order_is_written_down_with_who_and_why(install: Install) -> None:
    admin = Admin(install)
    body = {"verb": "trigger", "args": {"no_train": True}, "who": "ann", "why": "look at the data first"}
    async with admin.running() as client:
        async with client.post("/api/commands", json=body, headers=TOKEN) as response:
            answer = await response.json()
        assert (response.status, answer["state"]) == (202, "pending")
        _, found = await get(client, f"/api/commands/{answer['id']}")
        assert (found["verb"], found["args"], found["who"]) == ("trigger", {"no_train": True}, "ann")
        assert (await get(client, "/api/commands/999"))[0] == 404
    assert admin.submitted == [("trigger", {"no_train": True}, "ann", "look at the data first")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verb": "explode", "why": "w"}, "verb"),
        ({"verb": "pause"}, "why"),
        ({"verb": "pause", "why": "  "}, "why"),
        ({"verb": "pause", "why": "w", "who": 7}, "who"),
        ({"verb": "pause", "why": "w", "args": []}, "args"),
        ([], "body"),
    ],
)
async def test_an_order_that_is_no_order_names_the_field(install: Install, body: Any, field: str) -> None:
    async with Admin(install).running() as client, client.post("/api/commands", json=body, headers=TOKEN) as response:
        assert (response.status, (await response.json())["error"]["field"]) == (400, field)


async def test_tasks_are_listed_alone_or_left_out_and_no_name_of_theirs_hides_an_answer(install: Install) -> None:
    answered, task = install.record(aliases=["message-1"]), install.record(aliases=["message-1"])
    task = replace(task, kind="task")
    await install.fill([answered, task])
    async with Admin(install).running() as client:
        for query, expected in (("task", [task.id]), ("-task", [answered.id]), ("-chat", [task.id])):
            _, page = await get(client, f"/api/records?kind={query}")
            assert [row["id"] for row in page["records"]] == expected
        _, found = await get(client, "/api/records/message-1")
        assert found["id"] == answered.id
        status, refused = await get(client, "/api/records?kind=-tasks")
        assert (status, refused["error"]["message"][:21]) == (400, "kind: not one of chat")


async def test_records_are_listed_filtered_and_paged(install: Install) -> None:
    records = [
        install.record(user=user, quality=quality) for user, quality in (("ann", 0.9), ("bob", 0.2), ("ann", 0.4))
    ]
    await install.fill(records, [install.vote(records[1], -1)])
    newest = [record.id for record in reversed(records)]

    async def ids(query: str) -> list[str]:
        status, answer = await get(client, f"/api/records{query}")
        assert status == 200, answer
        return [row["id"] for row in answer["records"]]

    async with Admin(install).running() as client:
        assert await ids("") == newest
        assert await ids("?user=ann") == [newest[0], newest[2]]
        assert await ids("?min_quality=0.5") == [newest[2]]
        assert await ids("?feedback=negative") == [newest[1]]
        assert await ids("?model=champion&arm=champion&status=2xx&outcome=ok&kind=chat&text=65816") == newest
        assert await ids("?arm=challenger") == []
        _, page = await get(client, "/api/records?limit=2")
        assert page["searched_to"] == page["records"][-1]["created_at"], "as far back as the page has looked"
        assert await ids(f"?limit=2&cursor={page['cursor']}") == newest[2:]
        _, rest = await get(client, f"/api/records?limit=2&cursor={page['cursor']}")
        assert (rest["cursor"], rest["searched_to"]) == (None, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [("arm=left", "arm"), ("model=none", "model"), ("since=soon", "since"), ("limit=0", "limit"),
     ("colour=red", "colour"), ("feedback=loud", "feedback"), ("min_quality=high", "min_quality"),
     ("cursor=x", "cursor")],
)  # fmt: skip
async def test_a_filter_that_means_nothing_is_named(install: Install, query: str, field: str) -> None:
    async with Admin(install).running() as client:
        status, answer = await get(client, f"/api/records?{query}")
    assert (status, answer["error"]["field"]) == (400, field)


async def test_one_record_by_any_of_its_names(install: Install) -> None:
    record = install.record(aliases=["chatcmpl-1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"])
    await install.fill([record], [install.vote(record, 1, source="ann")])
    async with Admin(install).running() as client:
        for name in (record.id, install.ids.sign(record.id), *record.aliases):
            status, document = await get(client, f"/api/records/{name}")
            assert (status, document["id"]) == (200, record.id)
        assert (await get(client, f"/api/records/{install.ids.mint(1.0).hex}"))[0] == 404
    assert document["record_id"] == install.ids.sign(record.id)
    assert (document["query"], document["response"], document["quality"]) == ("What is 65816?", "A CPU.", 0.8)
    assert document["exchange"]["request"] == '{"model": "m"}'
    assert [(vote["source"], vote["feedback"], vote["counts"]) for vote in document["votes"]] == [("ann", 1, True)]


async def test_what_is_away_says_so_and_the_rest_goes_on(install: Install) -> None:
    async with Admin(install, submit=None).running(store=False) as client:
        for path in ("/api/records", "/api/records/x", "/api/commands/1", "/api/explain", "/api/history"):
            assert (await get(client, path))[0] == 503
        assert await status_of(client, "POST", "/api/commands", json={}, headers=TOKEN) == 503
        assert (await get(client, "/status"))[0] == 200
        assert (await get(client, "/nothing"))[0] == 404


async def test_explanation_and_history_pass_their_arguments(install: Install) -> None:
    async def explain(at: float | None) -> Mapping[str, Any]:
        if at == 0:
            raise LookupError("nothing had been decided by then")
        return {"at": at}

    async def history(limit: int, before: float | None) -> list[Mapping[str, Any]]:
        return [{"limit": limit, "before": before}]

    async with Admin(install, explain=explain, history=history).running() as client:
        assert await get(client, "/api/explain?at=5.5") == (200, {"at": 5.5})
        assert (await get(client, "/api/explain?at=0"))[0] == 404
        assert await get(client, "/api/history?limit=1000&before=7") == (
            200,
            {"entries": [{"limit": 1000, "before": 7.0}]},
        )
        assert (await get(client, "/api/explain?at=now"))[0] == 400
        assert (await get(client, "/api/history?limit=nan"))[0] == 400
        assert (await get(client, "/api/history?limit=1001"))[0] == 400


async def test_a_store_that_is_busy_asks_to_come_back(install: Install) -> None:
    async def status() -> Mapping[str, Any]:
        raise TemporaryError("the database is locked", retry_after_s=1.5)

    async with (
        Admin(install, status=status).running(store=False) as client,
        client.get("/status", headers=TOKEN) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (503, "2")


async def test_an_unhealthy_controller_is_a_503(install: Install) -> None:
    async with Admin(install, health=lambda: {"status": "store away"}).running() as client:
        assert await get(client, "/health") == (503, {"status": "store away"})


def test_the_default_configuration_serves_admin_without_a_token_on_loopback() -> None:
    assert Config().admin.host == "127.0.0.1"
    assert Config().admin.token is None
