"""Bedrock: Converse and InvokeModel, plain and as binary frames."""

import json
from typing import Any

import pytest

from proxy.wire.extract import CapturedExchange, Extraction, extract
from tests.harness.eventstream import chunk, converse, exception, frame, text_header
from tests.harness.shapes import FRAMES, call, facts, streamed

MODEL = "/model/us.anthropic.claude-x-v1%3A0"
ASK = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
USE = {"toolUseId": "t1", "name": "look", "input": {"at": "Oslo"}}
USAGE = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 14, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 3}
PLAIN = {
    "output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "c2ln"}}}, {"text": "Rain."},
        {"toolUse": USE},
    ]}}, "stopReason": "tool_use", "usage": USAGE, "metrics": {"latencyMs": 120},
}  # fmt: skip


def delta(index: int, **change: Any) -> bytes:
    return converse("contentBlockDelta", {"contentBlockIndex": index, "delta": change})


START = converse("messageStart", {"role": "assistant"})
STOP = converse("messageStop", {"stopReason": "tool_use"})
WORDS = [delta(1, text="Ra"), delta(1, text="in.")]
STREAM = [
    START, delta(0, reasoningContent={"text": "Let me "}), delta(0, reasoningContent={"text": "see."}),
    delta(0, reasoningContent={"signature": "c2ln"}), converse("contentBlockStop", {"contentBlockIndex": 0}), *WORDS,
    converse("contentBlockStop", {"contentBlockIndex": 1}),
    converse("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "look"}}}),
    delta(2, toolUse={"input": '{"at":'}), delta(2, toolUse={"input": ' "Oslo"}'}),
    converse("contentBlockStop", {"contentBlockIndex": 2}), STOP,
    converse("metadata", {"usage": USAGE, "metrics": {"latencyMs": 120}}),
]  # fmt: skip
RIGHT = {
    "kind": "bedrock", "response": 'Rain.\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>',
    "model": "us.anthropic.claude-x-v1:0", "prompt_tokens": 12, "completion_tokens": 2, "cache_read_tokens": 4,
    "cache_write_tokens": 3, "reasoning_tokens": None, "finish_reason": "tool_use", "provider_id": None,
    "refused": False, "error": None, "failed": False,
}  # fmt: skip


def frames(*pieces: bytes, operation: str = "converse-stream", ask: Any = ASK) -> Extraction:
    return streamed(f"{MODEL}/{operation}", ask, b"".join(pieces), FRAMES)


def invoke(ask: Any, *events: Any) -> Extraction:
    return frames(*map(chunk, events), operation="invoke-with-response-stream", ask=ask)


def test_plain_and_streamed_say_the_same() -> None:
    assert facts(call(f"{MODEL}/converse", ASK, PLAIN)) == RIGHT
    found = frames(*STREAM)
    assert facts(found) == RIGHT
    assert found.reassembled == PLAIN
    assert (found.whole, found.streamed, found.unread) == (True, True, False)
    assert found.first_content == len(START + STREAM[1]), "the reasoning"


def test_a_conversation_with_tools_and_media() -> None:
    found = call(f"{MODEL}/converse", {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "outputConfig": {"textFormat": {"type": "json_schema"}},
        "messages": [
            {"role": "user", "content": [{"text": "What?"}, {"image": {}}, {"document": {}}, {"video": {}},
                                         {"guardContent": {"text": {"text": "guarded"}}}, {"cachePoint": {}}]},
            {"role": "assistant", "content": [{"text": "Looking."}, {"toolUse": USE}, {"reasoningContent": {}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}, {"json": [1]},
                                                                                        {"image": {}}]}}]},
            {"role": "user", "content": [{"toolResult": {"content": [{"text": "wet"}]}}, {"text": "So?"}]},
        ],
    }, PLAIN)  # fmt: skip
    assert found.json_requested
    assert found.query == "So?"
    assert [(message["role"], message["content"]) for message in found.messages] == [
        ("system", "Be brief."),
        ("user", "What?\n[image]\n[file]\n[video]\nguarded"),
        ("assistant", 'Looking.\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>'),
        ("tool", "rain\n[1]\n[image]"),
        ("tool", "wet"),
        ("user", "So?"),
    ]


@pytest.mark.parametrize(("stop", "refused", "failed"), [
    ("end_turn", False, False), ("guardrail_intervened", True, False), ("content_filtered", True, False),
    ("malformed_model_output", False, True), ("malformed_tool_use", False, True),
])  # fmt: skip
def test_how_it_stopped(stop: str, refused: bool, failed: bool) -> None:
    plain = call(f"{MODEL}/converse", ASK, PLAIN | {"stopReason": stop})
    for found in (plain, frames(START, *WORDS, converse("messageStop", {"stopReason": stop}))):
        assert (found.refused, found.failed, found.finish_reason) == (refused, failed, stop)
        assert found.error == (stop if failed else None)


