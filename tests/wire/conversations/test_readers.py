"""Every API's exchanges as the conversations that they are."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.extract import told
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


def test_a_question_and_an_answer_that_somebody_logged() -> None:
    assert shown(told("Rome?", " Yes. ")) == {"turns": ["user: Rome?"], "answer": "assistant:  Yes. "}
    assert shown(told("Rome?", "<think>hm</think>Yes."))["answer"] == {"assistant": "Yes.", "thought": "hm"}
