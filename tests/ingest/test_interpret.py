"""One frame, one record: what is read, what is kept as it came, what counts as quality."""

import gzip
import zlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.ballots import FULL_TRUST, BallotTrust
from policies.records import Arm, Outcome, StickySource
from policies.scoring import ScoringConfig
from proxy.config.serving import CaptureConfig
from proxy.ingest.interpret import Interpreter, raw_record
from proxy.ingest.votes import votes_of
from proxy.spool.frames import KIND_FEEDBACK, Frame
from proxy.store.ingest.facts import flags_of
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.values import NewRecord, NewVote, RecordFlag
from tests.harness.frames import frame_of

ID = "0190a0a0b0b07abc8def0123456789ab"
ASK = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "2+2?"}]})
ANSWER = orjson.dumps({
    "id": "chatcmpl-12345", "model": "m-1", "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    "choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
})  # fmt: skip
JSON = {"content-type": "application/json"}


def record(request: bytes = ASK, response: bytes = ANSWER, *, capture: Any = None, **changes: Any) -> NewRecord:
    interpreter = Interpreter(CaptureConfig(**(capture or {})), ScoringConfig(), lambda key: len(key))
    return interpreter.record(frame_of(ID, request, response, **changes))


def test_a_chat_becomes_a_record() -> None:
    found = record(
        arm=1, srv=0, fb="timeout", exp=7, ep=2, cfg=3, mid=5, rh=JSON | {"x-request-id": "client-chosen"},
        sh=JSON | {"x-request-id": "req_987654"},
    )  # fmt: skip
    assert (found.id, found.kind, found.user_hash, found.key_source) == (ID, "chat", 42, StickySource.HEADER)
    assert (found.arm, found.served_by, found.experiment_id, found.epoch) == (Arm.CHALLENGER, Arm.CHAMPION, 7, 2)
    assert (found.model_id, found.config_id, found.status, found.outcome) == (5, 3, 200, Outcome.OK)
    assert (found.duration_us, found.upstream_us, found.ttfb_us, found.own_us) == (900_000, 899_000, 850_000, 400)
    assert (found.prompt_tokens, found.completion_tokens) == (9, 1)
    assert (found.quality, found.quality_source, found.scores) == (1.0, "heuristic", {"heuristic": 1.0})
    assert found.flags == RecordFlag.FALLBACK
    assert found.aliases == ("chatcmpl-12345", "client-chosen", "req_987654")
    assert found.body is not None
    assert (found.body.query, found.body.response_text) == ("2+2?", "4")
    assert found.body.messages == ({"role": "user", "content": "2+2?"},)
    assert (found.body.request, found.body.response) == (ASK, ANSWER)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"exp": 3}, {"st": 500}, {"out": 1}, {"response": b""}, {"request": b"no JSON"}, {"p": "/unknown"},
        {"response": b'data: {"choices":[{"index":0,"delta":{"content":"4"}}]}\n\n'}, {"nr": ["request", "response"]},
    ],
)  # fmt: skip
def test_no_field_is_left_open(changes: dict[str, Any]) -> None:
    """What is made without its constructor has no defaults."""
    found = record(**changes)
    assert found.body is not None
    assert replace(found, body=replace(found.body)) == found  # reads all of both


@pytest.mark.parametrize("nothing", [{}, [], ""])
def test_a_request_without_headers_is_read_however_a_frame_says_that(nothing: Any) -> None:
    found = record(rh=nothing, sh=JSON | {"x-request-id": "req_987654"})
    assert (found.kind, found.aliases) == ("chat", ("chatcmpl-12345", "req_987654"))


def test_encoded_bodies_are_kept_decoded_and_their_header_goes() -> None:
    found = record(response=gzip.compress(ANSWER), sh=JSON | {"content-encoding": "gzip"})
    assert found.body is not None
    assert found.body.response == ANSWER
    assert found.body.response_headers == JSON
    assert found.completion_tokens == 1


def test_an_unknown_encoding_is_kept_with_its_header() -> None:
    found = record(response=b"\x1f\x9d packed", sh=JSON | {"content-encoding": "compress"})
    assert found.body is not None
    assert found.body.response == b"\x1f\x9d packed"
    assert found.body.response_headers["content-encoding"] == "compress"


