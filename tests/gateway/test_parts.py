"""The gateway's small parts: body framing, the model field, sticky sources, breaker, capture."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.records import StickySource
from proxy.config.serving import BreakerConfig, StickyConfig
from proxy.gateway.breaker import Breaker
from proxy.gateway.capture import Capture
from proxy.gateway.framing import ChunkedBody, CloseBody, FramingError, LengthBody
from proxy.gateway.model_field import ModelField, replace_model
from proxy.gateway.sticky import StickySources

CUTS = st.lists(st.integers(0, 400), max_size=30)


def feed(body: LengthBody | ChunkedBody, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Payload and rest of `data` fed in pieces."""
    payload, edges = b"", sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        piece, rest = body.feed(data[start:end])
        payload += piece
        if body.done:
            return payload, rest + data[end:]
    return payload, b""


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cuts=CUTS)
def test_chunks_are_the_same_however_they_are_cut(chunks: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nA: b\r\n\r\n"
    body = ChunkedBody()
    assert feed(body, wire + b"GET /next", cuts) == (b"".join(chunks), b"GET /next")
    assert (body.done, body.trailer) == (True, b"A: b\r\n")


@given(data=st.binary(max_size=200), length=st.integers(1, 250), cuts=CUTS)
def test_a_length_is_the_same_however_it_is_cut(data: bytes, length: int, cuts: list[int]) -> None:
    body = LengthBody(length)
    assert feed(body, data, cuts) == (data[:length], data[length:] if len(data) >= length else b"")
    assert body.done == (len(data) >= length)


@given(data=st.binary(max_size=100), cuts=CUTS)
def test_arbitrary_bytes_are_read_the_same_way_or_refused(data: bytes, cuts: list[int]) -> None:
    def outcome(cuts: list[int]) -> object:
        body = ChunkedBody()
        try:
            return feed(body, data, cuts), body.done
        except FramingError:
            return "refused"

    assert outcome(cuts) == outcome([])


def test_a_close_ends_what_nothing_else_ends() -> None:
    body = CloseBody()
    assert body.feed(b"abc") == (b"abc", b"")
    assert body.done is False


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'\xef\xbb\xbf {"x":{"model":"a"},"model" :\t"a" }', b'\xef\xbb\xbf {"x":{"model":"a"},"model" :\t"new" }'),
        (b'{"x":["model","a"],"y":"\\"model\\":1"}', b'{"x":["model","a"],"y":"\\"model\\":1"}'),
        (b'{"mod\\u0065l":"a","model":"b"}', b'{"mod\\u0065l":"new","model":"new"}'),
        (b'{"model":null,"n":1e3}', b'{"model":null,"n":1e3}'),
        (b'{"model":{"model":"a"}}', b'{"model":{"model":"a"}}'),
        (b'["model","a"]', b'["model","a"]'),
        (b"", b""),
        (b'{"model":"cut', b'{"model":"cut'),
        (b'{"model":"a"} {"model":"b"}', b'{"model":"new"} {"model":"b"}'),
    ],
)  # fmt: skip
def test_only_the_top_level_model_string_changes(body: bytes, expected: bytes) -> None:
    assert replace_model(body, "new") == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.sampled_from(["model", '"', "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "m", '"']), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(document=st.dictionaries(st.sampled_from(["model", "messages", 'a"', "\\"]), json_values), indent=st.booleans())
def test_rewriting_is_what_parsing_and_writing_would_give(document: dict[str, object], indent: bool) -> None:
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None)
    changed = dict(document)
    if isinstance(changed.get("model"), str):
        changed["model"] = "ü"
    assert orjson.loads(replace_model(body, "ü")) == changed
    if changed == document:
        assert replace_model(body, "ü") == body


TOKENS = [b'"model"', b":", b'"a"', b"{", b"}", b"[", b"]", b",", b'"mod\\u0065l"', b" 1", b'"\\"', b"\\", b'"']


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=14).map(lambda parts: b"{" + b"".join(parts)),
    st.sets(st.integers(0, 60)),
)
def test_the_model_is_found_however_a_body_is_cut(body: bytes, cuts: set[int]) -> None:
    whole, cut = ModelField(), ModelField()
    whole.feed(body)
    for start, end in pairwise(sorted({0, *cuts, 200})):
        cut.feed(body[start:end])
    assert cut.spans == whole.spans
    assert replace_model(body, "x", cut) == replace_model(body, "x")


def test_a_string_without_an_end_is_looked_at_once() -> None:
    quotes = b'{"messages":[{"content":"' + b'\\"' * 200_000  # reading on from each of them would take an hour
    assert replace_model(quotes, "x") is quotes


@pytest.mark.parametrize(
    ("body", "decided"),
    [(b"", False), (b' {"messages":[]', False), (b'{"model":"a', False), (b'{"model":"a"', True), (b"{}", True),
     (b"[", True), (b"a=b", True)],
)  # fmt: skip
def test_when_nothing_more_of_a_body_is_waited_for(body: bytes, decided: bool) -> None:
    field = ModelField()
    field.feed(body)
    assert field.decided is decided


