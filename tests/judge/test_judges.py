"""Every judge: one suite for the port, then what each kind has to itself. Real sockets, real processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.config import parse_config
from proxy.config.judge import JudgeConfig
from proxy.errors import ConfigError
from proxy.judge.build import make_judge, scorer_of
from proxy.judge.ports import Choice, Failure, Judge, JudgeItem, JudgePair
from proxy.tasks import spawn
from tests.harness.judge_server import JudgeServer, Said, verdict

_HERE = "tests.judge.functions"


def item(answer: str, question: str = "What is it?", rubric: str | None = None) -> JudgeItem:
    return JudgeItem(
        messages=({"role": "user", "content": question},),
        answer={"role": "assistant", "content": answer},
        rubric=rubric,
    )


def pair(first: str, second: str) -> JudgePair:
    said = [{"role": "assistant", "content": text} for text in (first, second)]
    return JudgePair(messages=({"role": "user", "content": "What is it?"},), first=said[0], second=said[1])


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@asynccontextmanager
async def opened(config: JudgeConfig) -> AsyncIterator[Judge]:
    judge = make_judge(config)
    assert judge is not None
    try:
        yield judge
    finally:
        await judge.close()


def openai(server: JudgeServer, **settings: Any) -> JudgeConfig:
    return JudgeConfig(kind="openai", url=server.url, model="judge-1", **{"timeout_seconds": 20.0, **settings})


def function(name: str, **settings: Any) -> JudgeConfig:
    return JudgeConfig(kind="callable", callable=f"{_HERE}:{name}", **{"timeout_seconds": 20.0, **settings})


def by_length(asked: Any) -> Said:
    """The scripted judge that the function `by_length` is as well: longer is better."""
    answers = [part.partition("\n</answer")[0] for part in asked["messages"][1]["content"].split("<answer")[1:]]
    lengths = [len(answer.partition(">\n")[2]) for answer in answers]
    if len(lengths) == 1:
        return min(1.0, lengths[0] / 10)
    return '{"better": "%s"}' % ("tie" if lengths[0] == lengths[1] else "A" if lengths[0] > lengths[1] else "B")


# -- whatever its kind


@pytest.fixture(params=["openai", "callable"])
async def judge(request: pytest.FixtureRequest, server: JudgeServer) -> AsyncIterator[Judge]:
    server.script = by_length
    async with opened(openai(server) if request.param == "openai" else function("by_length")) as judge:
        yield judge


async def test_each_item_gets_its_own_score_in_order(judge: Judge) -> None:
    found = await judge.score([item("x" * count) for count in range(1, 41)])
    assert [one.score for one in found] == [min(1.0, count / 10) for count in range(1, 41)]
    assert not any(one.failure for one in found)


async def test_nothing_asked_is_nothing_answered(judge: Judge) -> None:
    assert list(await judge.score([])) == []
    assert list(await judge.prefer([])) == []


async def test_a_pair_is_decided_in_both_orders(judge: Judge) -> None:
    longer, shorter, tie = await judge.prefer([pair("xxx", "x"), pair("x", "xxx"), pair("xx", "xx")])
    assert (longer.straight, longer.turned) == (Choice.FIRST, Choice.FIRST)
    assert (shorter.straight, shorter.turned) == (Choice.SECOND, Choice.SECOND)
    assert (tie.straight, tie.turned) == (Choice.TIE, Choice.TIE)


async def test_two_callers_do_not_get_each_others_answers(judge: Judge) -> None:
    found = await asyncio.gather(*(judge.score([item("x" * count)] * 3) for count in range(1, 10)))
    assert [[one.score for one in some] for some in found] == [[count / 10] * 3 for count in range(1, 10)]


async def test_whoever_stops_waiting_leaves_the_judge_usable(judge: Judge) -> None:
    waiting = spawn(judge.score([item("xxxx")] * 20), name="a caller")
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert [one.score for one in await judge.score([item("xx")])] == [0.2]


# -- an endpoint


async def test_the_request_has_model_options_and_key_and_nothing_of_ours(server: JudgeServer) -> None:
    config = openai(server, api_key="a-key-of-the-judge", options={"temperature": "0", "reasoning_effort": "low"})
    async with opened(config) as judge:
        (found,) = await judge.score([item("yes", rubric="Is it yes?")])
    assert (found.score, found.reason, found.tokens) == (1.0, "because", 7)
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["temperature"], asked["reasoning_effort"]) == ("judge-1", 0, "low")
    assert "Is it yes?" in asked["messages"][0]["content"]
    assert server.headers[0]["Authorization"] == "Bearer a-key-of-the-judge"
    assert asked.keys() == {"model", "temperature", "reasoning_effort", "messages", "path"}


async def test_a_judge_claims_no_more_tokens_than_there_are_bytes(server: JudgeServer) -> None:
    server.tokens = 10**9
    async with opened(openai(server)) as judge:
        (found,) = await judge.score([item("yes")])
    assert 100 < found.tokens < 10_000


@pytest.mark.parametrize("text", ["", "good!", '{"score": 11}', "```json\n{}\n```"])
async def test_garbage_is_no_score_and_is_not_asked_again(server: JudgeServer, text: str) -> None:
    server.script = lambda asked: text
    async with opened(openai(server)) as judge:
        (found,) = await judge.score([item("yes")])
    assert (found.score, found.failure, found.tokens) == (None, Failure.UNREADABLE, 7)
    assert len(server.asked) == 1


def _once(first: Said, then: Said = 0.5) -> Callable[[Any], Said]:
    said = iter([first])
    return lambda asked: next(said, then)


@pytest.mark.parametrize("first", [(429, {"Retry-After": "0"}), (503, {}), (529, {}), (500, {}), (408, {})])
async def test_what_may_pass_is_asked_again(server: JudgeServer, first: Said) -> None:
    server.script = _once(first)
    async with opened(openai(server)) as judge:
        (found,) = await judge.score([item("yes")])
    assert found.score == 0.5
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("said", "failure"),
    [((429, {"Retry-After": "0"}), Failure.BUSY), ((500, {"Retry-After": "0"}), Failure.UNREACHABLE)],
)
async def test_the_attempts_have_an_end(server: JudgeServer, said: Said, failure: Failure) -> None:
    server.script = lambda asked: said
    async with opened(openai(server, attempts=3)) as judge:
        (found,) = await judge.score([item("yes")])
    assert (found.score, found.failure) == (None, failure)
    assert len(server.asked) == 3


async def test_what_is_declined_is_not_asked_again(server: JudgeServer) -> None:
    server.script = lambda asked: (401, {})
    async with opened(openai(server)) as judge:
        (found,) = await judge.score([item("yes")])
    assert found.failure is Failure.REFUSED
    assert "HTTP 401" in found.reason
    assert len(server.asked) == 1


async def test_a_judge_that_says_nothing_costs_its_timeout(server: JudgeServer) -> None:
    never = threading.Event()
    server.script = lambda asked: never
    try:
        async with opened(openai(server, timeout_seconds=0.2, attempts=2)) as judge:
            (found,) = await judge.score([item("yes")])
    finally:
        never.set()
    assert found.failure is Failure.TIMEOUT
    assert len(server.asked) == 2


async def test_a_judge_that_is_down_is_no_exception() -> None:
    config = JudgeConfig(kind="openai", url="http://127.0.0.1:9/v1", model="m", attempts=1)
    async with opened(config) as judge:
        (found,) = await judge.score([item("yes")])
        (preferred,) = await judge.prefer([pair("yes", "no")])
    assert found.failure is Failure.UNREACHABLE
    assert preferred.failure is Failure.UNREACHABLE
    assert (preferred.straight, preferred.turned) == (None, None)


async def test_no_more_questions_are_open_than_allowed(server: JudgeServer) -> None:
    together = threading.Barrier(3)

    def script(asked: Any) -> Said:
        together.wait(20)
        return verdict(1)

    server.script = script
    async with opened(openai(server, concurrency=3)) as judge:
        found = await judge.score([item("yes")] * 12)
    assert [one.score for one in found] == [1.0] * 12
    assert server.most_open == 3


async def test_a_judge_that_prefers_a_place_disagrees_with_itself(server: JudgeServer) -> None:
    server.script = lambda asked: '{"better": "A"}'
    async with opened(openai(server)) as judge:
        (found,) = await judge.prefer([pair("x", "xxx")])
    assert (found.straight, found.turned) == (Choice.FIRST, Choice.SECOND)


# -- a function


async def test_a_function_may_be_async_and_say_why() -> None:
    async with opened(function("with_reasons")) as judge:
        (found,) = await judge.score([item("yes", question="Why?")])
    assert (found.score, found.reason, found.failure) == (0.25, "Why?", None)


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("out_of_range", Failure.UNREADABLE, "7 is not from 0 to 1"),
        ("declines", Failure.UNREADABLE, ""),
        ("too_few", Failure.FAILED, "returned 1 scores for 2 records"),
        ("a_word", Failure.FAILED, "returned str, not a list of scores"),
        ("raises", Failure.FAILED, "LookupError: no such rubric"),
        ("ends", Failure.FAILED, "process of tests.judge.functions:ends ended"),
        ("missing", Failure.FAILED, "AttributeError"),
    ],
)
async def test_a_function_that_goes_wrong_gives_no_scores(name: str, failure: Failure, words: str) -> None:
    async with opened(function(name)) as judge:
        found = await judge.score([item("yes"), item("no")])
        again = await judge.score([item("yes"), item("no")])
    for one in (*found, *again):
        assert (one.score, one.failure) == (None, failure)
        assert words in one.reason


async def test_a_function_that_hangs_is_ended_and_the_next_call_works() -> None:
    async with opened(function("hangs", timeout_seconds=0.5)) as judge:
        assert [one.score for one in await judge.score([item("first")])] == [1.0]  # it has started by now
        (found,) = await judge.score([item("hang")])
        assert found.failure is Failure.TIMEOUT
        assert [one.score for one in await judge.score([item("yes")])] == [1.0]


async def test_a_function_knows_no_secret_and_has_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_ADMIN__TOKEN", "a secret of ours")
    async with opened(function("secrets")) as judge:
        (found,) = await judge.score([item("yes")])
    assert found.reason == "[] ''"


# -- who it is


def test_another_rubric_model_option_or_version_is_another_scorer(server: JudgeServer) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"rubric": "Is it short?"},
        {"options": {"temperature": "0"}},
        {"version": "2"},
    ]
    named = [scorer_of(openai(server, **change)) for change in changes]
    other = scorer_of(JudgeConfig(kind="openai", url=server.url, model="judge-2"))
    assert len({*named, other}) == 5
    assert named[0] == scorer_of(openai(server, concurrency=9, timeout_seconds=1.0))
    assert str(named[0]).startswith("openai:judge-1:")


def test_there_is_none_unless_somebody_says_so() -> None:
    assert make_judge(JudgeConfig()) is None
    assert scorer_of(JudgeConfig()) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "openai", "model": "m"}, "judge.url: not set, although judge.kind is openai"),
        ({"kind": "openai", "url": "http://127.0.0.1:1/v1"}, "judge.model: not set, although judge.kind is openai"),
        ({"kind": "callable"}, "judge.callable: not set, although judge.kind is callable"),
        ({"kind": "callable", "callable": "a:b", "max_per_hour": 9, "max_per_day": 1}, "more than max_per_day (1)"),
        ({"sample": 1.5}, "judge.sample: 1.5 is too large (a share of the answers, 0 to 1"),
        ({"kind": "openai", "url": "http://127.0.0.1:1/v1", "model": "m", "options": {"model": "x"}},
         "judge.options: has messages or model"),
        ({"trust": "blind"}, 'judge.trust: "blind" is not one of rectified, unrectified'),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="judge") as told:
        parse_config({"judge": settings})
    assert message in str(told.value)


def test_a_rubric_may_stand_in_a_file(tmp_path: Path) -> None:
    from proxy.config import load_config

    (tmp_path / "rubric.txt").write_text("Is it polite?\n")
    (tmp_path / "c.toml").write_text(
        f'[judge]\nkind = "callable"\ncallable = "a:b"\nrubric_file = "{tmp_path / "rubric.txt"}"\n'
    )
    assert load_config(tmp_path / "c.toml").judge.rubric == "Is it polite?"
