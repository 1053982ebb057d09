"""What may be asked once more of another model, and what may not."""

from __future__ import annotations

from typing import Any

import pytest

from policies.repeatable import Unfit, why_unfit

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("kind", "request_", "why"),
    [
        ("chat", {}, None),
        ("chat", {"store": True}, None),
        ("chat", {"store": False}, Unfit.NO_TRAIN),
        ("chat", {"conversation": "c-1"}, None),
        ("responses", {"conversation": "c-1"}, Unfit.STATEFUL),
        ("responses", {"conversation": None, "previous_response_id": None, "background": False}, None),
        ("responses", {"previous_response_id": "resp_1"}, Unfit.STATEFUL),
        ("responses", {"background": True}, Unfit.STATEFUL),
        ("messages", {"container": "c"}, Unfit.STATEFUL),
        ("dify", {"query": "hi"}, Unfit.STATEFUL),
        ("messages", {"mcp_servers": [{"url": "https://x"}]}, Unfit.ACTS),
        ("chat", {"tools": [{"type": "function", "function": {"name": "send_mail"}}]}, None),
        ("messages", {"tools": [{"name": "send_mail", "input_schema": {}}, {"type": "bash_20250124"}]}, None),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, None),
        ("gemini", {"tools": [{"functionDeclarations": []}, {"googleSearch": {}}]}, None),
        ("responses", {"tools": [{"type": "function", "name": "f"}, {"type": "mcp", "server_url": "x"}]}, Unfit.ACTS),
        ("responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, Unfit.ACTS),
        ("chat", {"tools": [{"type": 7}]}, Unfit.ACTS),
        ("chat", {"tools": "none"}, None),
        ("chat", {"tools": [None, "f"]}, None),
    ],
)
def test_a_question_is_repeated_and_a_deed_is_not(kind: str, request_: dict[str, Any], why: Unfit | None) -> None:
    assert why_unfit({**ASK, **request_}, kind) is why


def test_a_type_that_nobody_knows_yet_may_act() -> None:
    assert why_unfit({**ASK, "tools": [{"type": "post_to_the_moon"}]}, "chat") is Unfit.ACTS
