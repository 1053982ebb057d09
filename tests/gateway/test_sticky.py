"""Who a request names, and which conversation: the same key wherever it stands and however it is written."""

from __future__ import annotations

import base64
import codecs
import gzip
import json
import time
import zlib
from typing import Any

import brotli
import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from policies.records import Arm, StickySource
from proxy.config.serving import StickyConfig
from proxy.gateway.backend import Backend, ResolvedRoutes
from proxy.gateway.head import RequestParser
from proxy.gateway.head_cache import CachedHead
from proxy.gateway.pool import UpstreamPool
from proxy.gateway.request_buffer import Budget, RequestBuffer
from proxy.gateway.routing import awaited_of, conversation_of, key_of
from proxy.routes import RouteTable, Target
from proxy.users.body_watch import Watch
from proxy.users.sticky import StickyKey, StickySources
from proxy.wire.person import CONVERSATION_FIELDS, USER_FIELDS

SOURCES = StickySources(StickyConfig())
LIMIT = 262144


def known(*lines: bytes, sources: StickySources = SOURCES) -> CachedHead:
    """The head of a POST with these lines."""
    data = b"\r\n".join((b"POST /v1 HTTP/1.1", b"Host: x", *lines, b"", b""))
    head = RequestParser(sources.header_names).parse(data, len(data) - 4)
    return CachedHead(
        head,
        key=sources.from_head(head.fields),
        skip_paths=frozenset(),
        no_train_header=b"x-no",
        conversation=sources.conversation_in_head(head.fields),
    )


def key_in(body: bytes, *lines: bytes, sources: StickySources = SOURCES, limit: int = LIMIT) -> StickyKey | None:
    """The key of a request with this body, which came whole; a body over `limit` is watched, as the gateway does."""
    request = known(*lines, sources=sources)
    held = RequestBuffer(limit, False, 0.0, Budget())
    held.store(body, True, 0)
    watch = None
    if held.cut:
        watch = request.watch(sources)
        watch.feed(body)
    return key_of(request, held, watch, sources, limit)


def watched(body: bytes, size: int = 1 << 30, kind: str = "", encoding: str | None = None) -> Watch:
    """What is read of a body that comes in pieces of `size` bytes."""
    lines = [b"Content-Type: " + kind.encode()] if kind else []
    lines += [b"Content-Encoding: " + encoding.encode()] if encoding else []
    watch = known(*lines).watch(SOURCES)
    for start in range(0, len(body), size):
        watch.feed(body[start : start + size])
    return watch


# -- the head


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"x-ratchet-user: a", b"x-openwebui-user-id: b"], (b"a", StickySource.RATCHET_HEADER)),
        ([b"X-OpenWebUI-User-Id: b", b"x-user-id: c"], (b"b", StickySource.HEADER)),
        ([b"x-litellm-user_api_key_end_user_id: b", b"x-user-id: c"], (b"b", StickySource.HEADER)),
        ([b"x-user-id: b", b"helicone-user-id: c"], (b"b", StickySource.HEADER)),
        ([b"helicone-user-id: c"], (b"c", StickySource.HEADER)),
        ([b"x-ratchet-user: ", b"x-user-id:", b"helicone-user-id: c"], (b"c", StickySource.HEADER)),
        ([b"x-user-id: ", b'x-portkey-metadata: {"_user": "p", "env": "x"}'], (b"p", StickySource.HEADER)),
        ([b'x-portkey-metadata: {"env": "x"}'], None),
        ([b"x-portkey-metadata: p"], None),
        ([b'x-codex-turn-metadata: {"installation_id":"i","turn_id":"1"}'], (b"i", StickySource.HEADER)),
        ([b"x-user-id: J\xc3\xb6rg"], ("Jörg".encode(), StickySource.HEADER)),
        ([b"x-user-id: J\xf6rg"], ("Jörg".encode(), StickySource.HEADER)),
        ([b'x-user-id: {"account_uuid":"u","session_id":"s"}'], (b"u", StickySource.HEADER)),
        ([b"x-litellm-session-id: s"], None),
        ([b"Cookie: xsid=b; sid=a"], (b"a", StickySource.COOKIE)),
        ([b"Cookie: sid="], None),
    ],
)  # fmt: skip
def test_who_a_head_names(lines: list[bytes], expected: object) -> None:
    assert known(*lines, sources=StickySources(StickyConfig(cookie="sid"))).key == expected