def test_a_stream_is_kept_put_together() -> None:
    stream = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"4"},"finish_reason":"stop"}]}\n\n'
    found = record(response=stream + b"data: [DONE]\n\n", sh={"content-type": "text/event-stream"})
    assert found.flags == RecordFlag.STREAMED
    assert found.body is not None
    assert orjson.loads(found.body.response)["choices"][0]["message"]["content"] == "4"


FINISHED = b'data: {"choices":[{"index":0,"delta":{"content":"4"},"finish_reason":"stop"}]}\n\n'
UNFINISHED = b'data: {"choices":[{"index":0,"delta":{"content":"4"},"finish_reason":null}]}\n\n'
RESPONSES = {"p": "/v1/responses", "request": orjson.dumps({"model": "m", "input": "2+2?"})}
DONE = b'data: {"type":"response.completed","response":{"status":"completed","output":[]}}\n\n'
BEGUN = b'data: {"type":"response.created","response":{"status":"in_progress","output":[]}}\n\n'


@pytest.mark.parametrize(
    ("stream", "changes", "outcome"),
    [
        (FINISHED, {}, Outcome.OK),
        (UNFINISHED, {}, Outcome.CLIENT_DISCONNECT),
        (DONE, RESPONSES, Outcome.OK),
        (BEGUN, RESPONSES, Outcome.CLIENT_DISCONNECT),
    ],
)
def test_who_hangs_up_after_a_streams_own_end_had_a_whole_answer(
    stream: bytes, changes: dict[str, Any], outcome: Outcome
) -> None:
    found = record(
        response=stream, sh={"content-type": "text/event-stream"}, out=int(Outcome.CLIENT_DISCONNECT), **changes
    )
    assert (found.outcome, found.quality is None) == (outcome, outcome is not Outcome.OK)


def test_a_stream_nested_too_deeply_to_be_written_stays_as_it_was() -> None:
    deep = b'data: {"choices":[{"delta":{"content":"4"}}],"x":' + b"[" * 300 + b"]" * 300 + b"}\n\n"
    found = record(response=deep, sh={"content-type": "text/event-stream"})
    assert found.body is not None
    assert (found.body.response, found.body.response_text) == (deep, "4")


def test_an_unknown_shape_is_kept_raw() -> None:
    found = record(b"\x00\x01", b"\xff", p="/upload", rh={}, sh={"content-type": "image/png"})
    assert (found.kind, found.quality) == ("other", None)
    assert found.body is not None
    assert (found.body.request, found.body.response) == (b"\x00\x01", b"\xff")


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"nt": True}, RecordFlag.NO_TRAIN),
        ({"rsha": "ab"}, RecordFlag.TRUNCATED_REQUEST),
        ({"ssha": "ab"}, RecordFlag.TRUNCATED_RESPONSE),
        ({"red": True}, RecordFlag.REDACTED),
        ({"rs": True}, RecordFlag.RESENT),
        ({"red": True, "sf": {"unread": True}}, RecordFlag.STREAMED | RecordFlag.REDACTED | RecordFlag.UNREAD),
        ({}, RecordFlag.NONE),
    ],
)
def test_flags(changes: dict[str, Any], flag: RecordFlag) -> None:
    assert record(**changes).flags == flag


def test_store_false_means_no_training() -> None:
    assert record(orjson.dumps({"messages": [], "store": False})).flags == RecordFlag.NO_TRAIN


@pytest.mark.parametrize(
    "changes",
    [{"st": 500}, {"st": 429}, {"out": int(Outcome.CLIENT_DISCONNECT)}, {"m": "GET", "request": b""},
     {"response": b"{}"}],
)  # fmt: skip
def test_what_is_no_answer_has_no_score(changes: dict[str, Any]) -> None:
    assert record(**changes).quality is None