BODIES = [
    (b'{"user":"u","safety_identifier":"s"}', (b"s", StickySource.BODY)),
    (b'{"user":42}', (b"42", StickySource.BODY)),
    (b'{"user":true,"prompt_cache_key":"p"}', (b"p", StickySource.BODY)),
    (b'{"user":"","metadata":{"user_id":"m"}}', (b"m", StickySource.BODY)),
    (b'{"metadata":"x","input":"hello"}', (b"hello", StickySource.FIRST_MESSAGE)),
    (b'{"prompt":"once"}', (b"once", StickySource.FIRST_MESSAGE)),
    (b'{"messages":[{"role":"user","content":[{"text":"a"}]}]}', (b'[{"text":"a"}]', StickySource.FIRST_MESSAGE)),
    (b'{"input":[{"role":"assistant","content":"a"}]}', None),
    (b'{"messages":[1,"x"]}', None),
    (b'["user"]', None),
    (b"not json", None),
    (b"", None),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_who_a_body_names(body: bytes, expected: object) -> None:
    assert StickySources(StickyConfig()).from_body(body) == expected


@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["user", "messages", "input", "prompt", "metadata", "role", "content"]), json_values
    ).map(orjson.dumps)
)
def test_no_body_breaks_the_sources(body: bytes) -> None:
    found = StickySources(StickyConfig()).from_body(body)
    assert found is None or found[0]


def test_a_conversation_keeps_its_key_as_it_grows() -> None:
    sources = StickySources(StickyConfig())
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "first"}]
    first = sources.from_body(orjson.dumps({"messages": turns}))
    turns += [{"role": "assistant", "content": "answer"}, {"role": "user", "content": "second"}]
    assert sources.from_body(orjson.dumps({"messages": turns})) == first


def test_a_conversation_keeps_its_key_although_its_bodies_are_cut() -> None:
    sources = StickySources(StickyConfig())
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2000}}
    turns: list[dict[str, object]] = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    first = sources.from_body(orjson.dumps({"model": "m", "messages": turns})[:1000], cut=True)
    turns += [{"role": "assistant", "content": "A cat."}, {"role": "user", "content": "And behind it?"}]
    assert sources.from_body(orjson.dumps({"model": "m", "messages": turns})[:1000], cut=True) == first
    assert first is not None
    assert first[1] is StickySource.FIRST_MESSAGE
    turns[0] = {"role": "user", "content": "Summarise: " + "word " * 500}
    document = sources.from_body(orjson.dumps({"messages": turns})[:1000], cut=True)
    assert document not in (None, first)


def test_numbers_of_any_length_may_stand_in_a_body_that_is_cut() -> None:
    body = b'{"messages":[{"role":"user","content":[%d]},{"role":"assistant","content":"yyy' % 10**30
    found = StickySources(StickyConfig()).from_body(body, cut=True)
    assert found == (b"[1%b]" % (b"0" * 30), StickySource.FIRST_MESSAGE)


def test_a_name_that_is_cut_is_nobodys_name() -> None:
    sources = StickySources(StickyConfig())
    body = b'{"user":"alice","messages":[]}'
    assert sources.from_body(body[:-1], cut=True) == (b"alice", StickySource.BODY)
    assert sources.from_body(body[:12], cut=True) is None
    assert sources.from_body(b'{"user":12', cut=True) is None


def test_sources_can_be_turned_off() -> None:
    sources = StickySources(StickyConfig(headers=(), body_fields=(), first_message=False))
    assert sources.from_head({b"x-user-id": b"u"}) is None
    assert sources.reads_body is False
    assert sources.from_body(b'{"user":"u"}') is None


@pytest.mark.parametrize("value", [b"sid=a", b"x=1;sid=a", b'x=1; sid="a"', b"sid=a; sid=b"])
def test_a_cookie_is_found_by_its_whole_name(value: bytes) -> None:
    sources = StickySources(StickyConfig(cookie="sid"))
    assert sources.from_head({b"cookie": value}) == (b"a", StickySource.COOKIE)
    assert sources.from_head({b"cookie": b"xsid=b"}) is None


def test_the_breaker_step_by_step() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=2, open_seconds=10.0))
    breaker.failure(0.0)
    breaker.success()
    breaker.failure(0.0)
    assert breaker.allow(0.0)
    breaker.failure(0.0)
    assert breaker.is_open
    assert not breaker.allow(9.9)
    assert breaker.allow(10.0)  # the probe
    assert not breaker.allow(10.0)  # one at a time
    breaker.failure(10.0)
    assert not breaker.allow(29.9)  # twice as long
    assert breaker.allow(30.0)
    breaker.release()  # its client left: no verdict
    assert breaker.allow(30.0)
    breaker.success()
    assert not breaker.is_open
    assert breaker.allow(30.0)


def test_the_breaker_waits_at_most_ten_times_as_long() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=1, open_seconds=1.0))
    now = 0.0
    breaker.failure(now)
    for _ in range(10):
        now += 100.0
        assert breaker.allow(now)
        breaker.failure(now)
    assert not breaker.allow(now + 9.9)
    assert breaker.allow(now + 10.0)


@given(parts=st.lists(st.binary(max_size=20), max_size=8), limit=st.integers(0, 60))
def test_a_capture_keeps_the_beginning_the_size_and_the_digest(parts: list[bytes], limit: int) -> None:
    capture = Capture(limit)
    for part in parts:
        capture.add(part)
    body = b"".join(parts)
    assert (bytes(capture.data), capture.size) == (body[:limit], len(body))
    assert capture.cut == (len(body) > limit)
    assert capture.sha256 == (sha256(body).hexdigest() if capture.cut else None)