def token(claims: Any) -> bytes:
    parts = (orjson.dumps({"alg": "HS256"}), orjson.dumps(claims), b"signature \xff")
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.mark.parametrize(
    "value", [b"\xe4 " * 30000, b'{"_user":"' + b"\\ud83d" * 10000 + b'"}', b"a." + b"5 Tk" * 15000 + b".c"]
)
@pytest.mark.parametrize("name", [b"x-user-id", b"x-portkey-metadata", b"x-openwebui-user-jwt"])
def test_no_head_takes_long(name: bytes, value: bytes) -> None:
    asked = known(name + b": " + value)
    begun = time.process_time()
    SOURCES.from_head(asked.head.fields)
    assert time.process_time() - begun < 0.01


def test_of_a_token_the_subject_counts_and_never_the_token() -> None:
    for issued in range(3):
        jwt = token({"sub": "ann é", "iat": issued, "exp": issued + 300})
        assert known(b"X-OpenWebUI-User-Jwt: " + jwt).key == ("ann é".encode(), StickySource.HEADER)
    for broken in (token({"iat": 1}), token(["sub"]), b"a.b", b"a.!.c", b"a.e30.c", b"eyJhbGciOiJIUzI1NiJ9.e30.x"):
        assert known(b"X-OpenWebUI-User-Jwt: " + broken).key is None


@pytest.mark.parametrize("value", [b"sid=a", b"x=1;sid=a", b'x=1; sid="a"', b"sid=a; sid=b"])
def test_a_cookie_is_found_by_its_whole_name(value: bytes) -> None:
    sources = StickySources(StickyConfig(cookie="sid"))
    assert sources.from_head({b"cookie": value}) == (b"a", StickySource.COOKIE)
    assert sources.from_head({b"cookie": b"xsid=b"}) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"X-OpenWebUI-Chat-Id: c"], b"c"),
        ([b"x-openwebui-chat-id: ", b"x-conversation-id: d"], b"d"),
        ([b"x-claude-code-session-id: e"], b"e"),
        ([b"helicone-session-id: f"], b"f"),
        ([b"x-litellm-session-id: g"], b"g"),
        ([b"session-id: h", b"thread-id: i"], b"h"),
        ([b'x-user-id: {"device_id":"d","session_id":"s"}'], b"s"),
        ([b"x-user-id: ann"], None),
        ([], None),
    ],
)
def test_which_conversation_a_head_names(lines: list[bytes], expected: bytes | None) -> None:
    assert known(*lines).conversation == expected


# -- the body