STREAM = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"out": int(Outcome.UPSTREAM_ERROR)}, Outcome.UPSTREAM_ERROR),
        ({"out": int(Outcome.TIMEOUT)}, Outcome.TIMEOUT),
        ({"out": int(Outcome.TRUNCATED)}, Outcome.TRUNCATED),
        ({"st": 500}, Outcome.UPSTREAM_ERROR),
        ({"st": 503, "out": int(Outcome.CLIENT_DISCONNECT)}, Outcome.UPSTREAM_ERROR),
        ({"st": 404}, Outcome.REFUSED),
        ({"st": 429, "out": int(Outcome.CLIENT_DISCONNECT)}, Outcome.REFUSED),
        ({"st": 408, "out": int(Outcome.CLIENT_DISCONNECT), "ttfb": None}, Outcome.CLIENT_DISCONNECT),
        ({"st": 502, "out": int(Outcome.UPSTREAM_ERROR), "ttfb": None}, Outcome.UPSTREAM_ERROR),
        ({"response": b"", "sb": 0, "sh": STREAM}, Outcome.INCOMPLETE),
        ({"response": b": ping\n\n: ping\n\n", "sh": STREAM}, Outcome.INCOMPLETE),
        ({"response": b"data: [DONE]\n\n", "sh": STREAM}, Outcome.INCOMPLETE),
        ({"red": True, "sf": {"failed": True}, "sh": STREAM}, Outcome.UPSTREAM_ERROR),
        ({"red": True, "sf": {"whole": False}, "sh": STREAM}, Outcome.INCOMPLETE),
    ],
)
def test_what_is_no_answer_is_neither_scored_nor_a_sample(changes: dict[str, Any], outcome: Outcome) -> None:
    found = record(**changes, capture={"quality_pointers": ("/usage/completion_tokens",)})
    assert (found.outcome, found.quality, found.scores) == (outcome, None, {})
    assert RecordFlag.SAMPLE not in flags_of(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"m": "HEAD", "response": b"", "sb": 0, "sh": STREAM},
        {"st": 204, "response": b"", "sb": 0, "sh": STREAM},
        {"st": 304, "response": b"", "sb": 0, "sh": STREAM},
        {"response": b"", "sb": 900, "sh": STREAM},  # nothing is captured
        {"response": b": ping\n\n", "ssha": "ab", "sb": 2_000_000, "sh": STREAM},
        {"red": True, "sf": {"whole": False}, "ssha": "ab", "sh": STREAM},
        {"response": b"", "sb": 0, "sh": {"content-type": "text/html"}},
        {"response": b"data: anything\n\n", "sh": STREAM},
        {"response": b"", "sb": 0, "st": 101, "sh": {}},
    ],
)
def test_what_may_have_been_whole_is_not_called_incomplete(changes: dict[str, Any]) -> None:
    assert record(**changes).outcome is Outcome.OK


def test_what_is_not_at_hand_is_never_scored_as_missing() -> None:
    """The copy ends before the first word, or in the middle of the JSON that was asked for."""
    empty = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    half = b'data: {"choices":[{"index":0,"delta":{"content":"{\\"a\\": "}}]}\n\n'
    as_json = orjson.dumps({"messages": [{"role": "user", "content": "q"}], "response_format": {"type": "json_object"}})
    cut: dict[str, Any] = {"ssha": "ab", "sb": 2_000_000, "sh": STREAM}
    assert record(response=empty, **cut).quality is None
    assert record(as_json, half, **cut).quality == 1.0
    assert record(response=ANSWER[:-20], ssha="ab").quality is None


def test_a_stream_that_is_cut_in_the_copy_teaches_nothing() -> None:
    found = record(response=UNFINISHED, ssha="ab", sb=2_000_000, sh=STREAM)
    assert found.outcome is Outcome.OK
    assert found.flags == RecordFlag.STREAMED | RecordFlag.TRUNCATED_RESPONSE | RecordFlag.UNREAD
    assert RecordFlag.SAMPLE not in flags_of(found)


def test_an_answer_that_is_to_come_is_no_answer() -> None:
    queued = orjson.dumps({"id": "resp_12345", "object": "response", "status": "queued", "output": []})
    found = record(response=queued, p="/v1/responses", request=orjson.dumps({"input": "2+2?", "background": True}))
    assert (found.outcome, found.quality, found.ttft_us) == (Outcome.OK, None, None)
    assert RecordFlag.SAMPLE not in flags_of(found)


