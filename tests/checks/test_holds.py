"""What is missing holds, and is named; what is few decides nothing; and who may be asked at all."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from policies.selection import held_out
from proxy.checks.gate import ReplayGate
from proxy.clock import ManualClock
from proxy.credentials import CredentialFile, UnknownCredentialError
from proxy.errors import TemporaryError
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.values import RecordFlag
from tests.checks.world import (
    BEGAN_US,
    ScriptedJudge,
    ScriptedModel,
    check_of,
    clock_there,
    completion,
    config_of,
    gate_of,
    history,
    opened,
    settled,
    unused_port,
    well,
)
from tests.harness.webserver import serving

NO_WARM_UP = {"deployer": {"warmup_requests": 0}}
SOON = {"time_limit_minutes": 0.02}


def written(folder: Path, *cases: dict[str, Any]) -> str:
    path = folder / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)))
    return str(path)


def case(text: str, tags: tuple[str, ...] = (), **expect: Any) -> dict[str, Any]:
    return {"request": {"messages": [{"role": "user", "content": text}]}, "expect": expect, "tags": list(tags)}


async def test_few_users_decide_nothing(tmp_path: Path) -> None:
    model = ScriptedModel()
    async with (
        opened(tmp_path, history(12)) as store,
        serving(model.app) as url,
        gate_of(store, config_of(tmp_path)) as gate,
    ):
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "undecided"
    assert "12 held-out users with a recorded conversation: fewer than 20 show nothing" in view.reasons


async def test_nobody_to_ask_decides_nothing(tmp_path: Path) -> None:
    model = ScriptedModel()
    async with opened(tmp_path, []) as store, serving(model.app) as url, gate_of(store, config_of(tmp_path)) as gate:
        view = await settled(gate, *await check_of(store, url, url))
    assert (view.verdict, model.asked) == ("undecided", [])


async def test_a_challenger_that_is_away_holds_and_says_so(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    config = config_of(tmp_path, checks=SOON, **NO_WARM_UP)
    async with opened(tmp_path, history(40)) as store, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "hold"
    assert any(f"{url} cannot be reached" in reason for reason in view.reasons)


async def test_a_challenger_behind_a_limit_of_requests_is_not_called_worse(tmp_path: Path) -> None:
    async def limited(scope: Any, receive: Any, send: Any) -> None:
        await Response(b"{}", 429, media_type="application/json")(scope, receive, send)

    config = config_of(tmp_path, checks=SOON, **NO_WARM_UP)
    async with opened(tmp_path, history(40)) as store, serving(limited) as url, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "hold"
    assert any(f"{url} is busy (HTTP 429)" in reason for reason in view.reasons)


ACTS: tuple[dict[str, Any], ...] = (
    {"tools": [{"type": "mcp", "server_url": "https://mail.example.com"}]},
    {"tools": [{"type": "code_interpreter"}]},
    {"mcp_servers": [{"url": "https://mail.example.com"}]},
    {"previous_response_id": "resp_1"},
)


async def test_what_does_more_than_answer_is_not_asked_again(tmp_path: Path) -> None:
    records = history(30, each=1)
    for at, more in enumerate(ACTS * 2, start=len(records) - 8):
        body = records[at].body
        assert body is not None
        request = json.dumps({**json.loads(body.request), **more}).encode()
        records[at] = replace(records[at], body=replace(body, request=request))
    model = ScriptedModel()
    async with opened(tmp_path, records) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        async with gate_of(store, config_of(tmp_path)) as gate:  # the newest ones would be those of the warm-up
            view = await settled(gate, check, challenger, champion)
        kept = await store.checks.get(check.id)
    assert view.verdict == "undecided"
    assert kept is not None
    assert kept.summary["counts"]["compared"] == 22
    assert not [asked for asked in model.asked if asked.keys() & {"tools", "mcp_servers", "previous_response_id"}]


async def test_a_key_that_is_on_its_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.checks.gate._AGAIN_S", 0.0)
    here: dict[str, tuple[str, str]] = {}

    def header(name: str, url: str) -> tuple[str, str] | None:
        if name not in here:
            raise UnknownCredentialError(f"the API key {name} is not on this host")
        return here[name]

    model = ScriptedModel()
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url, credential="mine")
        here["champion"] = ("authorization", "Bearer old")
        gate = ReplayGate(store, config_of(tmp_path), header, clock_there())
        try:
            first = await gate.poll(check, challenger, champion)
            assert (first.done, first.verdict) == (False, None)
            assert first.reasons == ("the check goes on soon: the API key mine is not on this host",)
            here["mine"] = ("authorization", "Bearer new")
            assert (await settled(gate, check, challenger, champion)).verdict == "undecided"
        finally:
            await gate.close()


async def test_an_error_of_our_own_is_no_end_of_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("what a user said")

    monkeypatch.setattr("proxy.checks.gate.Runner", broken)
    config = config_of(tmp_path, checks={"time_limit_minutes": 0.005}, **NO_WARM_UP)
    async with opened(tmp_path, history(2)) as store, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, "http://old", "http://new"))
    assert view.verdict == "hold"
    assert "RuntimeError" in view.reasons[0]
    assert "what a user said" not in view.reasons[0]


async def test_a_judge_that_is_down_holds(tmp_path: Path) -> None:
    judge = ScriptedJudge()
    judge.down = True
    async with serving(judge.app) as judge_url, serving(ScriptedModel().app) as url:
        settings = {"kind": "openai", "url": f"{judge_url}/v1", "model": "judge", "attempts": 1}
        config = config_of(tmp_path, judge=settings, checks={"judge": "always", **SOON}, **NO_WARM_UP)
        async with opened(tmp_path, history(40)) as store, gate_of(store, config) as gate:
            view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "hold"
    assert any("the judge gave no verdict (unreachable)" in reason for reason in view.reasons)


async def test_a_server_that_wants_its_clients_keys_says_nothing_of_the_model(tmp_path: Path) -> None:
    model = ScriptedModel(lambda asked, rng: Response("who are you?", 401))
    async with (
        opened(tmp_path, history(40)) as store,
        serving(model.app) as url,
        gate_of(store, config_of(tmp_path)) as gate,
    ):
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "undecided"
    assert any("asks for a credential (HTTP 401)" in reason for reason in view.reasons)
    assert len(model.asked) < 20


@pytest.mark.parametrize(("status", "may_pass"), [(500, True), (404, False)])
async def test_a_model_that_answers_nothing_is_not_up(tmp_path: Path, status: int, may_pass: bool) -> None:
    model = ScriptedModel(lambda asked, rng: Response("secret words", status))
    async with (
        opened(tmp_path, history(40)) as store,
        serving(model.app) as url,
        gate_of(store, config_of(tmp_path)) as gate,
    ):
        view = await settled(gate, *await check_of(store, url, url))
    assert (view.answers, view.done, view.may_pass) == (False, False, may_pass)
    assert view.reasons == (f"it answered none of 3 recorded requests; the last: HTTP {status}",)
    assert len(model.asked) == 3


async def test_a_budget_of_tokens_ends_it(tmp_path: Path) -> None:
    model = ScriptedModel()
    config = config_of(tmp_path, checks={"max_tokens": 900, "concurrency": 1}, **NO_WARM_UP)
    async with opened(tmp_path, history(150)) as store, serving(model.app) as url, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "undecided"
    assert any("the 900 tokens" in reason for reason in view.reasons)
    assert len(model.asked) == 30


def half_refunds(asked: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    text = asked["messages"][-1]["content"]
    return {"content": "No." if text.startswith("Refund") else f"Yes, {text}"}


async def test_a_tag_of_the_golden_file_rejects_with_examples(tmp_path: Path) -> None:
    refunds = [case(f"Refund {at}", ("refunds",), contains="Yes") for at in range(10)]
    others = [case(f"Hours {at}", ("hours",), contains="Yes") for at in range(60)]
    new, old = ScriptedModel(half_refunds), ScriptedModel(lambda asked, rng: {"content": "Yes, of course"})
    golden = written(tmp_path, *refunds, *others)
    async with opened(tmp_path, history(40)) as store, serving(new.app) as url, serving(old.app) as old_url:
        async with gate_of(store, config_of(tmp_path, checks={"golden": golden})) as gate:
            check, challenger, champion = await check_of(store, old_url, url, model="new-1")
            view = await settled(gate, check, challenger, champion)
        summary = (await store.checks.get(check.id)).summary  # type: ignore[union-attr]
        first = await store.comparisons.get(check.id, "golden:1")
    assert view.verdict == "reject"
    assert view.reasons[0].startswith(
        "golden file: of 70 cases the challenger lost 10 and won 0: it is worse; worse in"
    )
    assert "'refunds' (10 lost, 0 won)" in view.reasons[0]
    assert [example["item"] for example in summary["examples"]] == [f"golden:{at}" for at in range(1, 11)]
    assert summary["examples"][0]["why"] == 'does not contain "Yes"'
    assert first is not None
    assert (first.tags, first.outcome, first.data["challenger"]["text"]) == (("refunds",), -1.0, "No.")
    assert len(new.asked) == 73  # and not one conversation: a rejection needs no more


async def test_a_golden_file_alone_passes_what_lost_nothing(tmp_path: Path) -> None:
    golden = written(tmp_path, *(case(f"Case {at}", contains=" ") for at in range(30)))
    config = config_of(tmp_path, checks={"golden": golden, "replays": 0})
    async with opened(tmp_path, []) as store, serving(ScriptedModel().app) as url, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, url, url))
    assert view.verdict == "pass"


async def test_a_golden_file_without_the_champion_holds(tmp_path: Path) -> None:
    golden = written(tmp_path, case("Case", contains="x"))
    config = config_of(tmp_path, checks={"golden": golden, **SOON}, **NO_WARM_UP)
    away = f"http://127.0.0.1:{unused_port()}"
    async with (
        opened(tmp_path, history(150)) as store,
        serving(ScriptedModel().app) as url,
        gate_of(store, config) as gate,
    ):
        view = await settled(gate, *await check_of(store, away, url))
    assert view.verdict == "hold"
    assert f"{away} cannot be reached" in view.reasons[0]


async def test_a_rubric_is_judged(tmp_path: Path) -> None:
    golden = written(tmp_path, *(case(f"Case {at}", rubric="is no rubbish") for at in range(12)))
    bad = ScriptedModel(lambda asked, rng: {"content": "lorem ipsum"})
    async with (
        serving(ScriptedJudge().app) as judge_url,
        serving(bad.app) as url,
        serving(ScriptedModel().app) as old_url,
    ):
        settings = {"kind": "openai", "url": f"{judge_url}/v1", "model": "judge"}
        config = config_of(tmp_path, judge=settings, checks={"golden": golden, "replays": 0})
        async with opened(tmp_path, []) as store, gate_of(store, config) as gate:
            check, challenger, champion = await check_of(store, old_url, url)
            view = await settled(gate, check, challenger, champion)
            examples = (await store.checks.get(check.id)).summary["examples"]  # type: ignore[union-attr]
    assert view.verdict == "reject"
    assert examples[0]["why"] == "is not as the rubric wants it"


@pytest.mark.parametrize(
    ("golden", "says"),
    [("nowhere.jsonl", "cannot be read"), ("rubric", "has cases with a rubric, which a judge reads; set judge.kind")],
)
async def test_a_golden_file_that_is_no_use_holds_with_the_reason(tmp_path: Path, golden: str, says: str) -> None:
    path = written(tmp_path, case("Case", rubric="is good")) if golden == "rubric" else golden
    config = config_of(tmp_path, checks={"golden": path})
    async with opened(tmp_path, []) as store, gate_of(store, config) as gate:
        view = await settled(gate, *await check_of(store, "http://127.0.0.1:9", "http://127.0.0.1:9"))
    assert view.verdict == "hold"
    assert says in view.reasons[0]


async def test_users_that_training_saw_are_not_asked(tmp_path: Path) -> None:
    model = ScriptedModel()
    config = config_of(tmp_path, generator_config={"holdout_share": 0.3}, **NO_WARM_UP)
    async with opened(tmp_path, history(100)) as store, serving(model.app) as url:
        apart = [user for user in range(1, 101) if held_out("", user, 0.3)]
        await store.runs.add_users("run-1", apart[:5])
        check, challenger, champion = await check_of(store, url, url, run_id="run-1")
        async with gate_of(store, config) as gate:
            await settled(gate, check, challenger, champion)
        rows = await store.comparisons.of_check(check.id)
    assert 20 < len(rows) < 45
    assert {row.user_hash for row in rows} == set(apart[5:])


async def test_what_may_not_be_used_again_is_not_asked(tmp_path: Path) -> None:
    model = ScriptedModel()
    unfit = history(30, each=1, seed=1, flags=RecordFlag.NO_TRAIN) + history(
        30, each=1, seed=2, flags=RecordFlag.TRUNCATED_RESPONSE
    )
    others = history(30, each=1, seed=4, model_id=2) + history(30, each=1, seed=5, status=500)
    async with opened(tmp_path, unfit + others) as store, serving(model.app) as url:
        async with gate_of(store, config_of(tmp_path)) as gate:
            check, challenger, champion = await check_of(store, url, url)
            await settled(gate, check, challenger, champion)
        rows = await store.comparisons.of_check(check.id)
    assert rows == []


async def test_a_deleted_user_is_in_no_check(tmp_path: Path) -> None:
    async with opened(tmp_path, history(25)) as store, serving(ScriptedModel().app) as url:
        check, challenger, champion = await check_of(store, url, url)
        async with gate_of(store, config_of(tmp_path)) as gate:
            await settled(gate, check, challenger, champion)
        rows = {row.user_hash: row for row in await store.comparisons.of_check(check.id)}
        assert set(rows) == set(range(1, 26))
        await store.deletion.delete_user(7)
        left = await store.comparisons.of_check(check.id)
        assert {row.user_hash for row in left} == set(rows) - {7}
        await store.comparisons.add(rows[7])  # by a check that was at it just then
        assert len(await store.comparisons.of_check(check.id)) == 24
    assert id_time_us(str(rows[7].record_id)) > 0


async def test_a_cancelled_check_asks_nothing_more(tmp_path: Path) -> None:
    model = ScriptedModel(delay_s=0.02)
    async with opened(tmp_path, history(150)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        gate: ReplayGate
        async with gate_of(store, config_of(tmp_path)) as gate:
            view = await gate.poll(check, challenger, champion)
            assert not view.done
            await model.asked_at_least(10)
            await gate.cancel(check.id)
            asked = len(model.asked)
            await gate.cancel(check.id)
        assert len(model.asked) == asked


async def test_tools_are_asked_for_and_never_run(tmp_path: Path) -> None:
    """Whatever is called, only the model's own endpoint hears of it."""
    model = ScriptedModel(well)
    async with opened(tmp_path, history(30, tools=True)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        async with gate_of(store, config_of(tmp_path, **NO_WARM_UP)) as gate:
            await settled(gate, check, challenger, champion)
        rows = await store.comparisons.of_check(check.id)
    assert len(model.asked) == len(rows) == 30
    assert all(len(asked["messages"]) == 2 for asked in model.asked)
    assert completion({}, "m")["object"] == "chat.completion"


async def test_settings_that_were_mended_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, golden = ScriptedModel(), tmp_path / "golden.jsonl"
    config = config_of(tmp_path, checks={"golden": str(golden), "replays": 0})
    async with opened(tmp_path, []) as store, serving(model.app) as url, gate_of(store, config) as gate:
        check, challenger, champion = await check_of(store, url, url)
        check = replace(check, started_us=check.started_us - 86_400_000_000)  # it was held for a day, and asked nothing
        first = await settled(gate, check, challenger, champion)
        written(tmp_path, *(case(f"Case {at}", contains=" ") for at in range(30)))
        assert await gate.poll(check, challenger, champion) == first, "not at each look"
        monkeypatch.setattr("proxy.checks.gate._LOOK_S", 0.0)
        golden.rename(tmp_path / "aside")
        for _ in range(3):
            assert await gate.poll(check, challenger, champion) == first, "the same words, so that nothing is news"
        (tmp_path / "aside").rename(golden)
        async with asyncio.timeout(60):
            while (view := await gate.poll(check, challenger, champion)).verdict in {"hold", None}:
                pass
        assert (first.verdict, view.verdict) == ("hold", "pass")
        asked = len(model.asked)
        golden.unlink()
        assert await gate.poll(check, challenger, champion) == view, "what has asked stays"
        assert len(model.asked) == asked


async def test_while_the_loop_is_paused_nothing_new_is_asked(tmp_path: Path) -> None:
    model = ScriptedModel(delay_s=0.02)
    config = config_of(tmp_path, checks={"concurrency": 2, "time_limit_minutes": 0.1}, **NO_WARM_UP)
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        async with gate_of(store, config) as gate:
            await gate.poll(check, challenger, champion)
            await model.asked_at_least(4)
            view = await gate.poll(check, challenger, champion, paused=True)
            while model.together:
                await gate.poll(check, challenger, champion, paused=True)
            asked = len(model.asked)
            assert view.reasons[0].startswith("the loop is paused, so nothing new is asked (`ratchet resume`")
            for _ in range(5):  # a second, in which it would have asked all of them
                assert not (await gate.poll(check, challenger, champion, paused=True)).done
            assert len(model.asked) == asked < 10
        async with gate_of(store, config) as gate:  # as after a crash of the controller
            for _ in range(5):
                view = await gate.poll(check, challenger, champion, paused=True)
                assert not view.done
            assert view.reasons[0].startswith("the loop is paused")
            assert len(model.asked) == asked
            assert (await settled(gate, check, challenger, champion)).verdict == "undecided"
        assert len(model.asked) == 40


async def test_a_pause_takes_no_time_from_the_check(tmp_path: Path) -> None:
    model, clock = ScriptedModel(), ManualClock(BEGAN_US / 1e6)
    config = config_of(tmp_path, checks={"concurrency": 1, "time_limit_minutes": 10}, deployer={"warmup_requests": 2})
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        gate = ReplayGate(store, config, CredentialFile(None, config.champion).header, clock)
        try:
            for _ in range(5):
                await gate.poll(check, challenger, champion, paused=True)
            assert model.asked == [], "no warm-up either"
            clock.advance(6_000.0)
            view = await settled(gate, check, challenger, champion)
        finally:
            await gate.close()
        assert (view.verdict, len(model.asked)) == ("undecided", 42)
        assert not any("time limit" in reason for reason in view.reasons)


async def test_a_store_that_was_away_takes_no_pause_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on after it has the time of the pause, too."""
    model, clock = ScriptedModel(), ManualClock(BEGAN_US / 1e6)
    config = config_of(tmp_path, checks={"concurrency": 1, "time_limit_minutes": 10}, **NO_WARM_UP)
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url)
        gate = ReplayGate(store, config, CredentialFile(None, config.champion).header, clock)
        try:
            for _ in range(5):
                await gate.poll(check, challenger, champion, paused=True)
            clock.advance(6_000.0)

            async def away(*_: object) -> None:
                raise TemporaryError("the store is away")

            with monkeypatch.context() as patched:
                patched.setattr(store.comparisons, "add", away)
                async with asyncio.timeout(30):
                    while "soon" not in (view := await gate.poll(check, challenger, champion)).reasons[0]:
                        assert not view.done, view
            clock.advance(15.0)
            view = await settled(gate, check, challenger, champion)
        finally:
            await gate.close()
        assert view.verdict == "undecided", view
        assert not any("time limit" in reason for reason in view.reasons)


async def test_what_a_challenger_claims_to_have_cost_does_not_end_the_check(tmp_path: Path) -> None:
    """An answer costs no more tokens than it has bytes, with its question."""

    def liar(asked: dict[str, Any], rng: random.Random) -> Response:
        answer = completion(well(asked, rng), "m")
        answer["usage"] = {"prompt_tokens": 10**9, "completion_tokens": 10**12}
        return Response(json.dumps(answer), media_type="application/json")

    model = ScriptedModel(liar)
    config = config_of(tmp_path, checks={"max_tokens": 1_000_000}, **NO_WARM_UP)
    async with opened(tmp_path, history(40)) as store, serving(model.app) as url, gate_of(store, config) as gate:
        check, challenger, champion = await check_of(store, url, url)
        await settled(gate, check, challenger, champion)
        summary = (await store.checks.get(check.id)).summary  # type: ignore[union-attr]
    assert summary["counts"]["compared"] == 40
    assert 40 * 30 < summary["counts"]["tokens"] < 100_000
