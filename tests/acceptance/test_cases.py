"""Every case of `tests/cases` through a running Ratchet: its client gets every byte, and the record says what happened.

Cases with the same settings share one process and are asked all at once. Those that time an answer have a process of
their own, so that no other case makes them wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from policies.records import Outcome
from proxy.ids import KeyRing
from proxy.web.documents import user_text
from proxy.wire.extract import KINDS
from tests.harness.cases import Case, Stage, exchange, send, written
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.upstream import serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ALL: Final = written()
TIMING: Final = [case for case in ALL if case.group == "timing"]
BOTH_NAMES: Final = {"telemetry": {"otel_names": True}}


@dataclass(frozen=True, slots=True)
class House:
    """A running Ratchet, and what its clients got for their cases."""

    ratchet: RatchetProcess
    answers: Mapping[str, Answer]

    async def ask(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """The record of one more request, which is answered well."""
        return await self.record(await send(self.ratchet.base_url, path, json.dumps(body).encode(), headers))

    async def record(self, answer: Answer) -> dict[str, Any]:
        """The record of this answer, once it is there."""
        path = f"/api/records/{answer.headers['x-ratchet-record-id']}"

        def look() -> dict[str, Any] | None:
            found = request(self.ratchet.admin_url, path)
            return dict(found.json()) if found.status == 200 else None

        found: dict[str, Any] = await asyncio.to_thread(await_true, look, f"the record at {path}")
        return found

    def user(self, name: str) -> str | None:
        """How a record names this user."""
        ring = KeyRing.load_or_create(self.ratchet.data_dir / "keys.json")
        return user_text(ring.user_hash(name.encode()))

    def agrees(self) -> bool:
        """Whether the metrics count what the records say. They do so after the commit, so that it may take a moment."""
        records = request(self.ratchet.admin_url, "/api/records?limit=500").json()["records"]
        outcomes = Counter(record["outcome"] for record in records)
        requests = self.samples("ratchet_requests_total")
        counted = {name: sum(n for labels, n in requests.items() if f'outcome="{name}"' in labels) for name in outcomes}
        failed = sum(outcome(record).failed for record in records if KINDS[record["kind"]].operation)
        durations = self.samples("gen_ai_server_request_duration_seconds_count")
        errors = sum(n for labels, n in durations.items() if 'error_type=""' not in labels)
        return counted == outcomes and errors == failed

    def samples(self, name: str) -> dict[str, float]:
        """Every sample of a metric, by its labels."""
        text = request(self.ratchet.admin_url, "/metrics").body.decode()
        found = re.findall(rf"^{name}{{(.*)}} (\S+)$", text, flags=re.MULTILINE)
        return {labels: float(value) for labels, value in found}


def place(case: Case) -> str:
    """Cases of one place share a process."""
    return f"{case.group == 'timing'} {json.dumps(case.settings, sort_keys=True)}"


@contextlib.asynccontextmanager
async def house(cases: list[Case], folder: Path) -> AsyncIterator[House]:
    """One process in front of a server that knows `cases`, all of which have been asked."""
    async with serve_upstream() as upstream:
        upstream.default = Stage(cases).answer  # type: ignore[method-assign]
        settings = {**cases[0].settings, **BOTH_NAMES}
        ratchet = RatchetProcess(folder, champion=upstream.url, settings=settings)
        await asyncio.to_thread(ratchet.start)
        try:
            await asyncio.to_thread(ratchet.await_admin)
            answers = await asyncio.gather(*(exchange(ratchet.base_url, case) for case in cases))
            yield House(ratchet, {case.id: answer for case, answer in zip(cases, answers, strict=True)})
        finally:
            await asyncio.to_thread(ratchet.stop)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def houses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, House]]:
    """Every process, by the place of its cases."""
    places: dict[str, list[Case]] = {}
    for case in ALL:
        places.setdefault(place(case), []).append(case)
    async with contextlib.AsyncExitStack() as stack:
        opened = [stack.enter_async_context(house(cases, tmp_path_factory.mktemp("r"))) for cases in places.values()]
        yield {name: await one for name, one in zip(places, opened, strict=True)}


# -- What a case may ask of its record: (record, what is right, house) -> whether it is so.

Check = Callable[[dict[str, Any], Any, House], bool]


def field_is(name: str, record: dict[str, Any], right: Any, house: House) -> bool:
    return bool(record[name] == right)


def outcome(record: dict[str, Any]) -> Outcome:
    return Outcome[record["outcome"].upper()]


def said(record: dict[str, Any]) -> str:
    """Everything that a record says, and the texts of the kept answer behind one another."""
    try:
        kept = json.loads(record["exchange"]["response"])
    except (TypeError, ValueError):
        kept = None
    return json.dumps(record, ensure_ascii=False) + "\n" + "".join(texts(kept))


def texts(value: Any) -> Iterator[str]:
    """All texts in a document, in order."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def calls(record: dict[str, Any]) -> list[list[Any]]:
    """Name and arguments of the calls in the answer's text."""
    lines = re.findall(r"<tool_call>(.*?)</tool_call>", record["response"] or "", flags=re.DOTALL)
    return [[call["name"], call["arguments"]] for call in map(json.loads, lines)]