BODIES = [
    (b'{"user":"u","safety_identifier":"s"}', (b"s", StickySource.BODY)),
    (b'{"user":42}', (b"42", StickySource.BODY)),
    (b'{"user":true,"prompt_cache_key":"p"}', (b"p", StickySource.CONVERSATION)),
    (b'{"user":"","metadata":{"user_id":"m"}}', (b"m", StickySource.BODY)),
    (b'{"user":"  ","metadata":{"user_id":"m"}}', (b"m", StickySource.BODY)),
    (b'{"user":{"id":"o","name":"Ann"}}', (b"o", StickySource.BODY)),
    (b'{"client_metadata":{"x-codex-installation-id":"i","session_id":"s"}}', (b"i", StickySource.BODY)),
    (b'{"metadata":{"trace_user_id":"t","session_id":"s"}}', (b"t", StickySource.BODY)),
    (b'{"metadata":{"session_id":"s"},"input":"hello"}', (b"s", StickySource.CONVERSATION)),
    (b'{"conversation":"c","input":"hello"}', (b"c", StickySource.CONVERSATION)),
    (b'{"conversation":{"id":"c"},"input":"hello"}', (b"c", StickySource.CONVERSATION)),
    (b'{"conversation_id":"","query":"hello"}', None),
    (b'{"metadata":"x","input":"hello"}', (b"hello", StickySource.FIRST_MESSAGE)),
    (b'{"prompt":"once"}', (b"once", StickySource.FIRST_MESSAGE)),
    (b'{"messages":[{"role":"user","content":[{"text":"a"}]}]}', (b'[{"text":"a"}]', StickySource.FIRST_MESSAGE)),
    (b'{"messages":[{"role":"system","content":"z"},{"role":"user","content":""},{"content":"b","role":"user"}]}',
     (b"b", StickySource.FIRST_MESSAGE)),
    (b'{"contents":[{"parts":[{"text":"g"}]}]}', (b'[{"text":"g"}]', StickySource.FIRST_MESSAGE)),
    (b'{"contents":[{"role":"model","parts":[1]},{"role":"user","parts":[2]}]}', (b"[2]", StickySource.FIRST_MESSAGE)),
    (b'{"input":[{"role":"assistant","content":"a"}]}', None),
    (b'{"messages":[1,"x"]}', None),
    (b'{"messages":[{"content":"x"}]}', None),
    (b'["user"]', None),
    (b"not json", None),
    (b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_who_a_body_names(body: bytes, expected: object) -> None:
    assert key_in(body) == expected
    assert SOURCES.in_watched(watched(body), None) == expected
    assert SOURCES.in_watched(watched(body, 1), None) == expected


def test_a_user_comes_before_a_conversation_and_that_before_the_first_message() -> None:
    line = b"x-conversation-id: head"
    assert key_in(b'{"user":"ann","conversation":"body"}', line) == (b"ann", StickySource.BODY)
    assert key_in(b'{"conversation":"body","prompt":"hi"}', line) == (b"head", StickySource.CONVERSATION)
    assert key_in(b'{"conversation":"body","prompt":"hi"}') == (b"body", StickySource.CONVERSATION)
    assert key_in(b"no json", line) == (b"head", StickySource.CONVERSATION)
    assert key_in(b"[1]", line) == (b"head", StickySource.CONVERSATION)
    assert key_in(b"", line) == (b"head", StickySource.CONVERSATION)


NAMES = {
    "account": ('{"device_id":"dd","account_uuid":"acc","session_id":"s1"}', b"acc", b"s1"),
    "device": ('{"device_id":"dd","account_uuid":"","session_id":"s2"}', b"dd", b"s2"),
    "older": (f"user_{'d' * 64}_account__session_s3", b"d" * 64, b"s3"),
    "older with account": (f"user_{'d' * 64}_account_acc_session_s4", b"acc", b"s4"),
    "no composite": ("user_5", b"user_5", None),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pad", [0, 300_000])
def test_an_id_made_of_several_is_the_person_in_it(name: str, pad: int) -> None:
    text, person, session = NAMES[name]
    body = orjson.dumps({"messages": [{"role": "user", "content": "x" * pad}], "metadata": {"user_id": text}})
    assert key_in(body) == (person, StickySource.BODY)
    held = RequestBuffer(len(body), False, 0.0, Budget())
    held.store(body, True, 0)
    assert conversation_of(known(), held, None, SOURCES, LIMIT) == session
    assert conversation_of(known(), held, watched(body), SOURCES, LIMIT) == session


# -- the same user, whatever the body looks like

STRICT = '{"model":"m",%s"user":"ann","messages":[{"role":"user","content":"hi"}]%s}'
ODD = {
    "half an emoji": b'{"messages":[{"role":"user","content":"good \\ud83d"}],"user":"ann"}',
    "NaN": b'{"temperature":NaN,"user":"ann"}',
    "minus infinity": b'{"user":"ann","logit_bias":{"7":-Infinity}}',
    "a byte order mark": b'\xef\xbb\xbf{"user":"ann"}',
    "a stray byte": b'{"messages":[{"role":"user","content":"J\xf6rg"}],"user":"ann"}',
    "a line break in a string": b'{"messages":[{"role":"user","content":"a\nb\tc"}],"user":"ann"}',
    "half a character in Java's writing": b'{"x":"\xed\xa0\xbd","user":"ann"}',
    "a big number": b'{"seed":1' + b"0" * 5000 + b',"user":"ann"}',
    "escapes": b'{"us\\u0065r":"\\u0061nn"}',
    "not its end": b'{"user":"ann","messages":[{"role":"user","cont',
    "UTF-16 with a mark": codecs.BOM_UTF16_LE + '{"x":"é","user":"ann"}'.encode("utf-16-le"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + '{"x":"é","user":"ann"}'.encode("utf-16-be"),
    "UTF-16 without a mark": '{"x":"é","user":"ann"}'.encode("utf-16-le"),
    "UTF-16 without a mark, big end first": '{"x":"é","user":"ann"}'.encode("utf-16-be"),
    "UTF-32": '{"x":"é","user":"ann"}'.encode("utf-32"),
    "spaces": b' \r\n\t{ "user" : "ann" } ',
    "given twice": b'{"user":"bob","user":"ann"}',
    "several objects": b'{"user":"ann"}\n{"user":"bob"}',
}


@pytest.mark.parametrize("odd", ODD)
def test_a_user_is_found_in_what_only_a_tolerant_reader_takes(odd: str) -> None:
    body = ODD[odd]
    assert key_in(body) == (b"ann", StickySource.BODY)
    for size in (2, 7, 1 << 20):
        assert SOURCES.in_watched(watched(body, size), None) == (b"ann", StickySource.BODY)


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "iso-8859-1", "no-such-charset"])
def test_a_declared_charset_is_read(charset: str) -> None:
    name = "latin-1" if charset.startswith("no") else charset
    body = '{"x":"é","user":"Jörg"}'.encode(name)
    line = b"Content-Type: application/json; charset=" + charset.encode()
    assert key_in(body, line) == ("Jörg".encode(), StickySource.BODY)
    assert key_in(body, line, limit=8) == ("Jörg".encode(), StickySource.BODY)


def test_the_first_byte_of_a_wide_character_may_come_alone() -> None:
    assert SOURCES.in_watched(watched(ODD["UTF-16 with a mark"], 1), None) == (b"ann", StickySource.BODY)


def test_half_a_character_in_a_name_is_the_same_for_everyone_who_reads_it() -> None:
    for body in (b'{"user":"ann \\ud83d"}', b'{"user":"ann \\ud83d","x":NaN}'):
        assert key_in(body) == key_in(body, limit=4) == ("ann \ufffd".encode(), StickySource.BODY)


CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [0, 400_000])
def test_a_compressed_body_still_names_its_user(coding: str, size: int) -> None:
    body = CODINGS[coding](b'{"messages":[{"role":"user","content":"%b"}],"user":"ann"}' % (b"A" * size))
    assert key_in(body, b"Content-Encoding: " + coding.encode()) == (b"ann", StickySource.BODY)
    assert key_in(body, b"Content-Encoding: " + coding.encode(), limit=20) == (b"ann", StickySource.BODY)
    watch = watched(body, 100, encoding=coding)
    assert SOURCES.in_watched(watch, None) == (b"ann", StickySource.BODY)
    assert watch.ended
    assert watch.spans == []


def test_what_nobody_unpacks_names_nobody() -> None:
    assert key_in(b'{"user":"ann"}', b"Content-Encoding: zap") is None
    assert key_in(b'{"user":"ann"}', b"Content-Encoding: zap", limit=4) is None
    assert watched(b"x", encoding="zap").ended
    assert watched(b'{"user":"ann"}', encoding="gzip").ended
    bomb = gzip.compress(b'{"x":"' + b" " * (64 << 20) + b'","user":"ann"}')
    watch = watched(bomb, 1000, encoding="gzip")
    assert watch.ended
    assert SOURCES.in_watched(watch, None) is None


texts = st.text(max_size=12) | st.sampled_from(["user", '"', "\\", "\ud83d", "\x00", "}", "x" * 200])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from(["metadata", "client_metadata", "conversation", "x", "y", "tools", "prompt_cache_key"]), values
)


