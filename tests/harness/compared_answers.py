"""Checks with answers that were compared, as a gate and a shadow leave them: for pages, and whoever learns from them.

The words are the made-up traffic's; every kind of difference occurs: the same answer, a changed word, another answer,
a tool called with other arguments, an answer that is missing or falls apart, text that would like to be HTML.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from policies.gate import CheckPart, CheckReport, GateVerdict, GoldenGroup
from policies.rows import Check, CheckKind
from proxy.store.control.comparisons import ComparedRow
from proxy.store.engine.dialect import insert_all
from proxy.store.ingest.answers import packed
from proxy.store.store import Store
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.rows import to_row
from proxy.store.tables.schema import checks, comparisons
from proxy.store.tables.values import NewRecord
from tests.harness.exchanges import exchange, sentences

__all__ = ["HOSTILE", "answer", "compared_rows", "comparison", "gate_report", "of_record", "seed_check", "seed_rows"]

HOSTILE = '<script>alert(1)</script> <b>bold</b> \u202edetrever\u202c & "quoted"'
TARGET = "/v1/chat/completions"
_TAGS = (("billing",), ("returns",), ("opening hours", "billing"), ())


def answer(words: str, calls: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> dict[str, Any]:
    """One side of `comparisons.data`: a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": words or None}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function",
             "function": {"name": name, "arguments": orjson.dumps(arguments).decode()}}
            for at, (name, arguments) in enumerate(calls)
        ]  # fmt: skip
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return {"text": words, "body": orjson.dumps(body).decode()}


def comparison(
    check_id: int,
    item: str,
    question: str,
    champion: Mapping[str, Any],
    challenger: Mapping[str, Any],
    *,
    outcome: float | None = 0.0,
    tags: Sequence[str] = (),
    record_id: str | None = None,
    user_hash: int | None = None,
    created_us: int = 1,
    facts: Mapping[str, Any] | None = None,
) -> ComparedRow:
    """One row, with a question of one turn."""
    messages = [
        {"role": "system", "content": "You are the assistant of a small hardware shop."},
        {"role": "user", "content": question},
    ]
    seen = {"worth": 1.0, "defects": [], "latency_s": 0.8, "tokens": 120, "failed": False}
    return ComparedRow(
        check_id=check_id,
        item=item,
        record_id=record_id,
        user_hash=user_hash,
        tags=tuple(tags),
        outcome=outcome,
        facts={"champion": seen, "challenger": seen, "differences": ["text"], **(facts or {})},
        data={
            "target": TARGET,
            "request": orjson.dumps({"model": "base", "messages": messages}).decode(),
            "champion": champion,
            "challenger": challenger,
        },
        created_us=created_us,
    )


