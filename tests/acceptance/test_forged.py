"""Forged evidence on a real Ratchet: one address with a crowd of made-up users is one voice, honest voters decide.

Strangers come through a balancer on loopback, which is trusted and says in X-Forwarded-For whom it saw.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.harness.cases import send
from tests.harness.contest import CHAT_PATH, Contest, chat, contest
from tests.harness.serve import Answer, request

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_RULES: Final[dict[str, Any]] = {
    "ab_test_config": {
        "quality_weight": 0.0,
        "latency_weight": 0.0,
        "feedback_weight": 1.0,
        "min_duration_hours": 0.0,
        "watch_hours": 0.0,
    },
    "feedback": {"rate_per_second": 10000},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def testing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Contest]:
    async with contest(tmp_path_factory.mktemp("r"), settings=_RULES) as found:
        yield found


class Crowd:
    """Users who ask and vote, each from the address that it is given."""

    def __init__(self, testing: Contest) -> None:
        self.testing = testing
        self.asked = 0

    async def vote(self, user: str, address: str, up: dict[str, bool]) -> None:
        """One question of the user, and a thumb as `up` says for the arm that answered."""
        headers = {"x-user-id": user, "X-Forwarded-For": address, "Content-Type": "application/json"}
        answer: Answer = await send(self.testing.ratchet.base_url, CHAT_PATH, json.dumps(chat()).encode(), headers)
        assert answer.status == 200, answer.body
        self.asked += 1
        thumb = 1 if up[answer.headers["x-ratchet-arm"]] else -1
        body = {"record_id": answer.headers["x-ratchet-record-id"], "feedback": thumb}
        voted = await send(self.testing.ratchet.base_url, "/-/feedback", json.dumps(body).encode(), headers)
        assert voted.status == 202, voted.body

    async def even(self, users: range, *, better: bool = False) -> None:
        """Each at an address of its own: two of three like what they get, or more of the challenger's."""

        async def one(number: int) -> None:
            liked = number % 3 > 0
            up = {"champion": number % 2 > 0, "challenger": number % 10 > 0} if better else dict.fromkeys(ARMS, liked)
            for _ in range(2):
                await self.vote(f"honest-{number}", f"198.{number // 250}.{number % 250}.7", up)

        await self._all(one(number) for number in users)

    async def forge(self, users: int) -> None:
        """All from one address, under a new name each, for the challenger."""
        up = {"champion": False, "challenger": True}
        await self._all(self.vote(f"made-up-{number}", "203.0.113.9", up) for number in range(users))

    async def looked(self) -> dict[str, Any]:
        """The status, once the loop has judged all of it."""
        assert await self.testing.judged(self.asked), await asyncio.to_thread(self._status)
        return dict(await asyncio.to_thread(self._status))

    async def _all(self, votes: Iterable[Coroutine[Any, Any, None]]) -> None:
        """A few at a time."""
        room = asyncio.Semaphore(16)

        async def admitted(vote: Coroutine[Any, Any, None]) -> None:
            async with room:
                await vote

        await asyncio.gather(*map(admitted, votes))

    def _status(self) -> dict[str, Any]:
        return dict(request(self.testing.ratchet.admin_url, "/status").json())


ARMS: Final = ("champion", "challenger")


async def test_a_crowd_from_one_address_forces_nothing_and_honest_voters_decide(testing: Contest) -> None:
    await testing.begin()
    crowd = Crowd(testing)
    await crowd.forge(200)
    await crowd.even(range(90))
    status = await crowd.looked()
    assessment = status["experiment"]["assessment"]
    assert assessment["verdict"] == "continue"
    ratio = assessment["sample_ratio"]
    assert ratio["champion_users"] + ratio["challenger_users"] == 290  # each name is a user of its arm
    assert assessment["effective_users"] < 120  # but not a voice
    records = request(testing.ratchet.admin_url, "/api/records?limit=500").json()["records"]
    clusters = {record["cluster"] for record in records if "claimed" in record["flags"]}
    assert len(clusters) == 91
    more = 100
    while await testing.judged(crowd.asked):  # how chance divides the users, it may take some more of them
        assert more < 2_000
        await crowd.even(range(more, more + 240), better=True)
        more += 240
    await testing.entry("won")