def test_citations_are_said_and_kept() -> None:
    cited = {"citationsContent": {"content": [{"text": "It "}, {"text": "rains."}], "citations": [{}]}}
    plain = {"output": {"message": {"content": [cited]}}, "stopReason": "end_turn"}
    assert call(f"{MODEL}/converse", ASK, plain).response == "It rains."
    found = frames(START, delta(0, citation={"title": "x"}), delta(0, text="It rains."), STOP).reassembled
    assert found is not None
    assert found["output"]["message"]["content"] == [{"citation": {"title": "x"}, "text": "It rains."}]


def test_exceptions_and_errors_in_the_middle() -> None:
    error = frame(text_header(":message-type", "error") + text_header(":error-code", "InternalError")
                  + text_header(":error-message", "it broke"), b"")  # fmt: skip
    for end, words in [(exception("modelStreamErrorException", "the model broke"), "the model broke"),
                       (error, "it broke"), (exception("throttlingException", ""), "throttlingException")]:  # fmt: skip
        for found in (frames(START, *WORDS, end), frames(end), frames(START, end, STOP)):
            assert found.failed
            assert found.error == words
        native = frames(chunk({"type": "message_start", "message": {}}), end, operation="invoke-with-response-stream",
                        ask=CLAUDE)  # fmt: skip
        assert native.failed
        assert native.error == words


def test_a_stream_without_its_end_a_cut_one_and_a_damaged_one() -> None:
    quiet = frames(START, *WORDS)
    assert (quiet.whole, quiet.response, quiet.unread) == (False, "Rain.", False)
    cut = frames(START, *WORDS, STOP[:-1])
    assert (cut.whole, cut.response, cut.unread) == (False, "Rain.", True)
    damaged = frames(START, WORDS[0], WORDS[1][:-1] + b"?", STOP)
    assert (damaged.whole, damaged.response, damaged.unread) == (False, "Ra", True)
    no_json = frame(text_header(":event-type", "contentBlockDelta"), b"{")
    unread = frames(START, no_json, *WORDS, STOP)
    assert (unread.whole, unread.response, unread.unread) == (True, "Rain.", True)
    begun = frames(converse("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"name": "look"}}}),
                   delta(0, toolUse={"input": '{"at": "Os'}))  # fmt: skip
    assert begun.response == '<tool_call>{"name":"look","arguments":"{\\"at\\": \\"Os"}</tool_call>'
    assert begun.first_content is not None


def test_frames_are_known_by_their_beginning() -> None:
    found = streamed(f"{MODEL}/converse-stream", ASK, b"".join(STREAM), "application/octet-stream")
    assert facts(found) == RIGHT


CLAUDE_PLAIN = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
                "content": [{"type": "text", "text": "Rain."}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 5, "output_tokens": 2}}  # fmt: skip
CLAUDE_EVENTS = [
    {"type": "message_start", "message": CLAUDE_PLAIN | {"content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Rain."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5}},
]


def test_claude_behind_bedrock_is_messages() -> None:
    plain = call(f"{MODEL}/invoke", CLAUDE, CLAUDE_PLAIN)
    found = invoke(CLAUDE, *CLAUDE_EVENTS)
    assert facts(found) == facts(plain)
    assert (found.kind, found.query, found.response, found.whole) == ("messages", "hi", "Rain.", True)
    assert (found.prompt_tokens, found.completion_tokens, found.provider_id) == (5, 2, "msg_1")
    assert invoke(CLAUDE, *CLAUDE_EVENTS[:3]).whole is False


@pytest.mark.parametrize("path", [
    "/v1/projects/p/locations/us/publishers/anthropic/models/claude-x:rawPredict",
    "/v1/projects/p/locations/us/publishers/anthropic/models/claude-x:streamRawPredict",
])  # fmt: skip
def test_claude_behind_vertex_is_messages(path: str) -> None:
    found = call(path, CLAUDE, CLAUDE_PLAIN | {"model": None})
    assert (found.kind, found.query, found.response, found.model) == ("messages", "hi", "Rain.", "claude-x")


def test_mistral_behind_vertex_is_chat() -> None:
    ask = {"model": "mistral-x", "messages": [{"role": "user", "content": "hi"}]}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}
    path = "/v1/projects/p/locations/us/publishers/mistralai/models/mistral-x:rawPredict"
    found = call(path, ask, {"id": "c1", "choices": [choice]})
    assert (found.kind, found.response, found.finish_reason) == ("chat", "Rain.", "stop")


