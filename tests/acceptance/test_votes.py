"""The life of a vote on a running server: ahead of its record, twice, changed, retracted, forged, a stranger's."""

from __future__ import annotations

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.ids import KeyRing, RecordIds
from tests.harness.model_server import create_model_server
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

TOKEN = "the back end's own feedback token"


@pytest.fixture
def ratchet(tmp_path: Path) -> Iterator[RatchetProcess]:
    settings = {"feedback": {"token": TOKEN}}
    with (
        serving_in_thread(create_model_server()) as url,
        RatchetProcess(tmp_path / "r", champion=url, settings=settings) as ratchet,
    ):
        ratchet.await_admin()
        yield ratchet


def chat(ratchet: RatchetProcess, **headers: str) -> str:
    """Ask something; the record id that came back."""
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
    answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body=body, headers=headers)
    assert answer.status == 200
    return answer.headers["x-ratchet-record-id"]


def vote(ratchet: RatchetProcess, record_id: str, feedback: int | None, source: str = "ann", token: str = TOKEN) -> int:
    body = {"record_id": record_id, "feedback": feedback, "source": source}
    headers = {"authorization": f"Bearer {token}"}
    return request(ratchet.base_url, "/-/feedback", method="POST", body=body, headers=headers).status


def record(ratchet: RatchetProcess, record_id: str, *, votes: int) -> dict[str, Any]:
    """The record once it has so many votes, superseded ones included."""

    def look() -> dict[str, Any] | None:
        answer = request(ratchet.admin_url, f"/api/records/{record_id}")
        return answer.json() if answer.status == 200 and len(answer.json()["votes"]) >= votes else None

    found: dict[str, Any] = await_true(look, f"{votes} votes on the record")
    return found


def test_a_vote_counts_once_and_as_it_was_last_meant(ratchet: RatchetProcess) -> None:
    controller = ratchet.controller_pid
    os.kill(controller, signal.SIGSTOP)  # nothing is ingested: the vote comes before its record
    record_id = chat(ratchet)
    assert vote(ratchet, record_id, 1) == 202
    os.kill(controller, signal.SIGCONT)
    assert record(ratchet, record_id, votes=1)["feedback"] == 1

    assert vote(ratchet, record_id, 1) == 202
    twice = record(ratchet, record_id, votes=2)
    assert (twice["feedback"], sum(vote["counts"] for vote in twice["votes"])) == (1, 1)

    assert vote(ratchet, record_id, -1) == 202
    assert record(ratchet, record_id, votes=3)["feedback"] == -1

    assert vote(ratchet, record_id, 1, source="bob") == 202
    both = record(ratchet, record_id, votes=4)
    assert (both["feedback"], sum(vote["counts"] for vote in both["votes"])) == (0, 2)

    assert vote(ratchet, record_id, None) == 202
    assert record(ratchet, record_id, votes=5)["feedback"] == 1, "ann has taken hers back, bob's counts"


def score(ratchet: RatchetProcess, method: str, path: str, body: Any = None, key: str = TOKEN) -> int:
    """One call of a Langfuse client."""
    headers = {"authorization": f"Basic {b64encode(f'pk:{key}'.encode()).decode()}"}
    url = f"/-/langfuse/api/public/scores{path}"
    return request(ratchet.base_url, url, method=method, body=body, headers=headers).status


def test_a_score_of_another_system_comes_before_its_record_changes_and_goes(ratchet: RatchetProcess) -> None:
    trace, name = "3a0de37932e8b19746f20b22414f862f", {"name": "user-feedback", "dataType": "BOOLEAN"}
    os.kill(ratchet.controller_pid, signal.SIGSTOP)  # nothing is ingested
    assert score(ratchet, "POST", "", {"id": "s-1", "traceId": trace, "value": 1, **name}) == 200
    assert score(ratchet, "POST", "", [{"id": "s-1", "traceId": trace, "value": 0, **name}]) == 202
    assert score(ratchet, "POST", "", {"id": "s-1", "traceId": trace, "value": 1, **name}, key="wrong") == 401
    record_id = chat(ratchet, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    os.kill(ratchet.controller_pid, signal.SIGCONT)
    found = record(ratchet, record_id, votes=2)
    assert (found["feedback"], [vote["counts"] for vote in found["votes"]]) == (-1, [False, True])
    assert score(ratchet, "DELETE", "/s-1") == 202
    assert record(ratchet, record_id, votes=3)["feedback"] is None


def test_a_vote_after_its_record_and_a_forgery(ratchet: RatchetProcess, tmp_path: Path) -> None:
    record_id = chat(ratchet)
    assert record(ratchet, record_id, votes=0)["feedback"] is None
    forged = record_id[:30] + ("A" if record_id[30] != "A" else "B") + record_id[31:]
    elsewhere = RecordIds(KeyRing.load_or_create(tmp_path / "other.json")).mint(1.8e9).text
    for bad in (forged, elsewhere, "nonsense"):
        assert vote(ratchet, bad, -1, token="") == 403
    assert vote(ratchet, record_id, 7) == 400
    assert vote(ratchet, record_id, -1) == 202
    voted = record(ratchet, record_id, votes=1)
    assert (voted["feedback"], len(voted["votes"])) == (-1, 1)
