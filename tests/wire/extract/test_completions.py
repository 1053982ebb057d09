"""OpenAI completions and embeddings."""

import json
from typing import Any

import pytest

from proxy.wire.extract import CapturedExchange, Extraction, extract
from tests.harness.late import late

TYPES = late("openai.types")


def call(path: str, request: Any, response: Any = None) -> Extraction:
    return extract(
        CapturedExchange(
            target=path,
            request=json.dumps(request).encode(),
            response=json.dumps(response).encode() if response is not None else b"",
            response_type="application/json",
        )
    )


@pytest.mark.parametrize(
    ("prompt", "query"),
    [("Once", "Once"), (["a", "b"], "a\nb"), ([1, 2], "[1,2]"), ([[1], [2]], "[[1],[2]]"), ([], None)],
)
def test_a_prompt_has_four_shapes(prompt: Any, query: str | None) -> None:
    found = call(
        "/v1/completions",
        {"model": "m", "prompt": prompt},
        {
            "id": "cmpl-1",
            "choices": [{"index": 0, "text": " upon", "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        },
    )
    assert (found.kind, found.query, found.response) == ("completions", query, " upon")
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (1, 2, "length")
    assert (found.provider_id, found.model) == ("cmpl-1", "m")


def test_a_stream_adds_up_to_a_completion() -> None:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "text_offset": [0], "top_logprobs": None}
    chunks = [
        head | {"choices": [{"index": 0, "text": "a", "logprobs": logprobs, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "text": "b", "logprobs": logprobs | {"tokens": ["b"]}}], "usage": None},
        head | {"choices": [{"index": 1, "finish_reason": "stop"}]},
        head | {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
        head | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks) + "data: [DONE]\r\n\r\n"
    exchange = CapturedExchange(
        target="/completions", request=b'{"prompt":"x"}', response=body.encode(), response_type="text/event-stream"
    )
    found = extract(exchange)
    completion = TYPES.Completion.model_validate(found.reassembled)
    assert [choice.text for choice in completion.choices] == ["ab", ""]
    assert completion.choices[0].logprobs is not None
    assert completion.choices[0].logprobs.tokens == ["a", "b"]
    assert (found.response, found.finish_reason, found.completion_tokens) == ("ab", "stop", 2)


def test_embeddings_have_a_query_and_no_answer() -> None:
    found = call(
        "/v1/embeddings",
        {"model": "e", "input": ["a", "b"]},
        {"object": "list", "data": [], "model": "e-1", "usage": {"prompt_tokens": 4, "total_tokens": 4}},
    )
    assert (found.kind, found.query, found.response) == ("embeddings", "a\nb", None)
    assert (found.prompt_tokens, found.model) == (4, "e-1")


def test_ollamas_embeddings_too() -> None:
    found = call("/api/embed", {"model": "e", "input": "a"}, {"embeddings": [[0.5]], "prompt_eval_count": 3})
    assert (found.kind, found.query, found.prompt_tokens) == ("embeddings", "a", 3)
    assert call("/api/embeddings", {"prompt": "b"}).query == "b"