def test_chat_behind_bedrock_is_chat_also_where_pieces_are_whole_messages() -> None:
    ask = {"messages": [{"role": "user", "content": "hi"}]}
    choices = [{"index": 0, "message": {"role": "assistant", "content": word}, "stop_reason": stop}
               for word, stop in (("Ra", None), ("in.", "stop"))]  # fmt: skip
    found = invoke(ask, *({"choices": [choice]} for choice in choices))
    assert (found.kind, found.response, found.finish_reason, found.whole) == ("chat", "Rain.", "stop", True)
    plain = invoke(ask, {"choices": [{"index": 0, "delta": {"content": "Rain."}, "finish_reason": "stop"}]})
    assert plain.response == "Rain."


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 2}}
NATIVE = {
    "llama": ({"prompt": "hi", "max_gen_len": 9},
              {"generation": "Rain.", "prompt_token_count": 5, "generation_token_count": 2, "stop_reason": "stop"},
              [{"generation": "Ra", "prompt_token_count": 5, "generation_token_count": 1, "stop_reason": None},
               {"generation": "in.", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "stop"}]),
    "titan": ({"inputText": "hi", "textGenerationConfig": {}},
              {"inputTextTokenCount": 5,
               "results": [{"tokenCount": 2, "outputText": "Rain.", "completionReason": "stop"}]},
              [{"outputText": "Ra", "index": 0, "totalOutputTextTokenCount": None, "completionReason": None,
                "inputTextTokenCount": 5},
               {"outputText": "in.", "index": 0, "totalOutputTextTokenCount": 2, "completionReason": "stop",
                "inputTextTokenCount": None}]),
    "mistral": ({"prompt": "hi"}, {"outputs": [{"text": "Rain.", "stop_reason": "stop"}]} | METRICS,
                [{"outputs": [{"text": "Ra", "stop_reason": None}]},
                 {"outputs": [{"text": "in.", "stop_reason": "stop"}]} | METRICS]),
    "cohere": ({"prompt": "hi"}, {"generations": [{"text": "Rain.", "finish_reason": "stop"}]} | METRICS,
               [{"generations": [{"text": "Ra"}]},
                {"generations": [{"text": "in.", "finish_reason": "stop"}]} | METRICS]),
    "claude 2": ({"prompt": "hi"}, {"completion": "Rain.", "stop_reason": "stop"} | METRICS,
                 [{"completion": "Ra", "stop_reason": None}, {"completion": "in.", "stop_reason": "stop"} | METRICS]),
    "deepseek": ({"prompt": "hi"}, {"choices": [{"text": "Rain.", "stop_reason": "stop"}]} | METRICS, []),
    "cohere R": ({"message": "hi"}, {"text": "Rain.", "finish_reason": "stop"} | METRICS,
                 [{"event_type": "text-generation", "text": "Rain.", "is_finished": False},
                  {"event_type": "stream-end", "is_finished": True, "finish_reason": "stop",
                   "response": {"text": "Rain.", "finish_reason": "stop"}} | METRICS]),
    "nova": (ASK | {"schemaVersion": "messages-v1"},
             {"output": {"message": {"role": "assistant", "content": [{"text": "Rain."}]}}, "stopReason": "stop",
              "usage": {"inputTokens": 5, "outputTokens": 2}},
             [{"messageStart": {"role": "assistant"}},
              {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Ra"}}},
              {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "in."}}},
              {"messageStop": {"stopReason": "stop"}}, {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 2}}}]),
}  # fmt: skip


@pytest.mark.parametrize("maker", NATIVE)
def test_bodies_of_other_makers(maker: str) -> None:
    ask, plain, events = NATIVE[maker]
    found = call(f"{MODEL}/invoke", ask, plain)
    told = {
        "kind": "bedrock",
        "response": "Rain.",
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "finish_reason": "stop",
    }
    assert facts(found) | told == facts(found)
    assert found.query == "hi"
    if events:
        joined = invoke(ask, *events)
        assert facts(joined) == facts(found)
        assert joined.whole is True
        assert joined.first_content is not None
        assert invoke(ask, *events[:-2]).whole in (False, None)


def test_a_filter_of_another_maker_is_a_refusal() -> None:
    plain = {"results": [{"outputText": "", "completionReason": "CONTENT_FILTERED"}]}
    assert call(f"{MODEL}/invoke", {"inputText": "hi"}, plain).refused


def test_embeddings_behind_bedrock_have_no_words() -> None:
    found = call(f"{MODEL}/invoke", {"inputText": "hi"}, {"embedding": [0.5], "inputTextTokenCount": 1})
    assert (found.kind, found.response) == ("bedrock", None)


def test_a_body_of_no_known_maker_is_other_json() -> None:
    found = call(f"{MODEL}/invoke", {"features": [1]}, {"label": "cat"})
    assert (found.kind, found.response) == ("json", "cat")


def test_a_model_by_its_resource_name() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.claude-x"
    for name in (arn.replace("/", "%2F").replace(":", "%3A"), arn.replace("/", "%2f")):
        assert call(f"/model/{name}/converse", ASK, PLAIN).model == arn


def test_an_answer_with_a_status_of_failure() -> None:
    found = call(f"{MODEL}/converse", ASK, {"message": "Too many requests"}, status=429)
    assert (found.response, found.error) == (None, "Too many requests")


def test_a_request_that_was_cut_is_known_by_the_answer() -> None:
    for path, answer, kind in [("converse", PLAIN, "bedrock"), ("invoke", CLAUDE_PLAIN, "messages"),
                               ("invoke", NATIVE["llama"][1], "bedrock")]:  # fmt: skip
        asked, said = json.dumps(ASK).encode()[:-9], json.dumps(answer).encode()
        target = f"{MODEL}/{path}"
        found = extract(CapturedExchange(target=target, request=asked, response=said, response_type="application/json"))
        assert found.kind is kind
        assert found.response is not None