@given(
    fields, fields, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]), st.integers(1, 300), st.booleans()
)
def test_one_user_however_a_body_is_written(
    before: dict[str, Any], after: dict[str, Any], codec: str, size: int, ascii_only: bool
) -> None:
    document = before | {"user": "ann"} | after
    text = json.dumps(document, ensure_ascii=ascii_only)
    body = text.encode(codec, "replace")
    expected = (b"ann", StickySource.BODY)
    assert key_in(body) == expected
    assert key_in(body, limit=10) == expected
    assert SOURCES.in_watched(watched(body, size + 1), None) == expected


@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["user", "messages", "input", "contents", "prompt", "metadata", "role", "content"]), values
    ).map(lambda document: json.dumps(document).encode()),
    st.integers(1, 60),
)
def test_no_body_breaks_the_sources(body: bytes, limit: int) -> None:
    for found in (key_in(body), key_in(body, limit=limit), SOURCES.in_watched(watched(body, limit), None)):
        assert found is None or found[0]


# -- the first message


def first_message(body: bytes, limit: int = LIMIT) -> bytes:
    key = key_in(body, sources=StickySources(StickyConfig(), limit), limit=limit)
    assert key is not None
    assert key[1] is StickySource.FIRST_MESSAGE
    return key[0]


FIRST: list[Any] = [
    "first",
    [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:," + "A" * 2000}}],
    "Summarise: " + "word " * 50_000,
    [{"type": "text", "text": "é" * 30_000}],
]


@pytest.mark.parametrize("said", FIRST)
def test_a_conversation_keeps_its_key_as_it_grows(said: Any) -> None:
    turns: list[dict[str, Any]] = [{"role": "system", "content": "be kind"}, {"role": "user", "content": said}]
    keys = set()
    for answer in ("short", "long " * 10_000, "longer " * 100_000, "broken \ud83d", float("nan"), "end"):
        for before in ({}, {"tools": ["x" * 70_000]}, {"tools": ["y" * 400_000]}):
            body = json.dumps({"model": "m", **before, "messages": turns}).encode()
            keys.add(first_message(body))
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "more"}]
    assert len(keys) == 1


