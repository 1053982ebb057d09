"""What holds for the streams of every shape: however words are split they are the same; a cut leaves a beginning."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.eventstream import chunk, converse
from tests.harness.shapes import FRAMES, NDJSON, SSE, facts, sse, streamed

Pieces = list[str]


class Case(NamedTuple):
    kind: str
    target: str
    ask: dict[str, Any]
    body: Callable[[Pieces], bytes]
    content_type: str = SSE


def _gemini(pieces: Pieces) -> list[dict[str, Any]]:
    events = [{"candidates": [{"content": {"parts": [{"text": piece}]}, "index": 0}]} for piece in pieces]
    return [*events, {"candidates": [{"content": {}, "finishReason": "STOP"}], "responseId": "r1"}]


def _converse(pieces: Pieces) -> list[dict[str, Any]]:
    return [{"messageStart": {"role": "assistant"}},
            *({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece}}} for piece in pieces),
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": ""}}},
            {"contentBlockStop": {"contentBlockIndex": 0}}, {"messageStop": {"stopReason": "end_turn"}}]  # fmt: skip


def _claude(pieces: Pieces) -> list[dict[str, Any]]:
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces
    ]
    return [{"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": []}}, *deltas,
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]  # fmt: skip


def _cohere(pieces: Pieces) -> list[dict[str, Any]]:
    deltas = [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}} for piece in pieces
    ]
    return [{"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            *deltas, {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}]  # fmt: skip


def _cohere_v1(pieces: Pieces) -> list[dict[str, Any]]:
    words = [{"event_type": "text-generation", "is_finished": False, "text": piece} for piece in pieces]
    end = {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE",
           "response": {"text": "".join(pieces)}}  # fmt: skip
    return [{"event_type": "stream-start", "is_finished": False, "generation_id": "g1"}, *words, end]


def _tgi(pieces: Pieces) -> list[dict[str, Any]]:
    tokens = [{"token": {"text": piece, "special": False}, "generated_text": None, "details": None} for piece in pieces]
    return [*tokens, {"token": {"text": "</s>", "special": True}, "generated_text": "".join(pieces), "details": None}]


def _llama(pieces: Pieces) -> list[dict[str, Any]]:
    return [*({"content": piece, "stop": False} for piece in pieces), {"content": "", "stop": True, "stop_type": "eos"}]


def _sglang(pieces: Pieces) -> list[dict[str, Any]]:
    texts = ["".join(pieces[: n + 1]) for n in range(len(pieces))] or [""]
    events = [{"text": text, "meta_info": {"id": "g1", "finish_reason": None}} for text in texts]
    return [*events, {"text": texts[-1], "meta_info": {"id": "g1", "finish_reason": {"type": "stop"}}}]


def _dify(pieces: Pieces) -> list[dict[str, Any]]:
    words = [{"event": "message", "message_id": "m1", "answer": piece} for piece in [*pieces, ""]]
    return [*words, {"event": "message_end", "message_id": "m1"}]


def _fim(pieces: Pieces) -> list[dict[str, Any]]:
    words = [{"id": "c1", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return [*words, {"id": "c1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}]


def _llama_native(pieces: Pieces) -> list[dict[str, Any]]:
    words = [{"generation": piece, "stop_reason": None} for piece in pieces]
    return [*words, {"generation": "", "stop_reason": "stop"}]


MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANTHROPIC = MESSAGES | {"anthropic_version": "x"}
GEMINI = {"contents": [{"parts": [{"text": "hi"}]}]}
MODEL = "/v1beta/models/m"
CASES = {
    "gemini": Case("gemini", f"{MODEL}:streamGenerateContent?alt=sse", GEMINI, lambda p: sse(*_gemini(p))),
    "gemini array": Case("gemini", f"{MODEL}:streamGenerateContent", GEMINI,
                         lambda p: json.dumps(_gemini(p), indent=1).encode(), "application/json"),
    "converse": Case("bedrock", "/model/m/converse-stream", MESSAGES,
                     lambda p: b"".join(converse(*next(iter(e.items()))) for e in _converse(p)), FRAMES),
    "claude behind bedrock": Case("messages", "/model/m/invoke-with-response-stream", ANTHROPIC,
                                  lambda p: b"".join(map(chunk, _claude(p))), FRAMES),
    "claude behind vertex": Case("messages", f"{MODEL}:streamRawPredict", ANTHROPIC,
                                 lambda p: sse(*_claude(p), named=True)),
    "llama behind bedrock": Case("bedrock", "/model/m/invoke-with-response-stream", {"prompt": "hi"},
                                 lambda p: b"".join(map(chunk, _llama_native(p))), FRAMES),
    "cohere": Case("cohere", "/v2/chat", MESSAGES, lambda p: sse(*_cohere(p), named=True)),
    "cohere v1": Case("cohere", "/v1/chat", {"message": "hi"}, lambda p: sse(*_cohere_v1(p))),
    "cohere v1 lines": Case("cohere", "/v1/chat", {"message": "hi"}, lambda p: "".join(
        json.dumps(event) + "\n" for event in _cohere_v1(p)).encode(), NDJSON),
    "tgi": Case("tgi", "/generate_stream", {"inputs": "hi"}, lambda p: sse(*_tgi(p), space=False)),
    "llama.cpp": Case("llama.cpp", "/completion", {"prompt": "hi"}, lambda p: sse(*_llama(p))),
    "sglang": Case("sglang", "/generate", {"text": "hi"}, lambda p: sse(*_sglang(p), done=True)),
    "dify": Case("dify", "/v1/chat-messages", {"query": "hi"}, lambda p: sse(*_dify(p))),
    "fim": Case("completions", "/v1/fim/completions", {"prompt": "hi"}, lambda p: sse(*_fim(p), done=True)),
}  # fmt: skip
WORDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=6)


@pytest.mark.parametrize("name", CASES)
@given(WORDS)
def test_however_the_words_are_split_they_are_the_same(name: str, pieces: Pieces) -> None:
    case = CASES[name]
    text = "".join(pieces)
    found = streamed(case.target, case.ask, case.body(pieces), case.content_type)
    at_once = streamed(case.target, case.ask, case.body([text]), case.content_type)
    assert (found.kind, found.query, found.response) == (case.kind, "hi", text)
    assert facts(found) == facts(at_once)
    assert (found.whole, found.streamed, found.unread, found.failed) == (True, True, False, False)
    assert (found.first_content is None) == (text == "")


@pytest.mark.parametrize("name", CASES)
@given(WORDS, st.data())
def test_a_cut_anywhere_leaves_a_beginning_of_the_text(name: str, pieces: Pieces, data: st.DataObject) -> None:
    case = CASES[name]
    body = case.body(pieces)
    whole = streamed(case.target, case.ask, body, case.content_type)
    cut = data.draw(st.integers(1, len(body) - 1), label="cut")
    found = streamed(case.target, case.ask, body[:cut], case.content_type)
    assert "".join(pieces).startswith(found.response or "")
    assert found.failed is False
    if whole.first_content is not None and whole.first_content > cut:
        assert not found.response
    if found.response is not None and found.response != "".join(pieces):
        assert found.whole is False


@pytest.mark.parametrize("name", CASES)
@given(st.binary(max_size=60))
def test_anything_at_all_in_the_middle_never_raises(name: str, noise: bytes) -> None:
    case = CASES[name]
    body = case.body(["Ra", "in."])
    half = len(body) // 2
    streamed(case.target, case.ask, body[:half] + noise + body[half:], case.content_type)
