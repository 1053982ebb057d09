"""Runs of text in a stream: taken together before they are parsed, they say what the events one by one would have."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import Streamed, alike, framing, read_stream, runs
from proxy.wire.extract.apis import chat, completions, messages, responses

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
        [chunk({"role": {"name": "assistant"}, "content": "a"})] * 2,
        [chunk({"content": "a", "obfuscation": "b"})] * 2,
        [chunk({"content": "a", "reasoning": "content"})] * 2,
        [chunk({"tool_calls": [{"index": 0, "function": {"content": "a"}}]})] * 2,
        [chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "a"}}]})] * 2,
        [chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "a"}}]})] * 2,
        [chunk({"tool_calls": [{"index": 0, "type": "custom", "function": {"arguments": "a"}}]})] * 2,
        [chunk({"tool_calls": [{"index": i, "function": {"arguments": "a"}} for i in (0, 1)]})] * 2,
        [{"type": "response.output_text.done", "output_index": 0, "delta": "a"}] * 2,
        [{"type": "response.output_text.delta", "response": {"delta": text}} for text in "ab"],
        [HEAD | {"created": time, "choices": [{"index": 0, "delta": {"content": "a"}}]} for time in (1, 1.5)],
        [HEAD | {"choices": [{"index": 0, "delta": {"content": "a"}}], "p": pad} for pad in ("", "x")],
        [HEAD | {"choices": [{"index": 0, "delta": {"content": "a"}}], "p": pad} for pad in ("a-b", "c-d")],
        [HEAD | {"choices": [{"index": 0, "delta": {"content": "a"}, "p": pad}]} for pad in ("a", "b")],
        [HEAD | {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"created": time}} for time in (1, 2)],
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


def numbered(kind: str, text: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": number, "item_id": "i", "output_index": 0} | {"delta": text} | more


def argued(text: str, **call: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}} | call]}


WORDS = ["A ", "b", "", '"c"', "d" * 9] * 30
NULLS = {"role": None, "reasoning_content": None, "tool_calls": None}
SENT: dict[str, tuple[list[dict[str, Any]], bool, Join]] = {
    "OpenAI, chat": (
        [chunk({"content": word}) | {"obfuscation": f"x{n}Y"} for n, word in enumerate(WORDS)], False, chat.merge_chunks
    ),
    "OpenAI, a chat's call": (
        [chunk(argued(word)) | {"obfuscation": f"x{n}Y"} for n, word in enumerate(WORDS)], False, chat.merge_chunks
    ),
    "vLLM, a chat's call": ([chunk(argued(word)) for word in WORDS], False, chat.merge_chunks),
    "SGLang, a chat's call": (
        [
            chunk(NULLS | argued(w, id=None, type="function", function={"name": None, "arguments": w}))
            for w in WORDS
        ], False, chat.merge_chunks,
    ),
    "SGLang, chat": ([chunk(NULLS | {"content": word}) for word in WORDS], False, chat.merge_chunks),
    "Ollama, chat": (
        [
            {"id": "1", "object": "chat.completion.chunk", "created": 1755137933 + n, "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
            for n, word in enumerate(WORDS)
        ], False, chat.merge_chunks,
    ),
    "Mistral, chat": ([chunk({"content": word}) | {"p": f"ab{n}"} for n, word in enumerate(WORDS)], False,
                      chat.merge_chunks),
    "completions with the time": (
        [{"created": 9 + n, "choices": [{"index": 0, "text": word}]} for n, word in enumerate(WORDS)], False,
        completions.merge_chunks,
    ),
    "time, padding and text": (
        [{"created": 9 + n, "choices": [{"index": 0, "delta": {"content": word}}], "obfuscation": f"{n}"}
         for n, word in enumerate(WORDS)], False, chat.merge_chunks,
    ),
    "OpenAI, responses": (
        [
            numbered("response.output_text.delta", word, n, content_index=0, logprobs=[], obfuscation=f"x{n}")
            for n, word in enumerate(WORDS, 4)
        ], True, responses.merge_chunks,
    ),
    "Codex, whose members are sorted": (
        [
            dict(sorted(numbered("response.reasoning_summary_text.delta", word, n, obfuscation=f"x{n}").items()))
            for n, word in enumerate(WORDS, 4)
        ], True, responses.merge_chunks,
    ),
    "vLLM, responses": (
        [numbered("response.reasoning_text.delta", word, n, content_index=0) for n, word in enumerate(WORDS)], False,
        responses.merge_chunks,
    ),
    "OpenAI, a call of responses": (
        [numbered("response.function_call_arguments.delta", word, n, obfuscation="x") for n, word in enumerate(WORDS)],
        True, responses.merge_chunks,
    ),
    "Anthropic": ([block({"type": "text_delta", "text": word}) for word in WORDS], True, messages.merge_chunks),
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_what_servers_send_is_one_run(name: str, separators: tuple[str, str]) -> None:
    events, named, join = SENT[name]
    body = sse(events, named=named, separators=separators)
    *first, run, done = short(body)
    assert isinstance(run, runs.TextRun)
    assert isinstance(done, bytes)
    assert (run.size, run.silent) == (len(events) - len(first), 0)
    assert len(first) < 2
    assert reassemble(body, "text/event-stream") == join(events)
    assert read_stream(body, "text/event-stream") == plainly(body)


def test_what_changes_within_a_run_ends_it() -> None:
    """Behind the time, and not at the beginning, which is the same in each event."""
    events = [chunk({"reasoning": word}) | {"created": n} for n, word in enumerate("abc")]
    events += [chunk({"content": word}) | {"created": n} for n, word in enumerate("defg", 3)]
    events += [chunk({}, finish_reason="stop") | {"created": 8}]
    found = [event.size for event in short(sse(events)) if isinstance(event, runs.TextRun)]
    assert found == [2, 4]
    interleaved = [chunk({key: "a"}) | {"created": n} for n, key in enumerate(["content", "content", "reasoning"] * 9)]
    assert any(isinstance(event, runs.TextRun) for event in short(sse(interleaved)))
    for body in (sse(events), sse(interleaved)):
        assert read_stream(body, "text/event-stream") == plainly(body)


@pytest.mark.parametrize("words", [2, 3, 15, 16, 17, 40, 100])
def test_a_run_in_which_more_changes_has_any_length(words: int) -> None:
    """What ends soon is not looked for in all events of the stream, each time anew."""
    said = [{"created": n, "x": n // words} | {"choices": [{"delta": {"content": f"w{n}"}}]} for n in range(100)]
    events = [json.dumps(event).encode() for event in said]
    text = alike.GROWING.search(events[0])
    assert text is not None
    frame = alike.changing_frame_of(events[0], events[1], text)
    assert frame is not None
    columns, looked_at = alike.cut(frame, events, 0)
    assert columns == [[b"%d" % n for n in range(words)], [b"w%d" % n for n in range(words)]]
    assert looked_at == (16 if words < 16 else 100)


def test_an_event_has_no_more_holes_than_there_are_names_for_what_changes() -> None:
    """Two events of half a megabyte that are nothing but holes took 40 seconds."""
    first, second = (b'data: {"content":"a",' + b'"p":%d,' % n * 1000 + b'"created":%d}\n' % n for n in (1, 2))
    text = alike.GROWING.search(first)
    assert text is not None
    assert alike.changing_frame_of(first, second, text) is None
    once = first.replace(b'"p":1,', b"", 999)
    found = alike.changing_frame_of(once, second, text)
    assert found is not None
    assert found.names == [b"content", b"p", b"created"]


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


pads = st.sampled_from(["a", "B7", "x9Y", "a", "error", "", "-", "\n"])
numbers = st.integers(0, 120) | st.sampled_from([-1, 1.5, None, "7", 2**64, True])
changing = st.lists(
    st.one_of(
        st.builds(lambda text, pad: chunk({"content": text}) | {"obfuscation": pad}, texts, pads),
        st.builds(lambda text, time: HEAD | {"created": time} | chunk({"content": text}), texts, numbers),
        st.builds(lambda text, time: chunk({"content": text}) | {"created": time}, texts, numbers),
        st.builds(lambda text, pad: chunk(argued(text)) | {"p": pad}, texts, pads),
        st.builds(lambda text, call: chunk(argued(text, **call)), texts, st.sampled_from([
            {}, {"id": None}, {"id": "b"}, {"index": 1}, {"index": None}, {"type": "function"}, {"type": "custom"}])),
    ),
    min_size=1, max_size=12,
)  # fmt: skip
responding = st.lists(
    st.builds(
        lambda kind, text, number, more: numbered(f"response.{kind}.delta", text, number, **more),
        st.sampled_from(["output_text"] * 5 + ["refusal", "function_call_arguments", "reasoning_summary_text", "x"]),
        texts,
        numbers,
        st.sampled_from([{}, {}, {"content_index": 0}, {"obfuscation": "x"}, {"output_index": 1}]),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(changing, st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_chat_says_the_same_where_more_changes(
    events: list[dict[str, Any]], ascii: bool, separators: tuple[str, str]
) -> None:
    body = sse(events, ensure_ascii=ascii, separators=separators)
    assert reassemble(body, "text/event-stream") == chat.merge_chunks(events)


@given(responding, st.booleans(), st.booleans())
def test_responses_say_the_same(events: list[dict[str, Any]], named: bool, sort: bool) -> None:
    body = sse(events, named=named, sort_keys=sort)
    assert reassemble(body, "text/event-stream") == responses.merge_chunks(events)


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
CHANGING = [
    b'data: {"created":%n,"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}',
    b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"obfuscation":"%p"}',
    b'data: {"created": %n, "choices":[{"index":0,"delta":{"reasoning": "%b"}}],"p": "%p"}',
    b'data: {"p":"%p","choices":[{"index":0,"text":"%b"}],"created":%n}',
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%b"}}]}}],"p":"%p"}',
    b'data: {"choices":[{"delta":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"%b"}}]}}],"p":"%p"}',
    b'data: {"choices":[{"delta":{"tool_calls":[{"id":null,"function":{"name":null,"arguments":"%b"}}]}}]}',
    b'event: x\ndata: {"type":"response.output_text.delta","sequence_number":%n,"output_index":0,"delta":"%b"}',
    b'data: {"type":"response.refusal.delta","sequence_number":%n,"item_id":"i","delta":"%b","obfuscation":"%p"}',
    b'data: {"delta":"%b","item_id":"i","sequence_number":%n,"type":"response.function_call_arguments.delta"}',
    b'data: {"type":"response.completed","response":{"status":"completed","output":[{"type":"message"}]},"p":"%p"}',
    b'data: {"choices":[{"delta":{"content":"%b","obfuscation":"%p"},"created":%n}],"usage":{"created":%n}}',
    b'data: {"created":%n,"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"}}',
    b'event: error\ndata: {"created":%n,"choices":[{"delta":{"content":"%b"}}]}',
    b'data: {"detail":"%p"}',
]  # fmt: skip
ODD_NUMBERS = [b"-1", b"-0", b"001", b"1e5", b"1.5", b"", b" 4", b"null", b'"7"', b"9" * 20, b"9" * 400, b"1,2",
               b'1,"created":2', b"1}", b"1\t", b"true"]  # fmt: skip
ODD_PADS = [b"", b"-", b"error", b'\\"', b"\\u0061", b"\xc3", b'x","delta":"y', b'","p":"', b"\\ud83d"]
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


usual = st.sampled_from([b"1", b"2", b"9", b"10", b"99", b"100", b"0"])
odd_numbers = st.one_of(*[usual] * 9, st.sampled_from(ODD_NUMBERS))
odd_pads = st.one_of(*[st.sampled_from([b"a", b"xY9", b"0"])] * 9, st.sampled_from(ODD_PADS))
odd_texts = st.one_of(*[st.sampled_from([b"a", b" b", b"", b"error"])] * 5, st.sampled_from(RAW))
NAMES = [b"created", b"sequence_number", b"obfuscation", b"p", b"content", b"delta", b"arguments", b"choices", b"type",
         b"index", b"error", b"id", b"name", b"role", b"custom", b"response"]  # fmt: skip
OTHERS = [b'""', b"1", b"null", b"[]", b"{}", b'"error"', b"true", b'[{"delta":{"content":"a"}}]']
names = st.sampled_from(NAMES).map(lambda name: b'"%b"' % name)
strange_bytes = st.binary(min_size=1, max_size=1).filter(lambda byte: byte not in b"\r\n")


@st.composite
def distorted(draw: st.DrawFn) -> bytes:
    """A stream of what changes beside its text, some of it odd, that may have suffered on its way."""
    events: list[bytes] = []
    for frame in draw(st.lists(st.sampled_from(CHANGING + FRAMES), min_size=1, max_size=4)):
        for _ in range(draw(st.integers(1, 6))):
            event = frame
            for mark, values in ((b"%n", odd_numbers), (b"%p", odd_pads), (b"%b", odd_texts)):
                if mark in frame:
                    event = event.replace(mark, draw(values))
            events.append(event)
    body = b"\n\n".join(events) + b"\n\n"
    at = st.integers(0, len(body) - 1)
    match draw(st.sampled_from(["nothing", "nothing", "flip", "lose", "cut", "swap", "rename", "add", "repeat"])):
        case "flip":
            place = draw(at)
            if body[place] != ord("\n"):
                return body[:place] + draw(strange_bytes) + body[place + 1 :]
        case "lose":
            place = draw(at)
            return body[:place] + body[place + 1 :]
        case "cut":
            return body[: draw(at)]
        case "swap":
            return b"\n\n".join(draw(st.permutations(events))) + b"\n\n"
        case "rename":
            return body.replace(draw(names), draw(names), draw(st.sampled_from([1, -1])))
        case "add":
            more = b"{%b:%b," % (draw(names), draw(st.sampled_from(OTHERS)))
            return body.replace(b"{", more) if draw(st.booleans()) else body.replace(b"data: {", b"data: " + more)
        case "repeat":
            return b"".join(event + b"\n\n" for event in events for _ in range(draw(st.integers(1, 2))))
    return body


@given(distorted(), st.booleans())
def test_whatever_changes_beside_the_text_a_run_says_what_its_events_say(body: bytes, cut: bool) -> None:
    """(Where the hot path is compiled nobody sees the patch, and both are read with runs.)"""
    read = read_stream(body, "text/event-stream", cut=cut)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(framing, "joined", list)
        assert read == read_stream(body, "text/event-stream", cut=cut)


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
    "an error named by a word of the answer": [
        SAYS % b"a", SAYS % b"error", SAYS % b"b", b'data: {"detail":"gone"}\n\n', SAYS % b"c",
    ],
    "texts of two shapes in one event": [
        SAYS % b"a",
        *[b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"},'
          b'"choices":[{"delta":{"content":"z"}},{"delta":{"content":"y"}}]}\n\n' % text for text in (b"b", b"c")],
    ],
    "an event that breaks off in a run of more than a text": [
        (SAYS % text).replace(b'"1"', b'"1","created":%b' % time) for text, time in
        ((b"a", b"1"), (b"b", b"2"), (b"c", b"3,4"), (b"d", b"5"))
    ],
    "an end without a gap": [SAYS % b"a", SAYS % b"b", (SAYS % b"c")[:-1]],
    "an end in an event": [SAYS % b"a", SAYS % b"b", (SAYS % b"c")[:-9]],
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_says_what_its_events_say(name: str) -> None:
    body = b"".join(STRANGE[name])
    assert read_stream(body, "text/event-stream") == plainly(body)