def test_a_first_message_longer_than_what_is_read_is_known_by_its_beginning() -> None:
    limit = 65536
    turns: list[dict[str, Any]] = [{"role": "user", "content": "word " * 50_000 + "1"}]
    first = first_message(json.dumps({"messages": turns}).encode(), limit)
    turns += [{"role": "assistant", "content": "A cat."}, {"role": "user", "content": "And behind it?"}]
    assert first_message(json.dumps({"tools": ["x" * 99_999], "messages": turns}).encode(), limit) == first
    turns[0]["content"] = "other " * 50_000
    assert first_message(json.dumps({"messages": turns}).encode(), limit) != first
    broken = [{"role": "user", "content": "\ud83d" + "word " * 50_000}]
    first = first_message(json.dumps({"messages": broken}).encode(), limit)
    assert first_message(json.dumps({"messages": [*broken, *turns]}).encode(), limit) == first


@pytest.mark.parametrize(
    "turns",
    [
        b"{}," * 1_300_000,
        b'{"role":"system","content":"x"},' * 120_000,
        b'{"role":"user","content":"' + b"\xe9a" * 2_000_000,
    ],
)
def test_nobodys_turns_make_it_slow(turns: bytes) -> None:
    sources = StickySources(StickyConfig(), 1 << 22)
    watch = known(sources=sources).watch(sources)
    watch.feed(b'{"messages":[' + turns)
    began = time.process_time()
    sources.in_watched(watch, None)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"a":[[]]}'])
