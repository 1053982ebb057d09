"""A challenger with half of the users on a real Ratchet, within a second or two: "training" names a server that runs.

Champion and challenger are servers whose every byte is the test's to choose. Each `begin` makes a new challenger out of
the same server, so that one process can hold many tests, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.routes import ROUTES_FILE, RouteTable, read_routes
from tests.harness.cases import send
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.upstream import Seen, Upstream, serve_upstream

__all__ = ["CHAT_PATH", "Contest", "chat", "contest", "posts"]

CHAT_PATH: Final = "/v1/chat/completions"
_PATIENCE_S: Final = 60.0
_RULES: Final[dict[str, Any]] = {
    "check_interval_seconds": 0.1,
    "gateway": {"expose_arm": True},
    "server": {"drain_seconds": 1},
    "trigger_config": {
        "enable_sample_count": False,
        "enable_scheduled": False,
        "enable_quality_drop": False,
        "min_usable_samples": 1,
        "cooldown_hours": 0,
    },
    "generator_config": {"holdout_share": 0, "min_quality_score": "none"},
    "ab_test_config": {"initial_challenger_traffic": 0.5, "stages": [0.5]},
    "deployer": {"kind": "static"},
}

_FIRST: Final = ("first", "second", "third")
"""Users whose questions are there to be trained on."""


def chat(words: str = "In which aisle are the screws?", **changes: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": "m", "messages": [{"role": "user", "content": words}], **changes}


class Contest:
    """A running Ratchet, its two models, and how far its loop is."""

    def __init__(self, ratchet: RatchetProcess, champion: Upstream, challenger: Upstream) -> None:
        self.ratchet = ratchet
        self.champion = champion
        self.challenger = challenger
        self._since = 0
        """What the loop had done when the last order was given."""

    async def begin(self) -> None:
        """A fresh challenger; return when its users are sent there."""
        await self.order("trigger")
        routes: RouteTable = await self._until(self._published, "the phase testing")
        await self._until(
            lambda: f"route table version {routes.version} is in use" in self.ratchet.log, "the new routes"
        )

    async def order(self, verb: str) -> None:
        """Tell the loop what to do."""
        self._since = max((entry["seq"] for entry in await asyncio.to_thread(self._history)), default=0)
        order, own = {"verb": verb, "why": "a test wants it"}, {"x-ratchet-csrf": "1"}
        answer = await asyncio.to_thread(
            request, self.ratchet.admin_url, "/api/commands", method="POST", body=order, headers=own
        )
        assert answer.status == 202, answer.body

    async def ask(self, user: str, body: Any = None, *, path: str = CHAT_PATH) -> Answer:
        """One request of this user."""
        return await send(self.ratchet.base_url, path, json.dumps(body or chat()).encode(), {"x-user-id": user})

    async def reaches(self, phase: str) -> None:
        """Return once the loop is in this phase."""
        await self._until(lambda: self._phase() == phase, f"the phase {phase}")

    async def judged(self, asked: int) -> bool:
        """Whether the test still runs, once the loop has judged so many requests of it or ended it."""

        def look() -> str | None:
            status = request(self.ratchet.admin_url, "/status").json()
            if status["phase"]["name"] != "testing":
                return "over"
            judged = (status["experiment"] or {}).get("assessment") or {}
            counted = judged.get("champion_requests", 0) + judged.get("challenger_requests", 0)
            about_to_act = status["next"]["action"] is not None
            return "goes on" if counted >= asked and not about_to_act else None

        found: str = await self._until(look, f"a look at {asked} requests")
        return found == "goes on"

    async def has_samples(self, count: int) -> None:
        """Return once so many records may be trained on."""

        def look() -> bool:
            records = request(self.ratchet.admin_url, "/api/records?limit=500").json()["records"]
            return sum("sample" in record["flags"] for record in records) >= count

        await self._until(look, f"{count} samples")

    def routes(self) -> RouteTable:
        """The table in force."""
        return read_routes(self.ratchet.data_dir / ROUTES_FILE)

    async def entry(self, event: str) -> dict[str, Any]:
        """What the loop did after the last order, once it has done this."""

        def look() -> dict[str, Any] | None:
            fitting = (entry for entry in self._history() if entry["event"] == event and entry["seq"] > self._since)
            return next(fitting, None)

        found: dict[str, Any] = await self._until(look, f"the event {event}")
        return found

    def _history(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(request(self.ratchet.admin_url, "/api/history?limit=200").json()["entries"])

    def _published(self) -> RouteTable | None:
        """The routes of the test that runs: they are published a moment after it has begun."""
        status, routes = request(self.ratchet.admin_url, "/status").json(), self.routes()
        runs = status["phase"]["name"] == "testing" and status["experiment"]["id"] == routes.experiment_id
        return routes if runs and routes.challenger is not None else None

    def _phase(self) -> str:
        return str(request(self.ratchet.admin_url, "/status").json()["phase"]["name"])

    async def _until(self, look: Any, what: str) -> Any:
        try:
            return await asyncio.to_thread(await_true, look, what, limit_s=_PATIENCE_S)
        except AssertionError as exc:
            raise AssertionError(f"{exc}:\n{self.ratchet.log}") from None


def posts(upstream: Upstream) -> list[Seen]:
    """What users asked of it, or a warm-up in their name; health checks are no POSTs."""
    return [seen for seen in upstream.seen if seen.method == "POST"]


@contextlib.asynccontextmanager
async def contest(
    folder: Path, *, model: str | None = None, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Contest]:
    """A running Ratchet with samples to train on. `model`: the challenger is this name on the champion's server."""
    async with serve_upstream() as champion, serve_upstream() as challenger:
        result = {"url": challenger.url if model is None else champion.url, "model": model}
        trainer = {
            "kind": "command",
            "command": ["sh", "-c", f"echo '{json.dumps(result)}' > {{result_path}}"],
            "poll_seconds": 0.1,
        }
        rules = {**_RULES, "trainer": trainer}
        for table, changes in (settings or {}).items():
            rules[table] = {**rules.get(table, {}), **changes}
        ratchet = RatchetProcess(folder, champion=champion.url, settings=rules)
        await asyncio.to_thread(ratchet.start)
        try:
            await asyncio.to_thread(ratchet.await_admin)
            found = Contest(ratchet, champion, champion if model else challenger)
            for user in _FIRST:
                await found.ask(user, chat(f"In which aisle does the {user} customer find screws?"))
            await found.has_samples(len(_FIRST))
            yield found
        finally:
            await asyncio.to_thread(ratchet.stop)