@pytest.mark.parametrize(
    ("changes", "first_us"),
    [
        ({}, 850_000),  # all of it came with the head
        ({"mk": [[0, 860_000], [40, 870_000]]}, 860_000),
        ({"mk": [[40, 870_000]]}, 850_000),
        ({"mk": [[0, 860_000]], "response": gzip.compress(ANSWER), "sh": JSON | {"content-encoding": "gzip"}}, 860_000),
        ({"ttft": 123, "red": True, "sh": STREAM}, 123),
        ({"red": True, "sh": STREAM}, None),
        ({"st": 500, "mk": [[0, 860_000]]}, None),
        ({"st": 404}, None),
        ({"response": b"", "sb": 0}, None),
        ({"response": b"", "sb": 0, "st": 502, "ttfb": None, "out": int(Outcome.UPSTREAM_ERROR)}, None),
        ({"response": b"<html>", "p": "/page", "sh": {"content-type": "text/html"}}, None),
    ],
)
def test_the_time_to_the_first_token(changes: dict[str, Any], first_us: int | None) -> None:
    assert record(**changes).ttft_us == first_us


SAID = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"4"}}]}\n\n'
FAILURE = b'data: {"error":{"message":"out of memory","code":500}}\n\n'
REST = b"data: [DONE]\n\n"


def test_an_error_inside_a_200_is_a_failure_whoever_leaves() -> None:
    for outcome in (Outcome.OK, Outcome.CLIENT_DISCONNECT):
        for stream in (FAILURE, WORD + FAILURE, WORD + FAILURE + REST):
            found = record(response=stream, sh=STREAM, out=int(outcome))
            assert (found.outcome, found.quality) == (Outcome.UPSTREAM_ERROR, None), stream
            assert found.body is not None
            assert found.body.error == "out of memory"
            assert RecordFlag.UNREAD not in found.flags


def test_a_stream_without_its_mark_is_incomplete() -> None:
    assert record(response=SAID + WORD, sh=STREAM).outcome is Outcome.INCOMPLETE
    assert record(response=SAID + WORD + REST, sh=STREAM).outcome is Outcome.OK
    assert record(response=SAID + WORD, sh=STREAM, out=int(Outcome.CLIENT_DISCONNECT)).outcome is (
        Outcome.CLIENT_DISCONNECT
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_token_is_the_first_event_with_content(packed: bool) -> None:
    """Neither the head nor the role: the piece in which the first word came. Packed, as each piece is flushed."""
    pieces, encoding = [SAID, WORD, REST], dict[str, str]()
    if packed:
        packer = zlib.compressobj(wbits=31)
        pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        encoding = {"content-encoding": "gzip"}
    marks = [[sum(map(len, pieces[:n])), 100_000 * (n + 1)] for n in range(3)]
    found = record(response=b"".join(pieces), sh=STREAM | encoding, ttfb=10, mk=marks)
    assert (found.ttfb_us, found.ttft_us, found.outcome) == (10, 200_000, Outcome.OK)
    assert record(response=FAILURE, sh=STREAM, ttfb=10).ttft_us is None


def test_an_event_that_cannot_be_read_bars_the_record_from_training() -> None:
    found = record(response=WORD + b"data: {broken\n\n" + REST, sh=STREAM)
    assert (found.outcome, RecordFlag.UNREAD in found.flags) == (Outcome.OK, True)
    assert RecordFlag.SAMPLE not in flags_of(found)
    torn = record(response=WORD + b'data: {"cho', sh=STREAM, out=int(Outcome.CLIENT_DISCONNECT))
    assert RecordFlag.UNREAD not in torn.flags, "it broke off there: nobody wrote it wrongly"


def test_a_conversation_is_the_one_that_the_headers_name() -> None:
    assert record(conv=7).conversation == 7
    assert record().conversation is None


def test_a_score_found_by_pointer_wins() -> None:
    response = orjson.dumps({"choices": [{"message": {"content": "4"}}], "score": 0.25})
    found = record(response=response, capture={"quality_pointers": ("/score",)})
    assert (found.quality, found.quality_source) == (0.25, "pointer")
    assert found.scores == {"heuristic": 1.0, "pointer": 0.25}


def test_a_tool_call_that_came_as_text_is_worth_nothing_and_one_that_was_understood_is() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    ask = orjson.dumps({"messages": [{"role": "user", "content": "Weather?"}], "tools": tools})
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    text = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'

    def quality(request: bytes, message: dict[str, Any]) -> float | None:
        return record(request, orjson.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})).quality

    assert quality(ask, {"content": text}) == 0.0
    assert quality(ask, {"content": None, "tool_calls": [call]}) == 1.0
    assert quality(ASK, {"content": text}) == 1.0  # no tool was offered: somebody asked for it