@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_no_crowd_is_parsed_while_others_wait(value: bytes, coding: bytes) -> None:
    body = b'{"user":"ann","messages":[' + b",".join([value] * (LIMIT // (len(value) + 2))) + b"]}"
    packed, lines = (gzip.compress(body), [b"Content-Encoding: gzip"]) if coding == b"gzip" else (body, [])
    assert key_in(packed, *lines) is None


def test_a_crowd_of_tools_names_its_user() -> None:
    tools: list[Any] = [{"a": [{}, []], "b": {}} for _ in range(3000)]
    body = {"tools": tools, "messages": [{"role": "user", "content": "Hello?"}]}
    assert key_in(json.dumps({**body, "user": "ann"}).encode()) == (b"ann", StickySource.BODY)
    assert key_in(json.dumps(body).encode()) == (b"Hello?", StickySource.FIRST_MESSAGE)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "be kind"}], "prompt": "hello"},
        {"input": [7], "prompt": "hello"},
        {"input": [], "prompt": "hello"},
        {"messages": [{"content": "no role"}, {"role": "user", "content": "hello"}], "prompt": "other"},
    ],
)
def test_turns_say_the_same_whether_a_body_is_parsed_or_watched(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    for written in (text, text[:-1] + b',"x":NaN}'):  # the second for a tolerant reader only
        assert SOURCES.in_watched(watched(written), None) == key_in(text)
    broken = text.replace(b"]", b",NaN]")
    assert broken == text or body["input" if "input" in body else "messages"] == [] or key_in(broken) == key_in(text)


def test_numbers_of_any_length_may_stand_in_a_body_that_is_cut() -> None:
    body = b'{"messages":[{"role":"user","content":[%d,"%b' % (10**30, b"y" * 70_000)
    assert key_in(body, limit=20) is not None


def test_a_name_that_is_cut_is_nobodys_name() -> None:
    assert SOURCES.in_watched(watched(b'{"user":"alice"'), None) is None
    assert SOURCES.in_watched(watched(b'{"user":"ali'), None) is None
    assert SOURCES.in_watched(watched(b'{"user":12'), None) is None
    assert SOURCES.in_watched(watched(b'{"user":"alice",'), None) == (b"alice", StickySource.BODY)
    assert SOURCES.in_watched(watched(b'{"user":"%b"}' % (b"x" * 70_000)), None) is None


# -- settings


def test_sources_can_be_turned_off() -> None:
    nothing = StickyConfig(
        headers=(), body_fields=(), conversation_headers=(), conversation_fields=(), first_message=False
    )
    sources = StickySources(nothing)
    assert sources.from_head({b"x-user-id": b"u"}) is None
    assert sources.conversation_in_head({b"session-id": b"s"}) is None
    assert sources.reads_body is False
    assert key_in(b'{"user":"u"}', sources=sources) is None
    without = StickySources(StickyConfig(body_fields=(), conversation_fields=(), first_message=False))
    assert key_in(b'{"user":"u","prompt":"p"}', sources=without) is None
    only_users = StickySources(StickyConfig(first_message=False))
    assert key_in(b'{"prompt":"p"}', sources=only_users) is None
    assert key_in(b'{"prompt":"%b"}' % (b"p" * 99), sources=only_users, limit=50) is None


def test_the_log_reads_the_fields_that_the_settings_name() -> None:
    assert tuple(".".join(path) for path in USER_FIELDS) == StickyConfig().body_fields
    assert tuple(".".join(path) for path in CONVERSATION_FIELDS) == StickyConfig().conversation_fields


# -- what a body is held for


def a_plan(*, challenger: str | None, model: str | None = None, share: float = 0.5) -> ResolvedRoutes:
    champion = Target(model_id=1, name="old", url="http://old:1", model=None)
    other = None if challenger is None else Target(model_id=2, name="new", url=challenger, model=model)
    table = RouteTable(
        version=1,
        champion=champion,
        challenger=other,
        share=share,
        salt="00ff" * 8,
        experiment_id=7,
        epoch=1,
        config_id=1,
    )

    def backend(arm: Arm, target: Target) -> Backend:
        pool: UpstreamPool = None  # type: ignore[assignment]  # nothing is sent
        return Backend(arm, target, pool, None, None, verbatim=True)

    return ResolvedRoutes(
        table, backend(Arm.CHAMPION, champion), None if other is None else backend(Arm.CHALLENGER, other)
    )


def test_a_body_is_held_only_for_what_it_can_say() -> None:
    splitting, alone = a_plan(challenger="http://new:1"), a_plan(challenger=None)
    renaming = a_plan(challenger="http://new:1", model="tuned")
    quiet = StickySources(StickyConfig(body_fields=(), conversation_fields=(), first_message=False))
    named, gzipped = known(b"x-user-id: u"), known(b"Content-Encoding: gzip", b"x-user-id: u")
    octets = known(b"Content-Type: application/octet-stream")
    assert awaited_of(known(), splitting, SOURCES, None) == "user"
    assert awaited_of(known(), alone, SOURCES, None) is None
    assert awaited_of(known(), splitting, quiet, None) is None
    assert awaited_of(named, splitting, SOURCES, None) is None
    assert awaited_of(octets, renaming, SOURCES, None) is None
    assert awaited_of(named, renaming, SOURCES, None) == "model"
    assert awaited_of(gzipped, renaming, SOURCES, None) is None
    assert awaited_of(known(), renaming, SOURCES, None) == "user"
    assert awaited_of(known(), splitting, SOURCES, splitting.challenger) is None
    assert awaited_of(known(), renaming, SOURCES, renaming.champion) is None
    assert awaited_of(known(), renaming, SOURCES, renaming.challenger) == "model"
