"""Known shapes at the paths of gateways and clouds, and Mistral's fill-in-the-middle."""

import pytest

from tests.harness.shapes import call, sse, streamed

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SAID = {"id": "c1", "object": "chat.completion", "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2}}  # fmt: skip


@pytest.mark.parametrize("path", [
    "/v1/chat/completions", "/openai/v1/chat/completions", "/api/v1/chat/completions",
    "/v1beta/openai/chat/completions",
    "/openai/deployments/gpt-x/chat/completions?api-version=2026-01-01", "/inference/v1/chat/completions",
    "/v1/projects/p/locations/us/endpoints/openapi/chat/completions", "/chat/completions/",
])  # fmt: skip
def test_chat_wherever_it_is_served(path: str) -> None:
    found = call(path, CHAT, SAID)
    assert (found.kind, found.query, found.response, found.model) == ("chat", "hi", "Rain.", "m-1")


FIM = {"model": "m", "prompt": "def add(", "suffix": "return a + b"}


def test_fill_in_the_middle_is_asked_as_a_completion_and_answered_as_a_chat() -> None:
    found = call("/v1/fim/completions", FIM, SAID)
    assert (found.kind, found.query, found.response) == ("completions", "def add(", "Rain.")
    assert (found.prompt_tokens, found.completion_tokens, found.provider_id) == (9, 2, "c1")
    events = [{"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": stop}]}
              for word, stop in (("Ra", None), ("in.", "stop"))]  # fmt: skip
    joined = streamed("/v1/fim/completions", FIM, sse(*events, done=True))
    assert (joined.kind, joined.query, joined.response, joined.whole) == ("completions", "def add(", "Rain.", True)
    assert streamed("/v1/fim/completions", FIM, sse(events[0])).whole is False