def test_no_scores_when_switched_off() -> None:
    interpreter = Interpreter(CaptureConfig(), ScoringConfig(enabled=False))
    assert interpreter.record(frame_of(ID, ASK, ANSWER)).quality_source is None


def test_a_user_found_by_pointer_counts_only_outside_of_experiments() -> None:
    request = orjson.dumps({"messages": [], "who": "abc"})
    capture = {"user_pointers": ("/who",)}
    assert record(request, capture=capture, key=None, src="random").user_hash == 3
    assert record(request, capture=capture, key=None, src="random", exp=1).user_hash is None
    assert record(request, capture=capture).user_hash == 42


INTEGERS = st.integers(-(2**63), 2**64 - 1)


@given(st.dictionaries(st.sampled_from(["id", "t", "m", "p"]), st.none() | INTEGERS | st.text()), st.binary())
def test_anything_can_be_kept_raw(meta: dict[str, Any], blob: bytes) -> None:
    frame = Frame(9, meta, blob, blob)
    found = raw_record(frame, user=None, place="w0-1-1/1/99", now_us=1_700_000_000_000_000, error="e" * 999)
    assert len(bytes.fromhex(found.id)) == 16
    assert found == raw_record(frame, user=None, place="w0-1-1/1/99", now_us=1_700_000_000_000_000, error="e" * 999)
    assert found.body is not None
    assert found.body.response == blob


def test_a_raw_record_keeps_the_id_and_time_that_it_has() -> None:
    assert raw_record(frame_of(ID, b"", b""), user=None, place="x", now_us=0, error="").id == ID
    dated = raw_record(Frame(1, {"t": 1_700_000_000_000_000}, b"", b""), user=None, place="x", now_us=0, error="")
    assert dated.id.startswith(f"{1_700_000_000_000:012x}7")
    no_object: Any = [1]
    undated = raw_record(Frame(1, no_object, b"", b""), user=None, place="x", now_us=5_000_000, error="")
    assert undated.id.startswith(f"{5_000:012x}7")
    assert undated.body is not None
    assert undated.body.tags == {"frame": "1", "facts": "[1]"}


def test_votes() -> None:
    entries: list[dict[str, Any]] = [
        {"fid": ID, "id": ID, "alias": None, "feedback": 1, "source": "u1", "comment": "c", "tags": {"a": "b"}},
        {"fid": ID, "id": None, "alias": "chatcmpl-1", "feedback": None},
        {"fid": ID, "id": ID, "correction": "better", "quality_score": 0.5},
    ]
    given, retracted, silent = votes_of(Frame(KIND_FEEDBACK, {"t": 7, "votes": entries}, b"", b""))
    assert given == NewVote(
        fid=ID,
        record_id=ID,
        source="u1",
        feedback=1,
        comment="c",
        tags={"a": "b"},
        created_us=7,
        trust=BallotTrust.THUMB,
    )
    assert (retracted.alias, retracted.retracted, retracted.source) == ("chatcmpl-1", True, "anonymous")
    [cleaned] = votes_of(
        Frame(KIND_FEEDBACK, {"t": 7, "votes": [entries[0] | {"comment": "a\0b", "source": "\0"}]}, b"", b"")
    )
    assert (cleaned.comment, cleaned.source) == ("ab", "anonymous"), "PostgreSQL has no NUL"
    assert (silent.feedback, silent.retracted, silent.quality_score) == (None, False, 0.5)


