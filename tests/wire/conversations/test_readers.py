"""Every API's exchanges as the conversations that they are."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from proxy.wire.extract import logged
from tests.harness.conversations import CASES, asked, shown


@pytest.mark.parametrize(
    ("path", "request_", "response", "right"),
    [case[1:] for case in CASES],
    ids=[f"{case[1]}: {case[0]}" for case in CASES],
)
def test_an_exchange_is_the_conversation_that_it_was(
    path: str, request_: dict[str, Any], response: dict[str, Any], right: dict[str, Any]
) -> None:
    assert shown(asked(path, request_, response)) == right


@pytest.mark.parametrize(
    ("path", "request_", "response", "right"),
    [case[1:] for case in CASES if "choices" in case[3]],
    ids=[f"{case[1]}: {case[0]}" for case in CASES if "choices" in case[3]],
)
def test_an_answer_that_does_not_say_its_role_is_the_same(
    path: str, request_: dict[str, Any], response: dict[str, Any], right: dict[str, Any]
) -> None:
    without = deepcopy(response)
    for choice in without["choices"]:
        choice.get("message", {}).pop("role", None)
    assert shown(asked(path, request_, without)) == right


def test_a_question_and_an_answer_that_somebody_logged() -> None:
    assert shown(logged("Rome?", " Yes. ")) == {"turns": ["user: Rome?"], "answer": "assistant:  Yes. "}
    assert shown(logged("Rome?", "<think>hm</think>Yes."))["answer"] == {"assistant": "Yes.", "thought": "hm"}


SHOWN_EARLIER = ["The sky is", ", they say, blu", "e."]
"""What a model said in several texts (around citations, or as it was streamed), as clients send it back."""


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Sky?"}, {
            "role": "assistant", "content": [{"type": "text", "text": text} for text in SHOWN_EARLIER]}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Sky?"}, {
            "role": "assistant", "content": [{"type": "text", "text": text} for text in SHOWN_EARLIER]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": "Sky?"}, {
            "role": "assistant", "content": [{"type": "output_text", "text": text} for text in SHOWN_EARLIER]}]}),
        ("/v2/chat", {"messages": [{"role": "user", "content": "Sky?"}, {
            "role": "assistant", "content": [{"type": "text", "text": text} for text in SHOWN_EARLIER]}]}),
        ("/model/m/converse", {"messages": [{"role": "user", "content": [{"text": "Sky?"}]}, {
            "role": "assistant", "content": [{"text": text} for text in SHOWN_EARLIER]}]}),
        ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Sky?"}]}, {
            "role": "model", "parts": [{"text": text} for text in SHOWN_EARLIER]}]}),
        ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Sky?"}]}, *(
            {"role": "model", "parts": [{"text": text}]} for text in SHOWN_EARLIER)]}),
    ],
)  # fmt: skip
def test_an_earlier_answer_in_several_texts_is_one_text(path: str, request_: dict[str, Any]) -> None:
    turns = next(value for value in request_.values() if isinstance(value, list))
    turns.append({**turns[0], "role": "user"})
    assert shown(asked(path, request_, {}))["turns"] == [
        "user: Sky?",
        "assistant: The sky is, they say, blue.",
        "user: Sky?",
    ]
