"""Rerankers, scorers, moderations and embeddings: recognised where they are served, without words to learn from."""

from typing import Any

import pytest

from proxy.wire.extract import KINDS
from tests.harness.shapes import call

RANKED = {"id": "r1", "model": "m", "results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 7}}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/cohere/v2/rerank"])
def test_rerank(path: str) -> None:
    found = call(path, {"query": "hi", "documents": ["a", "b"]}, RANKED)
    assert (found.kind, found.query, found.response) == ("rerank", "hi", None)
    assert (found.prompt_tokens, found.provider_id, found.model) == (7, "r1", "m")
    assert not KINDS[found.kind].trainable


@pytest.mark.parametrize(("path", "ask", "query"), [
    ("/rerank", {"query": "hi", "texts": ["a"]}, "hi"),
    ("/v1/rerank", {"query": {"text": "hi"}, "passages": [{"text": "a"}]}, "hi"),
    ("/v1/score", {"text_1": "hi", "text_2": ["a"]}, "hi"),
    ("/score", {"text_1": ["hi", "ho"], "text_2": ["a", "b"]}, "hi\nho"),
    ("/score", {"queries": "hi", "documents": ["a"]}, "hi"),
])  # fmt: skip
def test_what_is_compared(path: str, ask: dict[str, Any], query: str) -> None:
    found = call(path, ask, [{"index": 0, "score": 0.9}])
    assert (found.kind, found.query, found.response) == ("rerank", query, None)


def test_tokens_of_cohere() -> None:
    answer = {"id": "r1", "results": [], "meta": {"tokens": {"input_tokens": 5}, "billed_units": {"search_units": 1}}}
    assert call("/v2/rerank", {"query": "hi", "documents": ["a"]}, answer).prompt_tokens == 5


@pytest.mark.parametrize(("given", "query"), [
    ("hi", "hi"), (["hi", "ho"], "hi\nho"), ([{"type": "text", "text": "hi"}, {"type": "image_url"}], "hi\n[image]"),
    ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "hi"), ([1, 2], "[1,2]"),
])  # fmt: skip
def test_moderations(given: Any, query: str) -> None:
    for path in ("/v1/moderations", "/v1/chat/moderations"):
        found = call(path, {"input": given}, {"id": "modr-1", "model": "omni", "results": [{"flagged": False}]})
        assert (found.kind, found.query, found.response, found.provider_id) == ("moderations", query, None, "modr-1")
        assert not KINDS[found.kind].trainable


@pytest.mark.parametrize(("path", "ask", "query"), [
    ("/embed", {"inputs": "hi"}, "hi"), ("/embed", {"inputs": ["hi", "ho"]}, "hi\nho"),
    ("/embed_all", {"inputs": "hi"}, "hi"),
    ("/embed_sparse", {"inputs": "hi"}, "hi"), ("/v2/embed", {"texts": ["hi"], "input_type": "x"}, "hi"),
    ("/v1beta/models/m:embedContent", {"content": {"parts": [{"text": "hi"}]}}, "hi"),
    ("/v1beta/models/m:batchEmbedContents",
     {"requests": [{"content": {"parts": [{"text": word}]}} for word in ("hi", "ho")]}, "hi\nho"),
])  # fmt: skip
def test_embeddings_of_other_servers(path: str, ask: dict[str, Any], query: str) -> None:
    found = call(path, ask, [[0.1, 0.2]])
    assert (found.kind, found.query, found.response) == ("embeddings", query, None)


def test_a_path_alone_proves_nothing() -> None:
    assert call("/rerank", {"hello": 1}, {"answer": "x"}).kind == "json"
    assert call("/v1/moderations", {"text": "hi"}, {"label": "x"}).kind == "json"
    assert call("/embed", {"picture": "AA=="}, {"label": "x"}).kind == "json"