def test_votes_with_an_id_of_another_system() -> None:
    entries: list[dict[str, Any]] = [
        {"fid": ID, "id": None, "alias": "run-1", "feedback": 1, "ext": -7, "tr": 15},
        {"fid": ID, "id": None, "alias": None, "feedback": -1, "ext": -7, "am": True, "tr": 15},
        {"fid": ID, "id": None, "alias": None, "feedback": None, "ext": -7, "tr": 15},
        {"fid": ID, "id": None, "alias": None, "feedback": 1, "ext": 8, "ah": 9, "tr": 7},
        {"fid": ID, "id": None, "alias": None, "feedback": 1, "wh": True, "conv": 3, "usr": 4, "ext": 8, "tr": 15},
    ]
    votes = votes_of(Frame(KIND_FEEDBACK, {"t": 7, "votes": entries}, b"", b""))
    assert [(vote.external, vote.amends, vote.retracted, vote.follows) for vote in votes] == [
        (-7, False, False, False), (-7, True, False, True), (-7, False, True, True), (8, False, False, False),
        (8, False, False, False),
    ]  # fmt: skip
    assert [vote.alias_hash for vote in votes] == [alias_hash("run-1"), None, None, 9, None]


def test_how_far_a_vote_is_believed_was_decided_when_it_came() -> None:
    """An older version did not write it down: then an alias tells that the token was there, and else it was not."""
    named, aliased = {"fid": ID, "id": ID, "alias": None}, {"fid": ID, "id": None, "alias": "chatcmpl-1"}
    entries = [named, aliased, named | {"tr": 0}, aliased | {"tr": 15}, named | {"tr": 31}]
    votes = votes_of(Frame(KIND_FEEDBACK, {"t": 7, "votes": entries}, b"", b""))
    trusted = [BallotTrust.THUMB, FULL_TRUST, BallotTrust.NONE, FULL_TRUST, FULL_TRUST]
    assert [vote.trust for vote in votes] == trusted


ABORTED = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "abort"}]})


def test_redaction_hides_no_failure_and_no_broken_request() -> None:
    """What is seen before it, and what the document still says, both count."""
    seen = {"failed": False, "whole": True, "unread": False}
    found = record(response=ABORTED, red=True, sf=seen)
    assert (found.outcome, found.quality) == (Outcome.UPSTREAM_ERROR, None)
    found = record(ASK[:-9], red=True, sf=seen)
    assert found.flags == RecordFlag.REDACTED | RecordFlag.STREAMED | RecordFlag.UNREAD
    found = record(red=True, sf=seen, out=Outcome.CLIENT_DISCONNECT.value, sh={"content-type": "text/plain"})
    assert found.outcome is Outcome.OK, "a stream is one whatever its type says"


@pytest.mark.parametrize("response", [b"", b": ping\n\n", b"event: tick\n\n"])
def test_a_subscription_in_which_nothing_happened_has_not_failed(response: bytes) -> None:
    """The same silence is no answer where something was asked."""
    sse = {"content-type": "text/event-stream"}
    asked = record(response=response, sb=len(response), sh=sse, rb=len(ASK))
    assert asked.outcome is Outcome.INCOMPLETE
    listened = record(b"", response, m="GET", p="/events", rb=0, sb=len(response), sh=sse)
    assert listened.outcome is Outcome.OK


@pytest.mark.parametrize("side", ["request", "response"])
def test_what_redaction_left_nothing_of_teaches_nothing(side: str) -> None:
    words = b"[not recorded: redaction took too long]"
    bodies = {"request": ASK, "response": ANSWER, side: words}
    found = record(bodies["request"], bodies["response"], red=True, nr=[side], sh={"content-type": "text/plain"})
    assert found.body is not None
    assert RecordFlag.NO_TRAIN in found.flags
    assert found.quality is None
    assert (found.body.query if side == "request" else found.body.response_text) is None
    assert (found.body.request, found.body.response) == (bodies["request"], bodies["response"])


def test_a_redacted_name_names_nobody_and_nothing() -> None:
    asked = ASK[:-1] + b',"user":"[redacted]"}'
    answered = ANSWER.replace(b"chatcmpl-12345", b"[redacted]")
    headers = JSON | {"x-request-id": "of [redacted]"}
    found = record(asked, answered, key=None, red=True, rh=headers, rsha=None)
    assert (found.user_hash, found.aliases) == (None, ())
