"""Runs of text in a stream: taken together before they are parsed, they say what the events one by one would have."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import Streamed, read_stream, runs
from proxy.wire.extract.apis import chat, completions, messages

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
Join = Callable[[Iterable[dict[str, Any]]], dict[str, Any]]


def short(body: bytes) -> list[bytes | runs.TextRun]:
    """The events of `body`, with its runs as one each, and what stands behind the last gap."""
    events, rest = runs.split_events(body)
    gap = b"\n" if events and events[0].endswith(b"\n") else b"\n\n"
    assert b"".join(event + gap for event in events) + rest == body
    kept = runs.joined(events)
    assert sum(event.size if isinstance(event, runs.TextRun) else 1 for event in kept) == len(events)
    return [*kept, rest] if rest else kept


def has_no_runs(body: bytes) -> bool:
    return not any(isinstance(event, runs.TextRun) for event in short(body))


def reassemble(body: bytes, content_type: str) -> Any:
    read = read_stream(body, content_type)
    assert read is not None
    return read.document


def chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": None} | choice]}


def block(delta: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def sse(events: Iterable[dict[str, Any]], *, named: bool = False, **style: Any) -> bytes:
    lines = (f"event: {event['type']}\n" if named else "" for event in events)
    return "".join(f"{line}data: {json.dumps(event, **style)}\n\n" for line, event in zip(lines, events, strict=True)
                   ).encode() + b"data: [DONE]\n\n"  # fmt: skip


def test_an_answer_of_many_words_becomes_three_events() -> None:
    words = [chunk({"content": word}) for word in ("A ", '"quoted" ', "back\\slash\n", "\n\n", "é", "")]
    body = sse([chunk({"role": "assistant", "content": ""}), *words, chunk({}, finish_reason="stop")])
    assert len(short(body)) == 4, "role, text, end, [DONE]"
    assert reassemble(body, "text/event-stream") == chat.merge_chunks(
        [chunk({"role": "assistant", "content": ""}), *words, chunk({}, finish_reason="stop")]
    )


@pytest.mark.parametrize("words", [2, 15, 16, 17, 31, 32, 33, 100])
def test_a_run_of_any_length_is_one_event(words: int) -> None:
    events = [chunk({"content": f"w{n} "}) for n in range(words)]
    body = sse(events).removesuffix(b"data: [DONE]\n\n")
    for variant in (body, body.removesuffix(b"\n\n"), body + b"data: [DONE]\n\n", sse([*events, chunk({}), *events])):
        assert len(short(variant)) <= 4
        assert reassemble(variant, "text/event-stream")["choices"][0]["message"]["content"].startswith("w0 w1 ")


def test_reasoning_and_answer_are_two_runs() -> None:
    events = [chunk({"reasoning_content": word}) for word in "abc"] + [chunk({"content": word}) for word in "de"]
    assert len(short(sse(events))) == 3
    whole = reassemble(sse(events), "text/event-stream")
    assert whole is not None
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("abc", "de")


@pytest.mark.parametrize(
    "pair",
    [
        [chunk({"content": "a"}, logprobs={"tokens": ["a"]})] * 2,
        [chunk({"role": "assistant", "content": "a"})] * 2,
        [chunk({"content": "a", "reasoning": "content"})] * 2,
        [chunk({"tool_calls": [{"index": 0, "function": {"content": "a"}}]})] * 2,
        [HEAD | {"choices": [{"index": i, "delta": {"content": "a"}} for i in (0, 1)]}] * 2,
        [{"type": "content_block_delta", "delta": {"type": "citations_delta", "text": "a"}}] * 2,
        [{"type": "other", "delta": {"type": "text_delta", "text": "a"}}] * 2,
        [{"content": "a"}] * 2,
        [chunk({"content": "a"}) | {"user": "say \"hi\""}] * 2,
        [chunk({"content": "a"}), chunk({"reasoning": "a"})],
    ],
)  # fmt: skip
def test_what_might_mean_something_else_is_left_as_it_is(pair: list[dict[str, Any]]) -> None:
    body = sse(pair)
    assert has_no_runs(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data: nothing\n\n",
        b"".join(b'data: {"content": "%d"} {\n\n' % n for n in range(3)),
        b'x: {"content":"a"}\n\nx: {"content":"a"}\n\n',
        b"".join(b'data: {"choices":[{"index":0,"delta":{"n%d":0,"content":"a"}}]}\n\n' % n for n in range(40)),
    ],
)
def test_other_bytes_are_left_as_they_are(body: bytes) -> None:
    assert has_no_runs(body)


def test_a_text_that_only_looks_ended_is_not_joined() -> None:
    """The quotation mark that seems to end the text is escaped, or begins another member."""
    whole = chunk({"content": "a"})
    body = sse([whole, whole], separators=(",", ":"))
    for inside in (b'x\\"},"finish_reason":null}],"n":[{"a":{"b":"\\', b'x","y":"z'):
        strange = body.replace(b'"content":"a"', b'"content":"%b"' % inside, 2).replace(inside, b"a", 1)
        assert has_no_runs(strange)


def test_one_bad_chunk_does_not_cost_the_others() -> None:
    body = sse([chunk({"content": word}) for word in "abc"]).replace(b'"b"', b'"\\q"')
    whole = reassemble(body, "text/event-stream")
    assert whole is not None
    assert whole["choices"][0]["message"]["content"] == "ac"


def test_a_character_split_over_two_chunks_is_whole_again() -> None:
    body = sse([chunk({"content": "X"}), chunk({"content": "Y"})])
    whole = reassemble(body.replace(b'"X"', b'"\\ud83d"').replace(b'"Y"', b'"\\ude00"'), "text/event-stream")
    assert whole is not None
    assert whole["choices"][0]["message"]["content"] == "\N{GRINNING FACE}"


def test_messages_and_completions_have_runs_too() -> None:
    spoken = [block({"type": "text_delta", "text": word}) for word in "abc"]
    called = [block({"type": "input_json_delta", "partial_json": part}, 1) for part in ('{"a"', ": 1}")]
    body = sse([*spoken, *called], named=True)
    assert len(short(body)) == 3
    assert reassemble(body, "text/event-stream") == messages.merge_chunks([*spoken, *called])
    texts = [{"choices": [{"index": 0, "text": word, "logprobs": None}]} for word in "abc"]
    assert len(short(sse(texts))) == 2
    assert reassemble(sse(texts), "text/event-stream") == completions.merge_chunks(texts)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', "\\", '"},"', "\n\ndata: "]
)
chunks = st.one_of(
    texts.map(lambda text: chunk({"content": text})),
    texts.map(lambda text: chunk({"reasoning": text})),
    texts.map(lambda text: chunk({"role": "assistant", "content": text})),
    texts.map(lambda text: chunk({"content": text}, finish_reason="stop")),
    texts.map(lambda text: chunk({"content": text}, index=1)),
    texts.map(lambda text: chunk({"content": text}) | {"system_fingerprint": "fp"}),
    texts.map(lambda text: chunk({"content": text}, logprobs={"content": [{"token": text}]})),
    texts.map(lambda text: chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})),
)
blocks = st.one_of(
    texts.map(lambda text: block({"type": "text_delta", "text": text})),
    texts.map(lambda text: block({"type": "thinking_delta", "thinking": text}, 1)),
    texts.map(lambda text: block({"type": "input_json_delta", "partial_json": text}, 2)),
)


@given(st.lists(chunks, min_size=1, max_size=12), st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_chat_says_the_same(events: list[dict[str, Any]], ascii: bool, separators: tuple[str, str]) -> None:
    body = sse(events, ensure_ascii=ascii, separators=separators)
    assert reassemble(body, "text/event-stream") == chat.merge_chunks(events)


@given(st.lists(blocks, min_size=1, max_size=12), st.booleans())
def test_messages_say_the_same(events: list[dict[str, Any]], named: bool) -> None:
    assert reassemble(sse(events, named=named), "text/event-stream") == messages.merge_chunks(events)


def plainly(body: bytes) -> Streamed | None:
    """`body` read event by event: with other line ends, in which nobody looks for runs."""
    marked = body.replace(b"\n", b"\r\n")
    read = read_stream(marked, "text/event-stream")
    if read is not None and read.first_content is not None:
        read.first_content = len(marked[: read.first_content].replace(b"\r\n", b"\n"))
    return read


RAW = [
    b"a", b" ", b"", b'\\"', b"\\\\", b"\\n", b"\\", b"\\u", b"00", b"e9", b"\\ud83d", b"\\ude42", b"\xc3", b"\xa9",
    b"\t", b'"', b'","x":"', b'"error"', b'"}}]}', b"\\u00e9", b"\n", b"\ndata: ", b"\n\ndata: ",
]  # fmt: skip
FRAMES = [
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"%b"}}]}',
    b'data: {"id":"1","choices":[{"index":0,"delta":{"reasoning":"%b"},"finish_reason":null}]}',
    b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":"%b"}}]}',
    b'data: {"id":"1","choices":[{"index":1,"delta":{"content": "%b"},"finish_reason":"stop"}],"usage":{"a":1}}',
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"%b"}}]}}]}',
    b'data: {"choices":[{"index":0,"text":"%b","logprobs":null}]}',
    b'data: {"choices":[{"delta":{"content":"%b"}}],"error":{"message":"gone"}}',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"}}',
    b'data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"%b"}}',
    b'data: {"message":{"role":"assistant","content":"%b"},"done":false}',
    b'event: error\ndata: {"choices":[{"delta":{"content":"%b"}}]}',
    b"data: [DONE]", b": %b", b"data: %b", b"event: %b", b"", b'data: {"choices":[{"delta":{"content":"%b',
]  # fmt: skip
hostile = st.lists(
    st.tuples(
        st.sampled_from(FRAMES),
        st.lists(st.lists(st.sampled_from(RAW), max_size=3).map(b"".join), min_size=1, max_size=4),
        st.sampled_from([b"\n\n"] * 6 + [b"\n", b"\n\n\n"]),
    ),
    min_size=1,
    max_size=5,
)


@given(hostile, st.booleans())
def test_whatever_the_bytes_are_they_say_what_their_events_say(parts: list[Any], whole: bool) -> None:
    body = b"".join((frame.replace(b"%b", text) + end) for frame, texts, end in parts for text in texts)
    body = body if whole else body.rstrip(b"\n")
    assert read_stream(body, "text/event-stream") == plainly(body)


SAYS, COMPLETES = FRAMES[0] + b"\n\n", FRAMES[5] + b"\n\n"
STRANGE = {
    "an end that is the beginning too": [SAYS % b"a", SAYS % b"b", SAYS.replace(b'"%b"', b'"'), SAYS % b"c"],
    "half of an escape": [SAYS % b"a", SAYS % b"\\u00", SAYS % b"e9", SAYS % b"b"],
    "half of a character": [SAYS % b"\xc3", SAYS % b"\xa9"],
    "a line in a text": [SAYS % b"a\nda", SAYS % b"ta: b"],
    "events that are errors by name": [SAYS % b"a", *(b"event: Error\n" + SAYS % text for text in (b"b", b"c"))],
    "an error that speaks between silence and words": [
        SAYS % b"", SAYS % b"", b"event: error\n" + SAYS % b"a", SAYS % b"", SAYS % b"b",
    ],
    "errors in other spellings": [(SAYS % text).replace(b'"id"', b'"object":"Error","id"') for text in (b"a", b"b")],
    "half characters behind more than is read tolerantly": [
        *[(SAYS % b"\\q").replace(b'"id"', b'"x":1,"id"')] * 1001, SAYS % b"\\ud83d", SAYS % b"\\ude42",
    ],
    "a run of another shape": [SAYS % b"a", COMPLETES % b"b", COMPLETES % b"c"],
    "a comment before": [b": hello\n\n", SAYS % b"", SAYS % b"a", SAYS % b"b"],
    "silence first": [SAYS % b"", SAYS % b"", SAYS % b"a", b"data: [DONE]\n\n"],
    "nothing but silence": [SAYS % b"", SAYS % b"", b"data: [DONE]\n\n"],
    "an end without a gap": [SAYS % b"a", SAYS % b"b", (SAYS % b"c")[:-1]],
    "an end in an event": [SAYS % b"a", SAYS % b"b", (SAYS % b"c")[:-9]],
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_says_what_its_events_say(name: str) -> None:
    body = b"".join(STRANGE[name])
    assert read_stream(body, "text/event-stream") == plainly(body)
