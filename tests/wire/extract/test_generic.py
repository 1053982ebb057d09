"""Everything else: pointers, common names, errors, raw bodies, and no input that breaks it."""

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import CapturedExchange, Extraction, Pointers, extract
from proxy.wire.extract.generic import merged

NONE = Pointers()


def call(request: Any, response: Any, pointers: Pointers = NONE, **more: Any) -> Extraction:
    return extract(
        CapturedExchange(
            target=more.pop("target", "/anything"),
            request=b"" if request is None else json.dumps(request).encode(),
            response=b"" if response is None else json.dumps(response).encode(),
            response_type="application/json",
            **more,
        ),
        pointers,
    )


@pytest.mark.parametrize(
    ("request_body", "query"),
    [
        ({"query": "q"}, "q"), ({"question": "q", "text": "t"}, "q"), ({"prompt": None, "input": "i"}, "i"),
        ({"text": ["a", "b"]}, '["a","b"]'), ({"instances": [[1, 2]]}, "[[1,2]]"), ({"features": {"a": 1}}, '{"a":1}'),
        ({"message": {"role": "user", "content": "hi"}}, "hi"), ({"unknown": 1}, None), ([1, 2], "[1,2]"), ([], None),
        ({"messages": [{"role": "user", "content": "hi"}]}, "hi"), ({}, None),
    ],
)  # fmt: skip
def test_common_names_of_a_query(request_body: Any, query: str | None) -> None:
    found = call(request_body, {})
    assert (found.kind, found.query) == ("json", query)


@pytest.mark.parametrize(
    ("response_body", "answer"),
    [
        ({"response": "r"}, "r"), ({"label": "cat", "score": 0.9}, "cat"), ({"prediction": 3}, "3"),
        ([{"generated_text": "g"}], "g"), ([{"a": 1}, {"b": 2}], '[{"a":1},{"b":2}]'), ({"nothing": 1}, None),
        ({"choices": [{"message": {"content": "c"}}]}, "c"), ({"choices": [{"text": "t"}]}, "t"), ([0.1], "[0.1]"),
        ({"message": {"content": [{"type": "text", "text": "hi"}]}}, "hi"), ({"id": "x", "result": False}, "false"),
    ],
)  # fmt: skip
def test_common_names_of_an_answer(response_body: Any, answer: str | None) -> None:
    assert call({"query": "q"}, response_body).response == answer


def test_pointers_win() -> None:
    pointers = Pointers.parse(
        query=["/absent", "/a/0/b"], response=["/out/text"], user=["/who"], quality=["/meta/score"]
    )
    found = call(
        {"query": "no", "a": [{"b": "yes"}], "who": 42},
        {"response": "no", "id": "r1", "out": {"text": "yes"}, "meta": {"score": 0.5}},
        pointers,
    )
    assert (found.query, found.response, found.user, found.quality) == ("yes", "yes", "42", 0.5)
    assert found.provider_id == "r1"
    assert call({"user": "u", "who": ""}, {}, pointers).user == "u"
    assert call({"who": ""}, {}, pointers).user is None


@pytest.mark.parametrize(("score", "quality"), [(0, 0.0), (1, 1.0), (1.5, None), (-1, None), (True, None), ("1", None)])
def test_a_quality_is_a_number_from_0_to_1(score: Any, quality: float | None) -> None:
    assert call({}, {"q": score}, Pointers.parse(quality=["/q"])).quality == quality


@pytest.mark.parametrize(
    ("status", "response_body", "error"),
    [
        (500, {"error": "boom"}, "boom"), (500, {"error": {"type": "t"}}, "t"), (422, {"detail": "bad"}, "bad"),
        (404, {"message": "none"}, "none"), (200, {"message": "fine"}, None), (200, {"error": None}, None),
        (422, {"detail": [{"loc": []}]}, None), (500, {"error": "e" * 999}, "e" * 500),
    ],
)  # fmt: skip
def test_errors(status: int, response_body: Any, error: str | None) -> None:
    assert call({"query": "q"}, response_body, status=status).error == error


def test_raw_bodies_stay_raw() -> None:
    found = extract(CapturedExchange(target="/x", request=b"a=1", response=b"plain", response_type="text/plain"))
    assert found == Extraction(kind="other", first_content=1)
    failed = extract(CapturedExchange(target="/x", status=502, response=b"<html>Bad gateway"))
    assert (failed.kind, failed.error) == ("other", "<html>Bad gateway")
    assert extract(CapturedExchange(target="/x", status=502)).error is None


