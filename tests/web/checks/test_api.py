"""GET /api/checks: what checks found, and the answers that they compared, page by page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from policies.gate import GateVerdict
from policies.rows import CheckKind
from proxy.store.store import Store
from proxy.web.admin import AdminServices, create_admin_app
from tests.harness.compared_answers import compared_rows, gate_report, seed_check
from tests.harness.install import Install
from tests.harness.webserver import serving

NOW_US = 1_760_000_000_000_000


@asynccontextmanager
async def admin_port(install: Install, store: Store | None) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async def status() -> Any:
        return {}

    services = AdminServices(
        config=install.config,
        clock=install.clock,
        keys=install.keys,
        metrics=lambda accept: (b"", ""),
        status=status,
        health=dict,
        store=lambda: store,
    )
    async with serving(create_admin_app(services)) as url, aiohttp.ClientSession() as session:
        yield session, url


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, str, Store]]:
    install = Install(tmp_path)
    store = await install.open_store()
    for name in ("base", "short answers"):
        await store.models.add(name)
    rows = compared_rows(1, 60, start_us=NOW_US)
    report = gate_report(GateVerdict.PASS, "it is not worse by 0.07 or more", rows)
    await seed_check(store, rows, started_us=NOW_US, ended_us=NOW_US + 1, report=report)
    await seed_check(store, [], check_id=2, kind=CheckKind.SHADOW, started_us=NOW_US + 2)
    async with admin_port(install, store) as (session, url):
        yield session, url, store
    await store.close()


async def get(session: aiohttp.ClientSession, url: str, **query: str) -> tuple[int, Any]:
    async with session.get(url, params=query) as answer:
        return answer.status, await answer.json()


async def test_checks_are_listed_newest_first_with_their_reports(port: Any) -> None:
    session, url, _ = port
    _, found = await get(session, f"{url}/api/checks")
    shadow, gate = found["checks"]
    assert (shadow["id"], shadow["kind"], shadow["verdict"], shadow["ended_at"]) == (2, "shadow", None, None)
    assert (gate["challenger"], gate["champion"], gate["verdict"]) == ("short answers", "base", "pass")
    assert gate["report"]["reasons"] == ["it is not worse by 0.07 or more"]
    assert gate["started_at"] == "2025-10-09T08:53:20.000Z"
    _, mine = await get(session, f"{url}/api/checks", challenger="short answers", limit="1")
    assert [check["id"] for check in mine["checks"]] == [2]
    assert (await get(session, f"{url}/api/checks", challenger="nobody"))[0] == 400


async def test_a_check_has_its_counts_and_how_people_chose(port: Any) -> None:
    session, url, store = port
    _, page = await get(session, f"{url}/api/checks/1/comparisons", show="worse", limit="1")
    await store.preferences.put(1, page["comparisons"][0]["item"], "ann", "challenger")
    _, check = await get(session, f"{url}/api/checks/1")
    assert check["comparisons"]["total"] == 63
    assert 0 < check["comparisons"]["better"] < check["comparisons"]["worse"]
    assert check["preferences"] == {"champion": 0, "challenger": 1, "tie": 0}
    assert (await get(session, f"{url}/api/checks/3"))[0] == 404
    assert (await get(session, f"{url}/api/checks/99999999999"))[0] == 404


async def test_comparisons_are_walked_by_the_cursor_and_have_both_answers(port: Any) -> None:
    session, url, store = port
    seen, cursor = [], {}
    while True:
        _, page = await get(session, f"{url}/api/checks/1/comparisons", limit="25", **cursor)
        seen += page["comparisons"]
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    assert len({row["item"] for row in seen}) == len(seen) == 63
    row = seen[1]
    assert row["champion"]["text"] != row["challenger"]["text"]
    assert row["outcome"] == -0.1
    await store.preferences.put(1, row["item"], "ann", "challenger")
    _, disputed = await get(session, f"{url}/api/checks/1/comparisons", show="disagrees")
    assert [(one["item"], one["preferences"]) for one in disputed["comparisons"]] == [
        (row["item"], {"ann": "challenger"})
    ]
    _, left = await get(session, f"{url}/api/checks/1/comparisons", show="open", who="ann", limit="200")
    assert len(left["comparisons"]) == 62


async def test_what_means_nothing_is_refused_and_says_why(port: Any) -> None:
    session, url, _ = port
    for query, said in (
        ({"show": "best"}, "show: not one of all, worse, better, open, disagrees"),
        ({"show": "worse", "cursor": "x"}, "cursor: not valid"),
        ({"cursor": "x" * 201}, "cursor: not valid"),
        ({"tag": "x" * 201}, "tag: more than 200 characters"),
        ({"limit": "0"}, "limit:"),
    ):
        status, document = await get(session, f"{url}/api/checks/1/comparisons", **query)
        assert status == 400, query
        assert document["error"]["message"].startswith(said)


async def test_without_a_store_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    async with admin_port(Install(tmp_path), None) as (session, url):
        for path in ("/api/checks", "/api/checks/1", "/api/checks/1/comparisons"):
            assert (await get(session, url + path))[0] == 503
