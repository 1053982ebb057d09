"""Who asks makes no difference: the gateway, which had to know, or ingest, which reads the record afterwards."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.records import StickySource
from policies.scoring import ScoringConfig
from proxy.config.serving import CaptureConfig, RedactionConfig, StickyConfig
from proxy.gateway.head import RequestParser
from proxy.gateway.head_cache import CachedHead
from proxy.gateway.request_buffer import Budget, RequestBuffer
from proxy.gateway.routing import key_of
from proxy.ingest.interpret import Interpreter, raw_record
from proxy.routes import Target
from proxy.spool.frames import Frame
from proxy.users.sticky import StickySources
from tests.harness.frames import frame_of
from tests.harness.gateway import config, open_gateway
from tests.harness.upstream import Upstream

ID = "0190a0a0b0b07abc8def0123456789ab"
SOURCES = StickySources(StickyConfig())
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "unheard-of": lambda body: body[::-1],
}
NAMES = st.sampled_from(["ada", "", " Ada ", "user_1__session_2", "ada\ud800", "7" * 300]) | st.text(max_size=9)
VALUES = NAMES | st.none() | st.integers(-(10**20), 10**20) | st.lists(NAMES, max_size=2)
FIELDS = ["user", "user_id", "metadata", "safety_identifier", "conversation", "session_id", "prompt", "input", "n"]
TURNS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": VALUES}), max_size=3)
DOCUMENTS = st.dictionaries(
    st.sampled_from(FIELDS), VALUES | st.dictionaries(st.sampled_from(["user_id", "session_id"]), VALUES), max_size=5
)


def hashed(name: bytes) -> int:
    return int.from_bytes(name[-7:].rjust(7), "big")


def without_user(body: bytes, headers: dict[str, str], conversation: bytes | None) -> Frame:
    """The frame of a request of which nobody has asked whose it is."""
    frame = frame_of(ID, body, b"{}", rh=headers)
    del frame.meta["key"], frame.meta["src"]
    if conversation is not None:
        frame.meta["conv"] = hashed(conversation)
    return frame


@given(
    document=DOCUMENTS,
    turns=TURNS | st.none(),
    damage=st.sampled_from([b"", b"]", b"\xff", b" ,}"]),
    encoding=st.sampled_from([None, *PACKED]),
    kind=st.sampled_from([None, "application/json", "text/plain; charset=utf-16"]),
    conversation=st.sampled_from([None, b"chat-9"]),
)
def test_the_same_request_is_the_same_users(
    document: dict[str, Any],
    turns: Any,
    damage: bytes,
    encoding: str | None,
    kind: str | None,
    conversation: bytes | None,
) -> None:
    body = json.dumps(document if turns is None else {**document, "messages": turns}).encode() + damage
    lines = [b"POST /v1 HTTP/1.1", b"Host: x"]
    if kind is not None:
        lines.append(b"Content-Type: " + kind.encode())
    if encoding is not None:
        lines.append(b"Content-Encoding: " + encoding.encode())
        body = PACKED[encoding](body)
    data = b"\r\n".join((*lines, b"", b""))
    head = RequestParser(SOURCES.header_names).parse(data, len(data) - 4)
    known = CachedHead(head, key=None, skip_paths=frozenset(), no_train_header=b"x", conversation=conversation)
    held = RequestBuffer(262144, False, 0.0, Budget())
    held.store(body, True, 0)
    expected = key_of(known, held, None, SOURCES, 262144)
    frame = without_user(body, head.recorded, conversation)
    interpreter = Interpreter(CaptureConfig(), ScoringConfig(), hashed)
    found = interpreter.record(frame)
    assert found.key_source is (StickySource.RANDOM if expected is None else expected[1])
    if expected is not None:
        assert found.user_hash == hashed(expected[0])
    assert interpreter.user_of(frame) == (None if expected is None else hashed(expected[0]))
    frame.meta.update(key=found.user_hash, src=found.key_source.value)
    assert interpreter.record(frame) == found, "looking for the user has changed what is read"


def ask(body: bytes, *lines: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((b"POST /echo HTTP/1.1", b"Host: x", length, *lines, b"", body))


ASKS = [
    ask(b'{"user":"ada"}'),
    ask(b'{"user":"ada"}', b"X-Conversation-Id: s1"),
    ask(b'{"messages":[{"role":"user","content":"hello"}]}'),
    ask(b'{"messages":[{"role":"user","content":"hello"}]}', b"X-Conversation-Id: s1"),
    ask(b'{"metadata":{"user_id":"user_1_account__session_2"}}'),
    ask(b'{"user":"ada"'),
    ask(gzip.compress(b'{"user":"ada"}'), b"Content-Encoding: gzip"),
    ask(b"\x00\x01no JSON"),
    ask(b""),
]


async def test_behind_a_real_gateway_too(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url) as door:
        for request in ASKS:
            await door.ask(request)
        target = Target(model_id=2, name="new", url=upstream.url)
        door.route(challenger=target, share=0.5, experiment_id=7, salt="0f" * 16)
        for request in ASKS:
            await door.ask(request)
        frames = [await door.frame(number + 1) for number in range(2 * len(ASKS))]
        interpreter = Interpreter(CaptureConfig(), ScoringConfig(), door.ids.user_hash)
        later, at_once = frames[: len(ASKS)], frames[len(ASKS) :]
        assert not any("key" in frame.meta or "src" in frame.meta for frame in later)
        assert all("key" in frame.meta for frame in at_once)
        named = [(record.user_hash, record.key_source) for record in map(interpreter.record, later)]
        assert named == [(frame.meta["key"], StickySource(frame.meta["src"])) for frame in at_once]
        assert len(set(named)) == 5


@pytest.mark.parametrize("why", ["cut", "masked", "no bodies", "named in the head"])
async def test_what_nobody_can_find_later_is_found_at_once(upstream: Upstream, tmp_path: Path, why: str) -> None:
    capture: dict[str, dict[str, Any]] = {"cut": {"max_request_bytes": 1024}, "no bodies": {"enabled": False}}
    redact = RedactionConfig(patterns=("ada",)) if why == "masked" else None
    settings = config(capture=capture.get(why, {}))
    async with open_gateway(tmp_path, upstream.url, settings=settings, redact=redact) as door:
        named = (b"X-User-Id: ada",) if why == "named in the head" else ()
        await door.ask(ask(b'{"user":"ada","n":"%b"}' % (b"x" * 2000), *named))
        frame = await door.frame()
        assert frame.meta["key"] == door.ids.user_hash(b"ada")


def test_a_record_that_is_kept_raw_is_deleted_with_its_user() -> None:
    frame = without_user(b'{"user":"ada"}', {}, None)
    interpreter = Interpreter(CaptureConfig(), ScoringConfig(), hashed)
    user = interpreter.user_of(frame)
    assert raw_record(frame, user=user, place="x", now_us=0, error="").user_hash == hashed(b"ada")
    strange: Any = [1]
    for meta in (strange, {}, {"rh": None}, {"rh": 7, "key": "x"}):
        user = interpreter.user_of(Frame(1, meta, b"", b""))
        assert raw_record(Frame(1, meta, b"", b""), user=user, place="x", now_us=0, error="").user_hash is None
