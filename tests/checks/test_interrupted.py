"""Whatever ends a check, it goes on: nothing that was answered is asked again, and the verdict is the same."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

from policies.rows import Check, Model
from tests.checks.world import (
    ScriptedJudge,
    ScriptedModel,
    check_of,
    config_of,
    gate_of,
    history,
    opened,
    settled,
    well,
)
from tests.harness.webserver import serving

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCY = 4
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from proxy.store.store import Store
from tests.checks.world import clock_there, config_of, gate_of, settled

async def main(folder, check_id, tables):
    store = await Store.open(f"sqlite:///{folder}/ratchet.db", clock=clock_there())
    check = await store.checks.get(check_id)
    models = {model.id: model for model in await store.models.list()}
    async with gate_of(store, config_of(Path(folder), **tables)) as gate:
        view = await settled(gate, check, models[check.challenger_id], models[check.champion_id])
    await store.close()
    print(view.verdict, *view.reasons, sep="\\n")

asyncio.run(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])))
"""


async def run_in_process(folder: Path, check: Check, tables: str) -> asyncio.subprocess.Process:
    arguments = (str(folder), str(check.id), tables)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def test_a_killed_check_asks_again_only_what_was_in_flight(tmp_path: Path) -> None:
    """kill -9, three times, at whatever it was doing."""
    model, judge = ScriptedModel(delay_s=0.02), ScriptedJudge()
    golden = tmp_path / "golden.jsonl"
    cases = [
        {"request": {"messages": [{"role": "user", "content": f"Case {at}?"}]}, "expect": {"regex": "."}}
        for at in range(12)
    ]
    golden.write_text("\n".join(map(json.dumps, cases)))
    async with opened(tmp_path, history(90)) as store, serving(model.app) as url, serving(judge.app) as judge_url:
        tables = {
            "checks": {"concurrency": CONCURRENCY, "judge": "always", "golden": str(golden)},
            "judge": {"kind": "openai", "url": f"{judge_url}/v1", "model": "judge"},
            "deployer": {"warmup_requests": 2},
        }
        check, _, _ = await check_of(store, url, url, model="new-1")
        kills = 0
        for already in (8, 30, 60):
            process = await run_in_process(tmp_path, check, json.dumps(tables))
            await model.asked_at_least(already)
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
            kills += 1
        process = await run_in_process(tmp_path, check, json.dumps(tables))
        output, _ = await process.communicate()
        assert process.returncode == 0
        verdict = output.decode().splitlines()[0]
        rows = await store.comparisons.of_check(check.id)
        once = await _undisturbed(tmp_path / "other", tables)
    assert verdict == once
    answered = {row.item for row in rows}
    conversations = [
        asked for asked in model.asked if asked.get("model") == "new-1" and "Case" not in str(asked["messages"])
    ]
    again = Counter(asked["messages"][-1]["content"] for asked in conversations)
    repeated = sum(count - 1 for count in again.values() if count > 1)
    assert repeated <= kills * CONCURRENCY + 2  # in flight each time, and warm-up questions that are drawn, too
    assert len([item for item in answered if item.startswith("golden:")]) == 12
    assert len(answered) == len(rows) <= 102


async def _undisturbed(folder: Path, tables: dict[str, object]) -> str | None:
    """The verdict of the same check without kills: the same records, the same salt, the same questions."""
    folder.mkdir()
    model = ScriptedModel()
    async with opened(folder, history(90)) as store, serving(model.app) as url, serving(ScriptedJudge().app) as judge:
        check, challenger, champion = await check_of(store, url, url, model="new-1")
        asked = {**tables["judge"], "url": f"{judge}/v1"}  # type: ignore[dict-item]
        async with gate_of(store, config_of(folder, **{**tables, "judge": asked})) as gate:
            return (await settled(gate, check, challenger, champion)).verdict


async def test_a_check_goes_on_in_another_gate_with_the_same_verdict(tmp_path: Path) -> None:
    """Every few answers somebody else goes on; together they ask each question once."""
    model = ScriptedModel(delay_s=0.01)
    async with opened(tmp_path, history(130)) as store, serving(model.app) as url:
        config = config_of(tmp_path, checks={"concurrency": 2}, deployer={"warmup_requests": 0})
        check, challenger, champion = await check_of(store, url, url, model="new-1")
        view = None
        while view is None or not view.done:
            known = len(model.asked)
            async with gate_of(store, config) as gate:
                async with asyncio.timeout(60):
                    while (view := await gate.poll(check, challenger, champion)) and not view.done:
                        if len(model.asked) >= known + 15:
                            break
        assert view.verdict == "pass", view
        rows = await store.comparisons.of_check(check.id)
        assert None not in {row.outcome for row in rows}
    counts = Counter(model.questions())
    assert max(counts.values()) <= 3
    assert sum(count - 1 for count in counts.values()) <= 2 * 12
    assert {row.record_id for row in rows} == {row.item for row in rows}


async def test_a_judge_that_was_down_is_asked_for_what_it_owes(tmp_path: Path) -> None:
    """Nothing is asked of the model again; the check waits meanwhile, and says why."""
    model, judge = ScriptedModel(well), ScriptedJudge()
    judge.down = True
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url, serving(judge.app) as judge_url:
        settings = {"kind": "openai", "url": f"{judge_url}/v1", "model": "judge", "attempts": 1}
        config = config_of(tmp_path, judge=settings, checks={"judge": "always"}, deployer={"warmup_requests": 0})
        check, challenger, champion = await check_of(store, url, url, model="new-1")
        async with gate_of(store, config) as gate:
            async with asyncio.timeout(60):
                while not any("judge" in reason for reason in (await _poll(gate, check, challenger, champion))):
                    pass
            asked = len(model.asked)
            judge.down = False
            view = await settled(gate, check, challenger, champion)
        assert view.verdict == "undecided", view
        assert len(model.asked) == 40
        assert asked <= 40
        assert max(Counter(model.questions()).values()) == 1
        summary = (await store.checks.get(check.id)).summary  # type: ignore[union-attr]
        assert summary["counts"]["judged"] == 40


async def _poll(gate: object, check: Check, challenger: Model, champion: Model) -> tuple[str, ...]:
    view = await gate.poll(check, challenger, champion)  # type: ignore[attr-defined]
    assert not view.done, view
    return tuple(view.reasons)
