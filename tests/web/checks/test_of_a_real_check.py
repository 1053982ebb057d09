"""What a real check leaves is what the pages can read: copies of requests, compared by the gate that the loop polls."""

from pathlib import Path

import aiohttp

from proxy.clock import SystemClock
from proxy.ids import KeyRing
from proxy.status import PhaseStatus, Status
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.console import with_console
from tests.checks.test_shadow import answer, shadowing
from tests.checks.world import config_of, history
from tests.harness.webserver import serving


async def test_the_pages_show_what_the_gate_has_compared(tmp_path: Path) -> None:
    async def status() -> Status:
        return Status(phase=PhaseStatus(name="shadowing"))

    records = history(60, each=1)
    async with shadowing(tmp_path, records) as world:
        said = ({"text": ""}, {}, {"raw": "", "status": 500, "fault": "500"})
        await world.add(*(answer(record, 1, **said[at % 3]) for at, record in enumerate(records)))  # type: ignore[arg-type]
        assert (await world.poll()).verdict == "reject"
        services = AdminServices(
            config=config_of(tmp_path),
            clock=SystemClock(),
            keys=KeyRing.load_or_create(tmp_path / "own.json"),
            metrics=lambda accept: (b"", ""),
            status=status,
            health=dict,
            store=lambda: world.store,
        )
        app = create_admin_app(with_console(services, tmp_path))
        async with serving(app) as url, aiohttp.ClientSession(url) as session:

            async def page(path: str) -> str:
                async with session.get(path) as found:
                    assert found.status == 200, path
                    return await found.text()

            async with session.get("/api/checks/1") as found:
                check = await found.json()
            async with session.get("/api/checks/1/comparisons?show=worse&limit=200") as found:
                worse = (await found.json())["comparisons"]
            failed = next(row for row in worse if row["challenger"]["failed"])
            overview = await page("/checks/1")
            blind = await page(f"/checks/1/side-by-side?item={failed['item']}&who=ann")
            named = await page(f"/checks/1/side-by-side?item={failed['item']}&who=ann&blind=0")
    assert check["comparisons"] == {"total": 60, "worse": 40, "better": 0}
    assert len(worse) == 40
    assert "it is worse" in overview
    assert '<th scope="row">empty</th><td class="num">0</td><td class="num">20</td>' in overview
    assert "Where the challenger lost" in overview
    assert "No answer." in blind, "a server's own words may name the model"
    assert "HTTP 500" not in blind
    assert "No answer: HTTP 500" in named
    assert blind.count(failed["champion"]["text"]) == 1