def compared_rows(
    check_id: int, n: int, *, start_us: int, seed: int = 1, records: Sequence[NewRecord] = ()
) -> list[ComparedRow]:
    """`n` comparisons of `records` (made up where there are none), and one of a golden file for every twenty."""
    rng = random.Random(seed)
    made = records or [exchange(start_us + at * 1_000_000, rng, user_hash=at + 1) for at in range(n)]
    rows = [_row(check_id, at, record, rng) for at, record in enumerate(made[:n])]
    rows += [_golden(check_id, line, start_us) for line in range(1, n // 20 + 1)]
    return rows


def _golden(check_id: int, line: int, at_us: int) -> ComparedRow:
    lost = line % 3 == 1
    missed = ["does not contain '30 days'"] if lost else []
    return comparison(
        check_id,
        f"golden:{line}",
        f"May I bring back a saw after {line * 10} days?",
        answer("Yes, within 30 days, with the receipt."),
        answer("No." if lost else "Within 30 days you may."),
        outcome=-1.0 if lost else 0.0,
        tags=("returns",),
        created_us=at_us,
        facts={"golden": {"name": f"saw {line}", "champion": [], "challenger": missed}},
    )


def _row(check_id: int, at: int, record: NewRecord, rng: random.Random) -> ComparedRow:
    assert record.body is not None
    words, pool = record.body.response_text or "", sentences()
    said = words.split(". ")
    champion, challenger, outcome, facts = answer(words), answer(words), 0.0, {}
    match at % 8:
        case 1:
            challenger, outcome = answer(words.replace(" the ", " this ")), -0.1
        case 2:
            start = rng.randrange(len(pool) - 4)
            other = " ".join(pool[start : start + 4])
            challenger, outcome = answer(f"{said[0]} {other}"), rng.choice((-0.6, 0.4))
        case 3:
            champion = answer("", [("find_part", {"number": 4711, "stock": True})])
            challenger, outcome = answer("", [("find_part", {"number": 4712, "stock": True})]), -1.0
        case 4:
            challenger, outcome = answer(""), -1.0
            facts = {"challenger": {"worth": 0.0, "defects": ["empty"], "latency_s": 0.2, "failed": False}}
        case 5:
            challenger, outcome = answer(f"{words}\n\n{HOSTILE}"), -0.2
        case 6:
            challenger, outcome = answer(". ".join(said[:-1]) or words[:40]), 0.3
            facts = {"judge": {"by": "scores", "champion": 0.6, "challenger": 0.9}}
    return comparison(
        check_id,
        record.id,
        record.body.query or "",
        champion,
        challenger,
        outcome=outcome,
        tags=_TAGS[at % 4],
        record_id=record.id,
        user_hash=record.user_hash,
        created_us=id_time_us(record.id),
        facts=facts,
    )


def of_record(check_id: int, record: NewRecord, challenger: Mapping[str, Any], *, outcome: float) -> ComparedRow:
    """A comparison of a record's own answer with another to the same question."""
    assert record.body is not None
    return ComparedRow(
        check_id=check_id,
        item=record.id,
        record_id=record.id,
        user_hash=record.user_hash,
        outcome=outcome,
        facts={"differences": ["text"]},
        data={
            "target": record.body.target,
            "request": record.body.request.decode(),
            "champion": {"text": record.body.response_text, "body": record.body.response.decode()},
            "challenger": dict(challenger),
        },
        created_us=1,
    )


def gate_report(verdict: GateVerdict | None, reason: str, rows: Sequence[ComparedRow]) -> CheckReport:
    """What a gate would say of these."""
    mine = [row for row in rows if row.record_id is not None]
    golden = len(rows) - len(mine)
    parts = [
        CheckPart(name="scores", verdict=verdict, compared=len(mine), most=400, mean=-0.012, e_worse=0.7, e_close=140.0,
             broken=0.07)
    ]  # fmt: skip
    if golden:
        groups = (
            GoldenGroup(tag="", cases=golden, lost=golden // 3, won=0, p=0.25, level=0.025, beyond_margin=True),
            GoldenGroup(tag="returns", cases=golden, lost=golden // 3, won=0, p=0.25, level=0.025, beyond_margin=True),
        )
        parts.append(CheckPart(name="golden", verdict=verdict, compared=golden, most=golden, groups=groups))
    return CheckReport(
        verdict=verdict,
        reasons=(reason,),
        counts={"prompts": len(mine), "compared": len(mine), "failed": 0, "same": len(mine) // 4, "judged": 0,
                "tokens": 48_000, "golden": golden},
        differences={"champion": {"refusal": 1}, "challenger": {"empty": len(mine) // 8, "text": len(mine) // 2}},
        figures={"characters": {"champion": 512.0, "challenger": 488.0},
                 "latency_s": {"champion": 0.8, "challenger": 0.62}},
        parts=tuple(parts),
        examples=tuple({"item": row.item, "why": "empty"} for row in mine[4:24:8]),
    )  # fmt: skip


async def seed_check(
    store: Store,
    rows: Sequence[ComparedRow],
    *,
    check_id: int = 1,
    kind: CheckKind = CheckKind.GATE,
    challenger_id: int = 2,
    champion_id: int = 1,
    started_us: int = 1,
    ended_us: int | None = None,
    report: CheckReport | None = None,
) -> Check:
    """Put a check and its comparisons into the store."""
    check = Check(
        id=check_id,
        kind=kind,
        challenger_id=challenger_id,
        champion_id=champion_id,
        started_us=started_us,
        ended_us=ended_us,
        verdict=None if report is None or report.verdict is None else report.verdict.value,
        summary={} if report is None else report.document(),
    )
    async with store._db.write() as connection:
        await insert_all(connection, checks, [to_row(check)])
    await seed_rows(store, rows)
    return check


async def seed_rows(store: Store, rows: Sequence[ComparedRow]) -> None:
    """Put comparisons into the store, many at a time."""
    for start in range(0, len(rows), 1000):
        some = [
            {"check_id": row.check_id, "item": row.item, "record_id": row.record_id, "user_hash": row.user_hash,
             "tags": list(row.tags) or None, "outcome": row.outcome, "facts": dict(row.facts),
             "data": packed(row.data), "created_us": row.created_us}
            for row in rows[start : start + 1000]
        ]  # fmt: skip
        async with store._db.write() as connection:
            await insert_all(connection, comparisons, some)
