"""From a logged sample to its conversation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from policies.conversation import Conversation, Lack
from policies.records import LoggedExchange, Sample
from proxy.loop.dataset.reading import read
from tests.harness.conversations import shown

CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rome?"}]}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Yes."}}]}


def sample(request: Any, response: Any, *, query: str = "Rome?", answer: str = "Yes.", **facts: Any) -> Sample:
    exchange = LoggedExchange(
        **{"kind": "chat", "target": "/v1/chat/completions", "request_type": "application/json"} | facts,
        request=json.dumps(request).encode(),
        response=json.dumps(response).encode(),
    )
    return Sample(record_id="r", created_at=0.0, user=1, query=query, response=answer, exchange=exchange)


def test_what_went_over_the_wire_is_the_conversation() -> None:
    found = read(sample(CHAT, ANSWER)).said
    assert shown(found) == {"turns": ["system: Be brief.", "user: Rome?"], "answer": "assistant: Yes."}


def test_a_question_and_an_answer_stay_these_two() -> None:
    logged = Sample(record_id="r", created_at=0.0, user=1, query="Rome?", response=" Yes. ")
    assert shown(read(logged).said) == {"turns": ["user: Rome?"], "answer": "assistant:  Yes. "}
    aloud = Sample(record_id="r", created_at=0.0, user=1, query="Rome?", response="<think>hm</think>Yes.")
    assert shown(read(aloud).said)["answer"] == {"assistant": "Yes.", "thought": "hm"}


def test_the_thoughts_in_a_correction_are_none_of_its_words() -> None:
    mended = replace(sample(CHAT, ANSWER), correction="<think>hm</think>No.")
    assert read(mended).correction == "No."


def test_who_has_a_conversation_keeps_it() -> None:
    said = Conversation.plain("a", "b")
    kept = Sample(record_id="r", created_at=0.0, user=1, query="a", response="b", conversation=said)
    assert read(kept) is kept
    said.goes_on_from = "resp_1"
    assert read(kept).said.lacks is Lack.CONTEXT_ELSEWHERE


def test_a_cut_copy_is_not_read() -> None:
    found = read(sample(CHAT, ANSWER, cut=True)).said
    assert shown(found) == {"turns": ["user: Rome?"], "answer": "assistant: Yes.", "lacks": "truncated"}


def test_what_pointers_found_is_a_question_and_an_answer() -> None:
    odd = {"messages": [{"role": "user", "content": "Context"}], "deep": {"ask": "Rome?"}}
    facts = {"kind": "json", "target": "/ask"}
    pointed = read(sample(odd, {"deep": "Yes.", "text": "No."}, **facts)).said
    assert shown(pointed) == {"turns": ["user: Rome?"], "answer": "assistant: Yes."}
    unpointed = read(sample(CHAT, {"text": "Yes."}, **facts)).said
    assert shown(unpointed) == {"turns": ["system: Be brief.", "user: Rome?"], "answer": "assistant: Yes."}


def test_copies_of_no_known_shape_leave_the_texts_that_were_logged() -> None:
    found = read(sample({"model": "m"}, {"choices": []})).said
    assert shown(found) == {"turns": ["user: Rome?"], "answer": "assistant: Yes."}
    elsewhere = sample({"model": "m", "previous_response_id": "resp_1"}, {"output": []}, kind="responses",
                       target="/v1/responses")  # fmt: skip
    assert read(elsewhere).said.lacks is not None