def test_a_form_that_is_json_is_read_as_json() -> None:
    exchange = CapturedExchange(
        target="/x", request=b' {"query":"q"}', request_type="application/x-www-form-urlencoded"
    )
    assert extract(exchange).query == "q"
    typed = CapturedExchange(target="/x", request=b'"bare"', request_type="application/json")
    assert (extract(typed).kind, extract(typed).query) == ("json", "bare")


def test_a_path_alone_proves_nothing() -> None:
    assert call({"query": "q"}, {"answer": "a"}, target="/v1/chat/completions").kind == "json"
    assert call(None, {"data": []}, target="/v1/responses").kind == "json"
    cut = CapturedExchange(target="/v1/responses", request=b'{"input": "cut', response=b"{}")
    assert extract(cut).kind == "json"


def test_streams_of_unknown_events_are_kept_as_they_are() -> None:
    body = b'data: {"tick":1}\n\ndata: {"error":"late"}\n\ndata: 7\n\n'
    found = extract(CapturedExchange(target="/x", response=body, response_type="text/event-stream"))
    assert (found.kind, found.reassembled, found.streamed) == ("json", None, True)


def test_cleaned_streams_are_already_json() -> None:
    """Redaction leaves a put-together stream behind under its old media type."""
    body = b'{"choices":[{"message":{"content":"hi"}}]}'
    exchange = CapturedExchange(target="/v1/chat/completions", request=b'{"messages":[]}', response=body,
                                response_type="text/event-stream")  # fmt: skip
    found = extract(exchange)
    assert (found.response, found.streamed, found.reassembled) == ("hi", True, None)


def test_values_nested_too_deeply_to_write_are_named() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert call({"query": deep}, {}).query == "[nested too deeply]"


def stream(*events: Any, pointers: Pointers = NONE) -> Extraction:
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    exchange = CapturedExchange(target="/own", request=b'{"q":"x"}', response=body.encode(),
                                response_type="text/event-stream")  # fmt: skip
    return extract(exchange, pointers)


@pytest.mark.parametrize(
    ("events", "whole"),
    [
        ([], None),
        ([None, {"a": "x"}, None], {"a": "x"}),
        ([{"a": "Hel"}, {"a": "lo"}], {"a": "Hello"}),
        ([{"a": "Hel"}, {"a": "Hello"}, {"a": "Hello!"}], {"a": "Hello!"}),
        ([{"a": "Hel"}, {"a": "lo"}, {"a": "Hello"}], {"a": "Hello"}),
        ([{"a": ""}, {"a": "Hel"}, {"a": ""}, {"a": "lo"}, {"a": None}], {"a": "Hello"}),
        ([{"a": ""}, {"a": ""}], {"a": ""}),
        ([{"id": "e7", "n": 1}, {"id": "e7", "n": 2}], {"id": "e7", "n": 2}),
        ([{"p": {"w": "a", "k": 1}}, {"p": {"w": "b"}, "over": True}], {"p": {"w": "ab", "k": 1}, "over": True}),
        ([{"p": [{"t": "a"}]}, {"p": [{"t": "b"}, {"t": "c"}]}], {"p": [{"t": "ab"}, {"t": "c"}]}),
        ([{"p": [0.1, 0.2]}, {"p": [0.3]}], {"p": [0.3]}),
        ([{"p": ["a", None]}, {"p": [None, "b"]}], {"p": ["a", "b"]}),
        ([{"a": "x"}, {"a": {"b": "y"}}, {"a": 7}], {"a": {"b": "y"}}),
        ([{"a": "x"}, ["y"], "z", 7], {"a": "x"}),
        (["Hel", "lo", 7], "Hello"),
        ([[1], [2], "x"], [2]),
        ([1, True, 2.5], 2.5),
    ],
)
def test_events_are_taken_together_member_by_member(events: list[Any], whole: Any) -> None:
    assert merged(events) == whole


def test_very_deep_events_end_with_the_last() -> None:
    def deep(text: str) -> Any:
        value: Any = text
        for _ in range(40):
            value = {"a": value}
        return value

    assert merged([deep("x"), deep("y")]) == deep("y")


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8), st.booleans())
def test_a_text_in_any_pieces_is_the_same_text(pieces: list[str], cumulative: bool) -> None:
    whole = "".join(pieces)
    marked = ["<", *pieces, ">"]
    said = ["".join(marked[: end + 1]) for end in range(len(marked))] if cumulative else marked
    found = stream(*({"say": {"it": part}} for part in said), pointers=Pointers.parse(response=["/say/it"]))
    assert found.response == f"<{whole}>"