FIELDS: Final = ("response", "query", "kind", "model", "key_source", "prompt_tokens", "completion_tokens")
CHECKS: Final[Mapping[str, Check]] = {
    **{name: partial(field_is, name) for name in FIELDS},
    "failed": lambda record, right, _: outcome(record).failed is right,
    "sample": lambda record, right, _: ("sample" in record["flags"]) is right,
    "whole": lambda record, right, _: (outcome(record) is Outcome.OK) is right,
    "not_whole": lambda record, right, _: (outcome(record) is not Outcome.OK) is right,
    "flag": lambda record, right, _: right in record["flags"],
    "quality_below": lambda record, right, _: record["quality"] is None or record["quality"] < right,
    "quality_not": lambda record, right, _: record["quality"] != right,
    "tool_calls": lambda record, right, _: calls(record) == right,
    "first_token_ms": lambda record, right, _: right[0] <= (record["ttft_ms"] or 0) <= right[1],
    "user_is": lambda record, right, house: record["user"] == house.user(right),
    "not_in_record": lambda record, right, _: not any(text in said(record) for text in right),
    "response_kept": lambda record, right, _: right in record["exchange"]["response"],
}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
async def test_a_record_says_what_happened(case: Case, houses: dict[str, House]) -> None:
    there = houses[place(case)]
    record = await there.record(there.answers[case.id])
    wrong = {key: right for key, right in case.right.items() if not CHECKS[key](record, right, there)}
    assert not wrong, json.dumps(record, indent=1)


async def test_every_client_gets_every_byte(houses: dict[str, House]) -> None:
    for case in ALL:
        answer = houses[place(case)].answers[case.id]
        assert (answer.status, answer.body) == (200, case.answer_body), case.id


async def test_metrics_count_the_outcomes_that_the_records_have(houses: dict[str, House]) -> None:
    for there in houses.values():
        for answer in there.answers.values():
            await there.record(answer)
        assert await asyncio.to_thread(await_true, there.agrees, "metrics that agree with the records", limit_s=20)


async def test_no_stream_has_its_first_token_before_its_words(houses: dict[str, House]) -> None:
    """Every timing case begins to speak after a second, whenever its head comes."""
    there = houses[place(TIMING[0])]
    for case in TIMING:
        await there.record(there.answers[case.id])
    buckets = there.samples("gen_ai_server_time_to_first_token_seconds_bucket")
    assert sum(count for labels, count in buckets.items() if 'le="+Inf"' in labels) == len(TIMING)
    assert sum(count for labels, count in buckets.items() if 'le="0.25"' in labels) == 0


# -- Claude Code names a person and a session in one field, in two forms.

DEVICE: Final = "0a1b2c3d" * 8
ACCOUNT: Final = "11111111-2222-4333-8444-555555555555"
OTHER: Final = {"device": "9f8e7d6c" * 8, "account": "99999999-2222-4333-8444-555555555555"}
SESSIONS: Final = ("aaaaaaaa-0001-4000-8000-000000000001", "bbbbbbbb-0002-4000-8000-000000000002")


def in_words(session: str, *, device: str = DEVICE, account: str = ACCOUNT) -> str:
    return f"user_{device}_account_{account}_session_{session}"


def in_json(session: str, *, device: str = DEVICE, account: str = ACCOUNT) -> str:
    return json.dumps({"device_id": device, "account_uuid": account, "session_id": session})


@pytest.mark.parametrize("form", [in_words, in_json])
@pytest.mark.parametrize("account", [ACCOUNT, ""])
async def test_a_person_is_one_user_in_every_session(
    form: Callable[..., str], account: str, houses: dict[str, House]
) -> None:
    there = next(iter(houses.values()))
    other = {**OTHER, "account": account and OTHER["account"]}
    names = [*(form(session, account=account) for session in SESSIONS), form(SESSIONS[0], **other)]
    turn = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    records = [await there.ask("/v1/messages", {**turn, "metadata": {"user_id": name}}) for name in names]
    assert [record["key_source"] for record in records] == ["body"] * 3
    users = [record["user"] for record in records]
    assert users[0] == users[1] != users[2]
