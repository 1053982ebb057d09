"""What a request of a test shows by itself, and by which keys the store knows it again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from policies.records import Outcome
from policies.scoring import ScoringConfig
from policies.signals import Signal
from proxy.config.serving import CaptureConfig
from proxy.ingest.interpret import Interpreter
from proxy.store.tables.values import NewRecord
from tests.harness.frames import frame_of

ID = "0190a0a0b0b07abc8def012345670000"
USER, REPLY = (
    {"role": "user", "content": "How do I read a large file?"},
    {"role": "assistant", "content": "Line by line."},
)
COULD = Signal.JUDGEABLE | Signal.ANSWER | Signal.AWAITED


def shown(*turns: dict[str, Any], request: dict[str, Any] | None = None, **facts: Any) -> NewRecord:
    ask = {"model": "m", "messages": list(turns or (USER,))} | (request or {})
    said = {"id": "chatcmpl-12345678", "choices": [{"message": REPLY, "finish_reason": "stop"}]}
    interpreter = Interpreter(CaptureConfig(), ScoringConfig(), user_hash=lambda name: len(name))
    frame = frame_of(ID, orjson.dumps(ask), orjson.dumps(said), **{"exp": 1, "ep": 1, "key": 7} | facts)
    return interpreter.record(frame)


def test_outside_of_a_test_nobody_looks() -> None:
    found = shown(exp=None)
    assert (found.signals, found.prompt_key, found.answers_key, found.thread_key) == (None, None, None, None)


def test_an_answer_could_be_made_anew() -> None:
    found = shown()
    assert found.signals == COULD
    assert found.prompt_key is not None
    assert (found.answers_key, found.thread_key) == (None, len(b"first message\0" + USER["content"].encode()))


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.7},
        {"seed": 2},
        {"model": "other"},
        {"messages": [{"role": "user", "content": "How do I read a small file?"}]},
        {"messages": [{"role": "system", "content": "Be brief."}, USER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": USER["content"]},
                                                   {"type": "image_url", "image_url": {"url": "https://x/1.png"}}]}]},
    ],
)  # fmt: skip
def test_another_question_has_another_key(changes: dict[str, Any]) -> None:
    assert shown(request=changes).prompt_key != shown().prompt_key


def test_what_a_ui_says_of_itself_changes_no_key() -> None:
    same = shown(request={"user": "ann", "stream": False, "metadata": {"message_id": "17"}}, rh={"x-request-id": "1"})
    assert same.prompt_key == shown().prompt_key


def test_a_complaint_is_about_the_answer_before() -> None:
    complaint = shown(USER, REPLY, {"role": "user", "content": "That's wrong"})
    assert complaint.signals == COULD | Signal.COMPLAINT
    assert complaint.answers_key == shown().prompt_key
    similar = shown(USER, REPLY, {"role": "user", "content": "How do I read a large file without loading it?"})
    assert similar.answers_key == shown().prompt_key
    thanks = shown(USER, REPLY, {"role": "user", "content": "Thanks, and in Ruby?"})
    assert (thanks.signals, thanks.answers_key) == (COULD, None)
    parts = [{"type": "text", "text": "That's wrong"}]
    assert shown(USER, REPLY, {"role": "user", "content": parts}).answers_key == shown().prompt_key


@pytest.mark.parametrize(
    ("header", "bits"),
    [
        ({}, Signal.NONE),
        ({"x-stainless-retry-count": "0"}, Signal.TELLS_RETRIES),
        ({"x-stainless-retry-count": "2"}, Signal.TELLS_RETRIES | Signal.RETRY),
        ({"x-stainless-retry-count": "two"}, Signal.NONE),
        ({"amz-sdk-request": "attempt=1; max=3"}, Signal.TELLS_RETRIES),
        ({"amz-sdk-request": "ttl=20260101T000000Z; attempt=2; max=3"}, Signal.TELLS_RETRIES | Signal.RETRY),
    ],
)
def test_sdks_say_which_attempt_it_is(header: dict[str, str], bits: Signal) -> None:
    assert shown(rh={"content-type": "application/json"} | header).signals == COULD | bits


def test_whoever_leaves_abandons() -> None:
    left = shown(out=int(Outcome.CLIENT_DISCONNECT))
    assert left.signals == COULD | Signal.ABANDONED
    early = shown(out=int(Outcome.CLIENT_DISCONNECT), st=0, ttfb=None)
    assert early.signals == Signal.AWAITED | Signal.ABANDONED, "nothing to be made anew"
    failed = shown(st=503)
    assert failed.signals == Signal.NONE


def test_of_what_is_not_known_nothing_is_said() -> None:
    nobody, cut = shown(key=None, src="random"), shown(rsha="00" * 32)
    for found in (nobody, cut):
        assert (found.signals, found.prompt_key) == (Signal.ANSWER | Signal.AWAITED, None)


@pytest.mark.parametrize("name", ["thread_id", "chat_id", "session_id"])
def test_more_names_of_a_conversation_are_known(name: str) -> None:
    found = shown(request={name: "talk-1"})
    assert (found.conversation, found.thread_key) == (len("talk-1"), None)
    assert shown(request={"metadata": {"chat_id": "talk-1"}}).conversation == len("talk-1")