def test_pointers_and_common_names_apply_to_each_event() -> None:
    pointers = Pointers.parse(response=["/absent", "/part/words"], quality=["/score"])
    found = stream({"part": {"words": "Hel"}}, {"part": {"words": "lo"}}, {"score": 0.5}, pointers=pointers)
    assert (found.response, found.quality, found.kind, found.streamed) == ("Hello", 0.5, "json", True)
    named = stream({"answer": "Hel", "id": "a1"}, {"answer": "lo", "id": "a1"},
                   {"usage": {"prompt_tokens": 5, "completion_tokens": 2}, "model": "own-1"})  # fmt: skip
    assert (named.response, named.model, named.provider_id) == ("Hello", "own-1", "a1")
    assert (named.prompt_tokens, named.completion_tokens, named.reassembled) == (5, 2, None)
    assert stream({"label": "cat", "score": 0.2}, {"label": "cat", "score": 0.9}).response == "cat"


def test_pointers_lead_into_the_objects_of_an_array() -> None:
    pointers = Pointers.parse(response=["/part/words"])
    assert call({"q": "x"}, [{"part": {"words": "Hel"}}, {"part": {"words": "lo"}}], pointers).response == "Hello"
    assert call({"q": "x"}, [{"other": 1}, 2], pointers).response == '[{"other":1},2]'


def test_parts_under_content_are_text() -> None:
    assert call({"q": "x"}, {"content": [{"type": "text", "text": "Hel"}, {"text": "lo"}]}).response == "Hello"
    assert call({"q": "x"}, {"content": [1, 2]}).response == "[1,2]"


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/api/chat",
         "/api/generate", "/v2/models/m/infer", "/v2/m/generate_stream", "/x:predict", "/other", ""]  # fmt: skip
NAMES = re.findall(
    r"\w+",
    """messages content role choices delta message index tool_calls function arguments name type text input output item
    output_index response usage prompt_tokens id error content_block system inputs data prompt done logprobs query
    model function_call instructions text_output format metadata user audio refusal finish_reason""",
)
WORDS = re.findall(
    r"\S+",
    """response.completed response.output_item.added response.output_text.delta message_start message_delta user text {
    content_block_delta content_block_start text_delta input_json_delta citations_delta error function_call message
    tool_use tool_result""",
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | st.sampled_from(WORDS) | st.text()
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(NAMES), TREES, max_size=6)
ODD = [b"NaN", b"\xef\xbb\xbf", b'"\\ud83d"', b"\xe9", b"data: ", b"\n\n", b"\r", b"event: error\n", b"[DONE]",
       b"{", b"}", b"]", b'{"choices":[{"delta":{"content":"\\ude42"}}]}', b'{"error":', b"[" * 3000,
       b"\0", b": ping\n"]  # fmt: skip
BODIES = (
    st.binary(max_size=40)
    | st.lists(st.sampled_from(ODD), max_size=9).map(b"".join)
    | OBJECTS.map(orjson.dumps)
    | st.lists(OBJECTS, max_size=5).map(lambda events: b"".join(b"data: %b\n\n" % orjson.dumps(e) for e in events))
    | st.lists(OBJECTS, max_size=5).map(lambda events: b"\n".join(map(orjson.dumps, events)))
)
TYPES = st.sampled_from(["application/json", "text/event-stream", "application/x-ndjson", "", "text/plain"])


@given(st.sampled_from(PATHS), BODIES, BODIES, TYPES, st.integers(0, 599) | st.just(200))
def test_nothing_breaks_it(target: str, request: bytes, response: bytes, response_type: str, status: int) -> None:
    pointers = Pointers.parse(query=["/query/0"], response=["/output"], user=["/user"], quality=["/usage"])
    found = extract(
        CapturedExchange(target=target, status=status, request=request, response=response, response_type=response_type),
        pointers,
    )
    for text in (found.query, found.response, found.model, found.finish_reason, found.provider_id, found.error):
        assert text is None or text.encode() is not None
    assert all(set(message) == {"role", "content"} for message in found.messages)
    assert found.first_content is None or 0 < found.first_content <= len(response)
    assert found.failed is (found.error is not None and status < 400)
    for tokens in (found.prompt_tokens, found.completion_tokens, found.cache_read_tokens, found.cache_write_tokens,
                   found.reasoning_tokens):  # fmt: skip
        assert tokens is None or 0 <= tokens < 2**31
