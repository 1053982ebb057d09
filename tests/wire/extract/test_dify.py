"""Dify's apps: messages, agents and workflows, and events that say nothing to the user in between."""

from typing import Any

import pytest

from proxy.wire.extract import Extraction
from tests.harness.shapes import call, facts, sse, streamed, upto

CHAT, RUN = "/v1/chat-messages", "/v1/workflows/run"
ASK = {"inputs": {}, "query": "hi", "response_mode": "blocking", "conversation_id": "", "user": "u1"}
IDS = {"task_id": "t1", "message_id": "m1", "conversation_id": "c1", "created_at": 7}
USAGE = {"usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
PLAIN = {"event": "message", "id": "m1", "mode": "chat", "answer": "Rain.", "metadata": USAGE, **IDS}
PING = b"event: ping\n\n"


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"event": kind, **IDS, **more}


END = event("message_end", id="m1", metadata=USAGE)


def stream(*events: dict[str, Any], path: str = CHAT, ask: Any = ASK) -> Extraction:
    return streamed(path, ask, PING.join([b"", *(sse(event) for event in events), b""]))


@pytest.mark.parametrize("kind", ["message", "agent_message"])
def test_plain_and_streamed_say_the_same(kind: str) -> None:
    plain = call(CHAT, ASK, PLAIN)
    assert (plain.kind, plain.query, plain.response, plain.provider_id) == ("dify", "hi", "Rain.", "m1")
    assert (plain.prompt_tokens, plain.completion_tokens, plain.user) == (9, 2, "u1")
    found = stream(event(kind, answer="Ra"), event(kind, answer="in."), END)
    assert facts(found) == facts(plain)
    assert found.conversation == plain.conversation == "c1"
    assert (found.whole, found.unread) == (True, False)
    assert found.first_content == upto(PING + sse(event(kind, answer="Ra")))


def test_an_app_in_a_workflow_with_thoughts_and_a_moderator() -> None:
    before = [event("workflow_started", workflow_run_id="w1", data={"id": "w1"}),
              event("node_started", data={"text": "?"}), event("agent_thought", thought="Let me see.")]  # fmt: skip
    found = stream(
        *before, event("message", answer="Damn"), event("message", answer=" it"),
        event("message_replace", answer="It "), event("message", answer="rains."), event("message_file", url="x"),
        event("tts_message", audio="AA=="), event("node_finished", data={"outputs": {"text": "?"}}),
        event("workflow_finished", data={"status": "succeeded", "outputs": {"answer": "It rains."}}), END,
    )  # fmt: skip
    assert (found.response, found.whole, found.failed, found.finish_reason) == ("It rains.", True, False, None)
    assert found.first_content == upto(PING + PING.join(map(sse, before))), "the thought"


def test_a_stream_without_its_end_and_one_that_fails() -> None:
    quiet = stream(event("message", answer="Ra"))
    assert (quiet.response, quiet.whole, quiet.failed) == ("Ra", False, False)
    error = event("error", status=400, code="provider_quota_exceeded", message="no quota")
    for found in (stream(error), stream(event("message", answer="Ra"), error)):
        assert (found.failed, found.error) == (True, "no quota")
    refused = call(CHAT, ASK, {"code": "app_unavailable", "message": "not there", "status": 400}, status=400)
    assert (refused.error, refused.response) == ("not there", None)


@pytest.mark.parametrize(("inputs", "query"), [({"query": "hi", "tone": "dry"}, "hi"), ({"text": "hi"}, "hi"),
                                               ({"a": "x", "b": 1}, '{"a":"x","b":1}'), ({}, None)])  # fmt: skip
def test_an_app_without_a_query(inputs: dict[str, Any], query: str | None) -> None:
    assert call("/v1/completion-messages", {"inputs": inputs, "user": "u1"}, PLAIN).query == query


def run(status: str = "succeeded", **more: Any) -> dict[str, Any]:
    return {"id": "w1", "status": status, "outputs": {"text": "Rain."}, "error": None, **more}


def test_a_workflow() -> None:
    ask = {"inputs": {"q": "hi"}, "response_mode": "streaming", "user": "u1"}
    plain = call(RUN, ask, {"workflow_run_id": "w1", "task_id": "t1", "data": run()})
    assert (plain.kind, plain.query, plain.response) == ("dify", "hi", "Rain.")
    assert (plain.provider_id, plain.finish_reason) == ("w1", "succeeded")
    ids = {"task_id": "t1", "workflow_run_id": "w1"}
    chunks = [{"event": "text_chunk", **ids, "data": {"text": word}} for word in ("Ra", "in.")]
    end = {"event": "workflow_finished", **ids, "data": run()}
    found = stream(*chunks, end, path=RUN, ask=ask)
    assert facts(found) == facts(plain)
    assert (found.whole, found.first_content) == (True, upto(PING + sse(chunks[0])))
    cut = stream(*chunks, path=RUN, ask=ask)
    assert (cut.response, cut.whole) == ("Rain.", False)
    several = call(RUN, ask, {"workflow_run_id": "w1", "data": run(outputs={"a": "x", "b": 1})})
    assert several.response == '{"a":"x","b":1}'
    assert call(RUN, ask, {"workflow_run_id": "w1", "data": run(outputs={})}).response is None


def test_a_workflow_that_fails() -> None:
    for data, words in [(run("failed", error="a node broke", outputs={}), "a node broke"), (run("failed"), "failed")]:
        plain = call(RUN, {"inputs": {"q": "hi"}}, {"workflow_run_id": "w1", "data": data})
        found = stream({"event": "workflow_finished", "workflow_run_id": "w1", "data": data}, path=RUN)
        for one in (plain, found):
            assert (one.failed, one.error) == (True, words)


def test_events_of_others_are_not_taken_for_its_own() -> None:
    found = streamed(CHAT, ASK, sse({"event": "message", "answer": "Ra"}, {"event": "message", "answer": "in."}))
    assert found.whole is None
