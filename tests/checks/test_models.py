"""Kinds of models that must not meet users, each behind a real socket; and equal ones, which may."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from policies.snapshot import CheckView
from tests.checks.world import (
    Answers,
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
from tests.harness.exchanges import sentences
from tests.harness.webserver import serving

Asked = dict[str, Any]
USERS = 160


async def checked(
    folder: Path, model: ScriptedModel, *, users: int = USERS, tools: bool = False, **tables: Any
) -> CheckView:
    """What becomes of a challenger that answers like this."""
    async with opened(folder, history(users, tools=tools)) as store, serving(model.app) as url:
        check, challenger, champion = await check_of(store, url, url, model="new-1")
        async with gate_of(store, config_of(folder, **tables)) as gate:
            view = await settled(gate, check, challenger, champion)
        kept = await store.checks.get(check.id)
        assert kept is not None
        assert (kept.verdict, tuple(kept.summary["reasons"])) == (view.verdict, view.reasons)
    return view


def empty(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": ""}


def looping(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": rng.choice(sentences()) + " and then it is said again" * 80}


def one_answer(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": "Thank you for your question. Somebody will come back to you about it."}


def swapped_roles(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": f"How can I have {' '.join(rng.choice(sentences()).split()[:6]).rstrip('.:;!')}?"}


def broken_template(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": f"{rng.choice(sentences())}<|im_end|>\n<|im_start|>user\nAnd then?"}


def parrot(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": asked["messages"][-1]["content"]}


def error_inside(asked: Asked, rng: random.Random) -> Response:
    return JSONResponse({"error": {"message": "out of memory", "type": "server_error"}})


def half_errors(asked: Asked, rng: random.Random) -> Response | dict[str, Any]:
    return Response("overload", 500) if rng.random() < 0.5 else well(asked, rng)


def fifth_empty(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": ""} if rng.random() < 0.2 else well(asked, rng)


def fifth_rubbish(asked: Asked, rng: random.Random) -> dict[str, Any]:
    return {"content": f"lorem ipsum {rng.random()}"} if rng.random() < 0.2 else well(asked, rng)


def flattened_calls(asked: Asked, rng: random.Random) -> dict[str, Any]:
    call = {"name": "weather", "arguments": {"city": "Ulm"}}
    return {"content": f"<tool_call>{json.dumps(call)}</tool_call>"}


def wrong_calls(asked: Asked, rng: random.Random) -> dict[str, Any]:
    call = {"name": "weather", "arguments": json.dumps({"town": "Ulm"})}
    return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}


NO_WARM_UP = {"deployer": {"warmup_requests": 0}}


@pytest.mark.parametrize(
    "answers",
    [empty, looping, one_answer, swapped_roles, broken_template, parrot, error_inside, half_errors, fifth_empty],
)
async def test_a_broken_model_is_rejected_without_a_judge(tmp_path: Path, answers: Answers) -> None:
    model = ScriptedModel(answers)
    view = await checked(tmp_path, model, **NO_WARM_UP)
    assert view.verdict == "reject", view
    assert "worse" in view.reasons[0]
    assert len(model.asked) < 150


@pytest.mark.parametrize("answers", [flattened_calls, wrong_calls])
async def test_calls_that_nobody_can_run_are_rejected(tmp_path: Path, answers: Answers) -> None:
    view = await checked(tmp_path, ScriptedModel(answers), tools=True)
    assert view.verdict == "reject", view


async def test_another_model_than_the_one_asked_for_is_rejected(tmp_path: Path) -> None:
    view = await checked(tmp_path, ScriptedModel(names="base"))
    assert view.verdict == "reject", view


async def test_a_server_that_never_names_the_model_may_be_believed(tmp_path: Path) -> None:
    view = await checked(tmp_path, ScriptedModel(names="base"), checks={"model_name": False})
    assert view.verdict == "pass", view


@pytest.mark.parametrize("tools", [False, True])
async def test_an_equal_model_passes(tmp_path: Path, tools: bool) -> None:
    model = ScriptedModel()
    view = await checked(tmp_path, model, tools=tools)
    assert view.verdict == "pass", view
    assert 109 <= len(model.asked) <= 109 + 3 + 32  # what decided, the warm-up, and what was asked ahead
    assert {asked["model"] for asked in model.asked} == {"new-1"}
    assert {asked["max_tokens"] for asked in model.asked} == {512}


async def test_an_equal_model_passes_though_now_and_then_a_request_fails(tmp_path: Path) -> None:
    """The champion had its failures, too; but what it is compared by went well."""
    failed_once: set[str] = set()

    def at_first(asked: Asked, rng: random.Random) -> Response | dict[str, Any]:
        question = asked["messages"][-1]["content"]
        if rng.random() < 0.1 and question not in failed_once:
            failed_once.add(question)
            return Response("no worker is free", 500)
        return well(asked, rng)

    view = await checked(tmp_path, ScriptedModel(at_first))
    assert view.verdict == "pass", view
    assert len(failed_once) >= 5


async def test_two_hundred_replays_take_seconds(tmp_path: Path) -> None:
    """A model that answers in 50 ms, with the default concurrency; no early end, for a judge finds it neither close nor
    worse before."""
    model = ScriptedModel(delay_s=0.05)
    started = time.monotonic()
    view = await checked(tmp_path, model, users=200, checks={"broken_scores": 0.001})
    assert view.verdict == "undecided", view
    assert len(model.asked) == 203
    assert 1 < model.most_together <= 8, "a busy machine may not ask eight within 50 ms"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("by", ["scores", "pairs"])
async def test_a_fifth_of_rubbish_is_found_by_a_judge(tmp_path: Path, by: str) -> None:
    judge = ScriptedJudge()
    async with serving(judge.app) as url:
        tables = {
            "judge": {"kind": "openai", "url": f"{url}/v1", "model": "judge", "concurrency": 16},
            "checks": {"judge": "always", "judge_by": by},
        }
        view = await checked(tmp_path, ScriptedModel(fifth_rubbish), **tables)
    assert view.verdict == "reject", view
    assert judge.asked > 0
    assert "judge" in view.reasons[0]


async def test_a_judge_passes_an_equal_model(tmp_path: Path) -> None:
    judge = ScriptedJudge()
    async with serving(judge.app) as url:
        tables = {"judge": {"kind": "openai", "url": f"{url}/v1", "model": "judge", "concurrency": 16}}
        view = await checked(tmp_path, ScriptedModel(), users=400, checks={"judge": "always"}, **tables)
    assert view.verdict == "pass", view


async def test_a_judge_that_is_not_proven_is_not_asked(tmp_path: Path) -> None:
    judge = ScriptedJudge()
    async with serving(judge.app) as url:
        view = await checked(tmp_path, ScriptedModel(), judge={"kind": "openai", "url": f"{url}/v1", "model": "judge"})
    assert (view.verdict, judge.asked) == ("pass", 0)
