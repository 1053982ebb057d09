"""A challenger's road on a real Ratchet: brought by its URL, checked on old questions, shadowed, and only then tested.

What is stopped on the way has never answered a user: all that its server was asked came from us.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from starlette.responses import Response

from proxy.routes import ROUTES_FILE, read_routes
from tests.checks.world import Answers, ScriptedModel, well
from tests.harness.require import full
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving

pytestmark = pytest.mark.slow

USERS: Final = 230
SETTINGS: Final[dict[str, Any]] = {
    "check_interval_seconds": 0.1,
    "server": {"drain_seconds": 1},
    "ab_test_config": {"initial_challenger_traffic": 0.5, "shadow_share": 1.0, "shadow_hours": 0.0005},
    "checks": {"replays": 200},
}


class Road:
    """A running Ratchet, whose users have all asked its champion something."""

    def __init__(self, ratchet: RatchetProcess, champion: ScriptedModel) -> None:
        self.ratchet = ratchet
        self.champion = champion
        self._asked = 0

    def ask(self, user: str) -> dict[str, Any]:
        self._asked += 1
        words = f"Question {self._asked}: in which aisle does somebody like {user} find the screws?"
        body = {"model": "m", "messages": [{"role": "user", "content": words}]}
        headers = {"x-user-id": user}
        answer = request(self.ratchet.base_url, "/v1/chat/completions", method="POST", body=body, headers=headers)
        assert answer.status == 200
        return {"record": answer.headers["x-ratchet-record-id"], **answer.json()}

    def challenge(self, url: str, name: str) -> None:
        """As a person does it."""
        command = [sys.executable, "-m", "proxy", "challenge", url, "--name", name, "--why", "a test wants it",
                   "--config", str(self.ratchet.config_file)]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr

    def events(self) -> list[str]:
        entries = request(self.ratchet.admin_url, "/api/history?limit=200").json()["entries"]
        return [entry["event"] for entry in reversed(entries) if entry["event"]]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = request(self.ratchet.admin_url, "/status").json()
        return found

    def reaches(self, phase: str) -> dict[str, Any]:
        await_true(lambda: self.status()["phase"]["name"] == phase, f"the phase {phase}", limit_s=120)
        return self.status()

    def model_of(self, record: str) -> str:
        def stored() -> str | None:
            answer = request(self.ratchet.admin_url, f"/api/records/{record}")
            return answer.json()["model"] if answer.status == 200 else None

        return str(await_true(stored, f"record {record}"))


@pytest_asyncio.fixture
async def road(tmp_path: Path) -> AsyncIterator[Road]:
    champion = ScriptedModel()
    async with serving(champion.app) as url:
        ratchet = RatchetProcess(tmp_path, champion=url, settings=SETTINGS)
        await asyncio.to_thread(ratchet.start)
        try:
            await asyncio.to_thread(ratchet.await_admin)
            found = Road(ratchet, champion)
            for start in range(0, USERS, 10):
                await asyncio.gather(*(asyncio.to_thread(found.ask, f"user-{n}") for n in range(start, start + 10)))
            yield found
        finally:
            await asyncio.to_thread(ratchet.stop)


async def test_a_challenger_is_compared_then_shadows_and_then_gets_its_share(road: Road) -> None:
    challenger = ScriptedModel(delay_s=0.05)
    async with serving(challenger.app) as url:
        await asyncio.to_thread(road.challenge, url, "mine")
        await asyncio.to_thread(road.reaches, "shadowing")
        replays = len(challenger.asked)
        assert 20 <= replays <= 203
        assert challenger.most_together <= 8
        assert read_routes(road.ratchet.data_dir / ROUTES_FILE).challenger is None
        answers = [await asyncio.to_thread(road.ask, f"user-{n}") for n in range(3)]
        assert {await asyncio.to_thread(road.model_of, answer["record"]) for answer in answers} == {"champion"}
        status = await asyncio.to_thread(road.reaches, "testing")
        assert status["challenger"]["name"] == "mine"
        road_taken = ["challenged", "check_started", "shadow_started", "deployed"]
        assert [event for event in road.events() if event in road_taken] == road_taken
        # its first share is what 20 users of so few need: one in eleven, once the worker has seen the new routes
        for start in range(0, 2 * USERS, 30):
            served = [await asyncio.to_thread(road.ask, f"user-{n % USERS}") for n in range(start, start + 30)]
            models = {await asyncio.to_thread(road.model_of, answer["record"]) for answer in served}
            if "mine" in models:
                break
        assert models == {"champion", "mine"}
        found = request(road.ratchet.admin_url, "/api/checks").json()["checks"]
        assert [(check["kind"], check["verdict"]) for check in found] == [("shadow", "pass"), ("gate", "pass")]


BROKEN: Final[dict[str, Answers]] = {
    "empty answers": lambda asked, rng: {"content": ""},
    "a chat template that leaks": lambda asked, rng: {
        "content": f"{well(asked, rng)['content']}<|im_end|>\nHuman: and"
    },
    "an error inside a 200, now and then": lambda asked, rng: (
        Response(json.dumps({"error": {"message": "no memory"}}), media_type="application/json")
        if rng.random() < 0.4
        else well(asked, rng)
    ),
}


_AS_WELL: Final = full("it with empty answers, and tests/checks/test_models.py with each of them")


@pytest.mark.parametrize(
    "name", [name if name == "empty answers" else pytest.param(name, marks=_AS_WELL) for name in BROKEN]
)
async def test_a_broken_challenger_is_stopped_before_any_user_sees_it(road: Road, name: str) -> None:
    challenger = ScriptedModel(BROKEN[name])
    async with serving(challenger.app) as url:
        await asyncio.to_thread(road.challenge, url, "broken")
        await asyncio.to_thread(await_true, lambda: "check_rejected" in road.events(), "the gate's word", limit_s=120)
        assert "deployed" not in road.events()
        recorded = set(road.champion.questions())
        assert set(challenger.questions()) <= recorded, "it was asked nothing that users had not asked before"
        status = await asyncio.to_thread(road.reaches, "idle")
        assert status["totals"]["rejections"] == 1
