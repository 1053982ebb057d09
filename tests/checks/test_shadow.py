"""Copies of live requests, compared: answers in the store beside the records, polled as the loop does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from policies.records import Outcome
from policies.rows import Check, CheckKind, Model
from policies.snapshot import CheckView
from proxy.checks.gate import ReplayGate
from proxy.checks.pairing import Pairing
from proxy.errors import TemporaryError
from proxy.store.ingest.answers import packed
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewAnswer, NewRecord, RecordFlag
from tests.checks.world import BEGAN_US, check_of, completion, config_of, gate_of, history, opened

AGO_US = 600_000_000
"""Copies were sent so long ago that all of their answers are here."""
LONG = "The answer is that a river flows to the sea, as all of them do. "


def told(**changes: Any) -> dict[str, Any]:
    """What ingest notes of an answer."""
    return {
        "model_id": 2, "status": 200, "outcome": 0, "duration_us": 400_000, "ttfb_us": 300_000,
        "type": "application/json", "bytes": 100, "fault": None, "cut": False, "lost": False, "latin": False,
    } | changes  # fmt: skip


def answer(record: NewRecord, check_id: int, text: str | None = None, *, raw: str | None = None, ago_us: int = AGO_US,
           user: int | None = -1, **changes: Any) -> NewAnswer:  # fmt: skip
    """To the copy of `record`: what the champion said, or `text`, or whatever bytes."""
    assert record.body is not None
    if raw is None:
        message = {"content": text} if text is not None else {"content": record.body.response_text}
        raw = orjson.dumps(completion(message, "new-1")).decode()
    return NewAnswer(
        check_id=check_id,
        record_id=record.id,
        user_hash=record.user_hash if user == -1 else user,
        facts={"shadow": told(**{"duration_us": record.upstream_us, **changes})},
        data=packed({"challenger": {"raw": raw}}),
        created_us=BEGAN_US - ago_us,
    )


class World:
    """A store with a shadow that goes on, and the gate that the loop polls."""

    def __init__(self, store: Store, gate: ReplayGate, check: Check, models: tuple[Model, Model]) -> None:
        self.store, self.gate, self.check = store, gate, check
        self.challenger, self.champion = models
        self._offset = 10_000

    async def add(self, *answers: NewAnswer, records: Sequence[NewRecord] = ()) -> None:
        self._offset += 1
        batch = IngestBatch(records=tuple(records), answers=answers, writer="test", segment=1, offset=self._offset)
        await self.store.ingest.apply(batch)

    async def poll(self) -> CheckView:
        """What it says when it is through."""
        async with asyncio.timeout(120):
            while True:
                view = await self.gate.poll(self.check, self.challenger, self.champion)
                if "being compared" not in view.reasons[0] and not self.gate._shadows._running:
                    return view

    async def report(self) -> dict[str, Any]:
        """What is kept with the check."""
        check = await self.store.checks.get(self.check.id)
        assert check is not None
        assert check.verdict is None, "the loop's to write"
        return dict(check.summary)


@asynccontextmanager
async def shadowing(folder: Path, records: list[NewRecord], **models: Any) -> AsyncIterator[World]:
    async with opened(folder, records) as store, gate_of(store, config_of(folder)) as gate:
        check, challenger, champion = await check_of(store, "http://a", "http://b", **models)
        check = replace(check, kind=CheckKind.SHADOW)
        yield World(store, gate, check, (challenger, champion))


async def test_equal_answers_are_close_and_nothing_ends(tmp_path: Path) -> None:
    records = history(120, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id) for record in records))
        view = await world.poll()
        assert (view.done, view.verdict) == (False, None)
        assert "of 120 users" in view.reasons[0]
        report = await world.report()
        assert report["counts"] == {"prompts": 120, "compared": 120, "failed": 0, "same": 120}
        assert report["parts"][0]["verdict"] == "pass"
        row = await world.store.comparisons.get(world.check.id, records[0].id)
        assert row is not None
        assert records[0].body is not None
        assert (row.outcome, row.user_hash) == (0.0, records[0].user_hash)
        assert orjson.loads(row.data["request"]) == orjson.loads(records[0].body.request)
        assert row.data["champion"]["text"] == row.data["challenger"]["text"] == records[0].body.response_text


@pytest.mark.parametrize(
    ("spoiled", "defect"),
    [
        ({"text": ""}, "empty"),
        ({"text": "river sea " * 80}, "repetition"),
        ({"text": f"{LONG}<|im_end|>"}, "template"),
        ({"raw": "", "status": 500, "fault": "500"}, "failed"),
        ({"raw": '{"error":{"message":"out of memory"}}'}, "failed"),
        ({"raw": "", "status": 0, "outcome": 2, "fault": "closed"}, "failed"),
        ({"raw": '{"choices":[{"mess', "status": 200, "outcome": 2, "fault": "broken_off"}, "failed"),
        ({"raw": "x" * 500, "outcome": 2, "fault": "too_long", "cut": True}, "failed"),
        ({"raw": '{"choices":[{'}, "failed"),
        ({"raw": "", "status": 0, "outcome": 3, "fault": "late"}, "failed"),
        ({"raw": "", "status": 404, "fault": "4xx"}, "failed"),
    ],
)
async def test_a_challenger_that_is_broken_is_turned_away(tmp_path: Path, spoiled: dict[str, Any], defect: str) -> None:
    records = history(60, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id, **spoiled) for record in records))
        view = await world.poll()
        assert view.verdict == "reject", view
        assert view.reasons[0].endswith("it is worse")
        report = await world.report()
        assert report["differences"]["challenger"].get(defect, 0) > 50
        assert report["examples"][0]["item"] in {record.id for record in records}


async def test_a_user_counts_once_and_a_conversation_of_nobody_too(tmp_path: Path) -> None:
    mine = history(1, each=40)
    chats = [replace(record, user_hash=None, conversation=5) for record in history(1, each=40, seed=9)]
    async with shadowing(tmp_path, [*mine, *chats]) as world:
        await world.add(*(answer(record, world.check.id, "") for record in (*mine, *chats)))
        view = await world.poll()
        assert view.verdict is None, "two units are no evidence"
        assert "of 2 users" in view.reasons[0]


async def test_what_was_sent_just_now_is_not_looked_at_yet(tmp_path: Path) -> None:
    """Quick answers are here first, and are not like the others."""
    records = history(60, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id, "", ago_us=1_000_000) for record in records))
        view = await world.poll()
        assert (view.verdict, view.reasons) == (None, ("copies of live requests: none is compared so far",))
        row = await world.store.comparisons.get(world.check.id, records[0].id)
        assert row is not None
        assert "champion" in row.data, "but it is paired, to be read"


async def test_an_answer_waits_for_its_record_and_not_for_ever(tmp_path: Path) -> None:
    early, never = history(2, each=1)
    async with shadowing(tmp_path, []) as world:
        await world.add(answer(early, world.check.id), answer(never, world.check.id, ago_us=4_000_000_000))
        view = await world.poll()
        assert "none is compared" in view.reasons[0]
        rows = await world.store.comparisons.of_check(world.check.id)
        assert [row.item for row in rows] == [early.id]
        await world.add(records=[early])
        assert "of 1 user:" in (await world.poll()).reasons[0]


async def test_what_is_none_of_the_checks_is_forgotten(tmp_path: Path) -> None:
    other, task, private, good = history(4, each=1)
    other = replace(other, model_id=99)
    task = replace(task, kind="task")
    private = replace(private, flags=RecordFlag.NO_TRAIN)
    async with shadowing(tmp_path, [other, task, private, good]) as world:
        await world.add(*(answer(record, world.check.id) for record in (other, task, private, good)))
        await world.poll()
        rows = await world.store.comparisons.of_check(world.check.id)
        assert [row.item for row in rows] == [good.id]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"fault": "refused", "status": 0, "outcome": 2}, "unreached"),
        ({"fault": "tls", "status": 0, "outcome": 2}, "unreached"),
        ({"fault": "4xx", "status": 429}, "busy"),
        ({"fault": "503", "status": 503}, "busy"),
        ({"fault": "529", "status": 529}, "busy"),
        ({"cut": True}, "cut"),
        ({"lost": True}, "unread"),
    ],
)
async def test_what_is_missing_is_no_loss_and_most_of_it_holds(
    tmp_path: Path, changes: dict[str, Any], missing: str
) -> None:
    records = history(40, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id, raw="", **changes) for record in records))
        view = await world.poll()
        assert view.verdict == ("hold" if missing in ("unreached", "busy") else None)
        rows = await world.store.comparisons.of_check(world.check.id)
        assert {row.facts["missing"] for row in rows} == {missing}
        assert {row.outcome for row in rows} == {None}
        await world.store.deletion.delete_user(1)
        assert len(await world.store.comparisons.of_check(world.check.id)) == 39


async def test_both_slow_says_nothing_and_both_failing_is_a_tie(tmp_path: Path) -> None:
    slow, failed = history(2, each=1)
    slow = replace(slow, upstream_us=130_000_000)
    failed = replace(failed, status=502, outcome=Outcome.UPSTREAM_ERROR)
    async with shadowing(tmp_path, [slow, failed]) as world:
        late = {"raw": "", "status": 0, "outcome": 3, "fault": "late"}
        await world.add(*(answer(record, world.check.id, **late) for record in (slow, failed)))
        await world.poll()
        rows = {row.item: row for row in await world.store.comparisons.of_check(world.check.id)}
        assert rows[slow.id].facts["missing"] == "slow"
        assert rows[failed.id].outcome == 0.0


async def test_a_challenger_that_answers_what_the_champion_fails_gains(tmp_path: Path) -> None:
    records = [replace(one, status=502, outcome=Outcome.UPSTREAM_ERROR) for one in history(30, each=1)]
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id, f"{LONG}{at}") for at, record in enumerate(records)))
        assert "1.000 better on average" in (await world.poll()).reasons[0]


async def test_streams_and_binary_streams_are_read_and_another_model_is_noticed(tmp_path: Path) -> None:
    stream, wrong = history(2, each=1)
    events = [{"choices": [{"index": 0, "delta": {"content": word + " "}}]} for word in LONG.split()]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    raw = "".join(f"data: {orjson.dumps(event).decode()}\n\n" for event in events) + "data: [DONE]\n\n"
    async with shadowing(tmp_path, [stream, wrong], model="new-1") as world:
        other = orjson.dumps(completion({"content": LONG}, "gpt-0")).decode()
        await world.add(
            answer(stream, world.check.id, raw=raw, type="text/event-stream"), answer(wrong, world.check.id, raw=other)
        )
        await world.poll()
        row = await world.store.comparisons.get(world.check.id, stream.id)
        assert row is not None
        assert row.data["challenger"]["text"].strip() == LONG.strip()
        assert row.outcome == 0.0
        row = await world.store.comparisons.get(world.check.id, wrong.id)
        assert row is not None
        assert row.facts["challenger"]["defects"] == ["wrong_model"]
        assert row.outcome == -1.0


async def test_it_goes_on_where_another_controller_has_left_it(tmp_path: Path) -> None:
    records = history(40, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id, "") for record in records[:15]))
        assert (await world.poll()).verdict is None
        before = {row.item: row for row in await world.store.comparisons.of_check(world.check.id)}
        await world.add(*(answer(record, world.check.id, "") for record in records[15:]))
        async with gate_of(world.store, config_of(tmp_path)) as another:
            world.gate = another
            assert (await world.poll()).verdict == "reject"
        after = {row.item: row for row in await world.store.comparisons.of_check(world.check.id)}
        assert {item: after[item] for item in before} == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TemporaryError("the store is away"), "the store is away"),
        (ValueError("Dear Sir, my number is"), "an error that should not be (ValueError, see the log)"),
    ],
)
async def test_an_error_that_may_quote_users_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    records = history(1, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(answer(records[0], world.check.id))
        monkeypatch.setattr(Pairing, "pair", fail)
        assert (await world.poll()).reasons == (f"copies are compared again soon: {said}",)


async def test_a_cancelled_shadow_is_left_alone(tmp_path: Path) -> None:
    records = history(30, each=1)
    async with shadowing(tmp_path, records) as world:
        await world.add(*(answer(record, world.check.id) for record in records))
        await world.gate.poll(world.check, world.challenger, world.champion)
        await world.gate.cancel(world.check.id)
        assert world.gate._shadows._running == {}
        await world.gate.cancel(world.check.id)


async def test_a_check_that_has_ended_keeps_its_verdict(tmp_path: Path) -> None:
    async with shadowing(tmp_path, []) as world:
        ended = replace(world.check, verdict="pass", summary={"reasons": ["fine"]})
        view = await world.gate.poll(ended, world.challenger, world.champion)
        assert (view.done, view.verdict, view.reasons) == (True, "pass", ("fine",))
