"""What people and agents said through a running Ratchet, as training files: each talk is there as it was, or not.

All of it is logged once, through one real process; each format is then exported, and read as those who train read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

from proxy.cli.app import app
from proxy.loop.consumers import check, templates
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
TOKEN: Final = "only-the-application-knows-this-token"
PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: Final = {"name": "get_weather", "description": "The weather in a city.", "parameters": PARAMETERS}
TOOLS: Final = [{"type": "function", "function": FUNCTION}]
PNG: Final = "data:image/png;base64,iVBORw0KGgo="


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def says(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(id: str, city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return {"id": id, "type": "function", "function": function}


def result(id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def chat(message: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a chat."""
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-12345678", "object": "chat.completion", "model": "m", "choices": [choice]}


def streamed(message: Mapping[str, Any]) -> str:
    """The same as events, a call's arguments torn in two."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": message["content"]}]
    for index, made in enumerate(message.get("tool_calls", ())):
        text = made["function"]["arguments"]
        whole = {**made, "index": index, "function": {**made["function"], "arguments": text[:4]}}
        deltas += [{"tool_calls": [whole]}, {"tool_calls": [{"index": index, "function": {"arguments": text[4:]}}]}]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    lines = [json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk"} | event) for event in events]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])


def response(id: str, *output: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a Responses request."""
    return {"id": id, "object": "response", "status": "completed", "model": "m", "output": list(output)}


def output_text(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request, what the model answers, and what its user thinks of it."""

    request: Mapping[str, Any]
    answer: Mapping[str, Any] | str
    path: str = CHAT
    headers: Mapping[str, str] = field(default_factory=dict)
    vote: int | None = 1
    correction: str | None = None


def ask(messages: list[dict[str, Any]], answer: Mapping[str, Any] | str, **more: Any) -> Exchange:
    """A chat; `tools` goes into the request, everything else is a field of Exchange."""
    tools = {"tools": more.pop("tools")} if "tools" in more else {}
    said = answer if isinstance(answer, str) else chat(answer)
    return Exchange(request={"model": "m", "messages": messages, **tools}, answer=said, **more)


ROUTER: Final = user("How do I reset the router X200 to factory settings?")
WINDOW: Final = says("Throw the router out of the window.")
AGENT: Final = user("Compare the weather in Oslo and Kiev for AGENT")
AGENT_CALLS: Final = [call("call_1", "Oslo"), call("call_2", "Kiev")]
BERN: Final = [{"role": "system", "content": "You are a weather bot."}, user("Will there be snow in Bern? SAMETALK")]
TALKS: Final[dict[str, list[Exchange]]] = {
    "PLAIN": [ask([{"role": "system", "content": "Be funny."}, user("Hello there bot"), says("Hi!"),
                   user("Tell me a joke about rain, word PLAIN")], says("Rain, rain, go away."))],
    "CALL": [ask([user("What is the weather in Paris for CALL")], says(None, tool_calls=[call("call_abc", "Paris")]),
                 tools=TOOLS)],
    "STREAM": [ask([user("What is the weather in Lima for STREAM")],
                   streamed(says("Let me look.", tool_calls=[call("c1", "Lima"), call("c2", "Cusco")])), tools=TOOLS)],
    "AGENT": [
        ask([AGENT], says("", tool_calls=AGENT_CALLS), tools=TOOLS, vote=None),
        ask([AGENT, says("", tool_calls=AGENT_CALLS), result("call_1", "3 degrees"), result("call_2", "9 degrees")],
            says("Kiev is six degrees warmer."), tools=TOOLS),
    ],
    "CLAUDE": [Exchange(
        path=MESSAGES,
        request={"model": "m", "max_tokens": 99, "system": "Be brief.",
                 "tools": [{"name": "get_weather", "description": "The weather.", "input_schema": PARAMETERS}],
                 "messages": [user("And the weather in Rome for CLAUDE"),
                              {"role": "assistant", "content": [
                                  {"type": "thinking", "thinking": "A tool knows SECRETTHOUGHT.", "signature": "x"},
                                  {"type": "text", "text": "I look it up."},
                                  {"type": "tool_use", "id": "toolu_1", "name": "get_weather",
                                   "input": {"city": "Rome"}}]},
                              user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "31 degrees"}])]},
        answer={"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "It is hot in Rome."}]},
    )],
    "RESPONSES": [
        Exchange(path=RESPONSES, request={"model": "m", "input": "Name two colours for RESPONSES"},
                 answer=response("resp_first1", output_text("Red and blue.")), vote=None),
        Exchange(path=RESPONSES,
                 request={"model": "m", "previous_response_id": "resp_first1", "input": "And the second of them?"},
                 answer=response("resp_second", output_text("The second is blue."))),
    ],
    "ELSEWHERE": [Exchange(
        path=RESPONSES,
        request={"model": "m", "previous_response_id": "resp_unknown", "input": "And the third, ELSEWHERE?"},
        answer=response("resp_third3", output_text("The third is green.")))],
    "PICTURE": [ask([user([{"type": "text", "text": "Which colour has the car, PICTURE?"},
                           {"type": "image_url", "image_url": {"url": PNG}}])], says("The car is red."))],
    "FILE": [Exchange(
        path=RESPONSES,
        request={"model": "m", "input": [user([{"type": "input_text", "text": "What does FILE say?"},
                                               {"type": "input_file", "file_id": "file-123"}])]},
        answer=response("resp_file44", output_text("It says hello.")))],
    "TITLE": [ask([user("### Task:\nGenerate a concise title for the chat history, TITLE.")],
                  says('{"title": "Weather"}'), headers={"X-OpenWebUI-Task": "title_generation"}, vote=None)],
    "DISLIKED": [
        ask([ROUTER], WINDOW, vote=-1),
        ask([ROUTER, WINDOW, user("No! Is there no button, DISLIKED?")], says("Hold the button for ten seconds.")),
    ],
    "CORRECTED": [
        ask([user("Who wrote Emma?")], says("Charles Dickens wrote it."), vote=None,
            correction="Jane Austen wrote Emma."),
        ask([user("Who wrote Emma?"), says("Charles Dickens wrote it."), user("When was that, CORRECTED?")],
            says("It appeared in 1815.")),
    ],
    "DEVELOPER": [ask([{"role": "developer", "content": "Answer in French."}, user("Good evening, DEVELOPER?")],
                      says("Bonsoir !"))],
    "PREFILL": [ask([user("Write a haiku about wind, PREFILL"), says("Here it is:")], says(" Waves fold into foam"))],
    "REASONING": [ask([user("How much is 17 times 23, REASONING?")],
                      says("391", reasoning_content="340 + 51 is SECRETTHOUGHT"))],
    "THINK": [ask([user("How much is 12 times 12, THINK?")], says("<think>SECRETTHOUGHT 144</think>It is 144."))],
    "MALFORMED": [ask([user("What is the weather in Nice, MALFORMED?")],
                      says('<tool_call>{"name": "get_weather", "arguments": {"city": "Nice"}}</tool_call>'),
                      tools=TOOLS)],
    "SAMETALK": [ask(BERN, says("Only rain is expected in Bern."))] * 3,
    "DOCUMENT": [ask([user(f"Document {n}: a story about {thing}."), says("I have read it."),
                      user("Is it positive or negative, DOCUMENT?")], says("positive"))
                 for n, thing in enumerate(("foxes", "whales", "cars", "rain", "kings", "tea"))],
}  # fmt: skip
EVERY: Final = [exchange for talk in TALKS.values() for exchange in talk]


async def answer(asked: Request) -> Response:
    """The model: what exchange number so-and-so gets."""
    await asked.body()
    said = EVERY[int(asked.headers["x-exchange"])].answer
    if isinstance(said, str):
        return Response(said, media_type="text/event-stream")
    return Response(json.dumps(said), media_type="application/json")


TRAINING: Final = """
import json, pathlib, shutil

def train_model(data_path):
    here = pathlib.Path(__file__).parent
    shutil.copy(data_path, here / "seen.jsonl")
    lines = [json.loads(line) for line in open(data_path)]
    (here / "model").write_text(str(len(lines)))
    return {"model_path": str(here / "model"), "loss": 0.5}
"""


@pytest.fixture(scope="module")
def ratchet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RatchetProcess]:
    """A process that has logged everything, with the votes."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "teaching.py").write_text(TRAINING)
    settings = {
        "feedback": {"token": TOKEN},
        "generator_config": {"holdout_share": 0.0, "train_on": "last"},
        "trigger_config": {"min_new_samples": 10_000, "min_usable_samples": 5},
        "trainer": {"kind": "callable", "callable": "teaching:train_model", "poll_seconds": 0.1},
    }
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    with (
        serving_in_thread(app) as url,
        RatchetProcess(folder, champion=url, settings=settings, environ={"PYTHONPATH": str(folder)}) as process,
    ):
        process.await_admin()
        log(process)
        yield process


def log(process: RatchetProcess) -> None:
    """Ask everything, in order, and vote; return once all of it is in the store."""
    last, number = "", 0
    for name, talk in TALKS.items():
        for exchange in talk:
            headers = {"x-user-id": name, "x-exchange": str(number), **exchange.headers}
            got = request(process.base_url, exchange.path, method="POST", body=exchange.request, headers=headers)
            assert got.status == 200, got.body
            last = got.headers["x-ratchet-record-id"]
            if exchange.vote is not None or exchange.correction is not None:
                vote = {"record_id": last, "feedback": exchange.vote, "correction": exchange.correction, "source": name}
                token = {"authorization": f"Bearer {TOKEN}"}
                given = {key: value for key, value in vote.items() if value is not None}
                sent = request(process.base_url, "/-/feedback", method="POST", body=given, headers=token)
                assert sent.status == 202, sent.body
            number += 1

    def there() -> bool:
        found = request(process.admin_url, f"/api/records/{last}")
        return found.status == 200 and bool(found.json()["votes"])

    await_true(there, "the last vote")


def export(process: RatchetProcess, name: str, **settings: str) -> tuple[dict[str, Any], Path]:
    """The manifest and the file of a format, built once. `settings` stand in the environment."""
    folder = process.directory / "-".join(["out", name, *settings.values()])
    if not folder.exists():
        verb = ["data", "export", str(folder), "--format", name, "--config", str(process.config_file), "--json"]
        done = CliRunner().invoke(app, verb, env=settings)
        assert done.exit_code == 0, done.output
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, folder / "data.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def about(lines: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [line for line in lines if word in json.dumps(line)]


@pytest.fixture(scope="module")
def chatml(ratchet: RatchetProcess) -> list[dict[str, Any]]:
    return read(export(ratchet, "chatml")[1])


def only(lines: list[dict[str, Any]], word: str) -> dict[str, Any]:
    """The one line about `word`."""
    [found] = about(lines, word)
    return found


def roles(line: Mapping[str, Any]) -> list[str]:
    return [message["role"] for message in line["messages"]]


def test_a_conversation_is_as_it_was(chatml: list[dict[str, Any]]) -> None:
    line = only(chatml, "PLAIN")
    assert roles(line) == ["system", "user", "assistant", "user", "assistant"]
    assert [message["content"] for message in line["messages"]][-3:] == [
        "Hi!", "Tell me a joke about rain, word PLAIN", "Rain, rain, go away."]  # fmt: skip
    assert "tools" not in line
    assert [message.get("weight") for message in line["messages"]] == [None, None, 0, None, None]


@pytest.mark.parametrize(
    ("word", "calls"),
    [("CALL", [("call_abc", "Paris")]), ("STREAM", [("c1", "Lima"), ("c2", "Cusco")])],
)
def test_calls_are_calls(chatml: list[dict[str, Any]], word: str, calls: list[tuple[str, str]]) -> None:
    line = only(chatml, f"for {word}")
    message = line["messages"][-1]
    made = [(one["id"], json.loads(one["function"]["arguments"])["city"]) for one in message["tool_calls"]]
    assert made == calls
    assert message["content"] in (("Let me look.",) if word == "STREAM" else ("", None))
    assert line["tools"] == TOOLS


def test_results_answer_their_calls(chatml: list[dict[str, Any]]) -> None:
    first, second = about(chatml, "for AGENT")
    assert roles(first) == ["user", "assistant"]
    assert roles(second) == ["user", "assistant", "tool", "tool", "assistant"]
    assert [one["id"] for one in second["messages"][1]["tool_calls"]] == ["call_1", "call_2"]
    assert [message.get("tool_call_id") for message in second["messages"][2:4]] == ["call_1", "call_2"]
    claude = only(chatml, "for CLAUDE")
    assert roles(claude) == ["system", "user", "assistant", "tool", "assistant"]
    assert claude["messages"][2]["content"] == "I look it up."
    assert claude["messages"][2]["tool_calls"][0]["id"] == claude["messages"][3]["tool_call_id"] == "toolu_1"
    assert claude["tools"][0]["function"]["parameters"] == PARAMETERS


def test_what_lacks_its_context_is_not_taught(chatml: list[dict[str, Any]]) -> None:
    first, second = sorted(about(chatml, "for RESPONSES"), key=lambda line: len(line["messages"]))
    assert roles(first) == ["user", "assistant"]
    told = ["Name two colours for RESPONSES", "Red and blue.", "And the second of them?", "The second is blue."]
    assert [message["content"] for message in second["messages"]] == told
    assert about(chatml, "ELSEWHERE") == []
    assert about(chatml, "What does FILE say") == []


def test_a_file_of_words_has_no_pictures_unless_they_are_wished(ratchet: RatchetProcess) -> None:
    manifest, path = export(ratchet, "chatml")
    assert about(read(path), ", PICTURE?") == []
    assert manifest["dropped"]["multimodal"] >= 1
    kept, path = export(ratchet, "chatml", RATCHET_GENERATOR_CONFIG__ATTACHMENTS="keep")
    assert PNG in json.dumps(only(read(path), ", PICTURE?"))
    assert all(isinstance(message["content"], list) for line in read(path) for message in line["messages"])
    assert kept["dropped"].get("multimodal", 0) < manifest["dropped"]["multimodal"]
    report = check(path, "openai", None)
    assert report.good, sorted(report.findings)


def test_what_was_disliked_or_corrected_is_not_taught(chatml: list[dict[str, Any]]) -> None:
    line = only(chatml, "DISLIKED")
    assert line["messages"][1] == {**WINDOW, "weight": 0}
    corrected = about(chatml, "Who wrote Emma")
    assert len(corrected) == 2
    assert "Dickens" not in json.dumps(corrected)
    assert [line["messages"][1]["content"] for line in corrected] == ["Jane Austen wrote Emma."] * 2


@pytest.mark.parametrize("word", ["TITLE", "MALFORMED"])
def test_what_is_no_answer_to_a_user_is_no_line(chatml: list[dict[str, Any]], word: str) -> None:
    assert about(chatml, word) == []
    assert "tool_call>" not in json.dumps(chatml)


def test_roles_prefills_and_thoughts(chatml: list[dict[str, Any]]) -> None:
    assert roles(only(chatml, "DEVELOPER")) == ["system", "user", "assistant"]
    prefilled = only(chatml, "PREFILL")["messages"]
    assert [message["content"] for message in prefilled[1:]] == ["Here it is: Waves fold into foam"]
    assert "SECRETTHOUGHT" not in json.dumps(chatml)
    assert only(chatml, "THINK?")["messages"][-1]["content"] == "It is 144."


def test_the_whole_conversation_is_what_is_repeated(chatml: list[dict[str, Any]]) -> None:
    assert len(about(chatml, "SAMETALK")) == 1
    assert len(about(chatml, "DOCUMENT?")) == 6


@pytest.mark.parametrize("name", ["chatml", "prompt_completion", "alpaca", "completion", "kto"])
def test_counts_add_up(ratchet: RatchetProcess, name: str) -> None:
    manifest, path = export(ratchet, name)
    assert manifest["records"] + sum(manifest["dropped"].values()) == manifest["seen"]
    assert manifest["samples"] == len(read(path)) > 0
    if name in ("alpaca", "completion"):
        assert "get_weather" not in path.read_text()
        assert manifest["dropped"]["not_in_format"] >= 4
        assert manifest["dropped"]["multimodal"] >= 1


@pytest.mark.parametrize(
    ("name", "consumer", "template"),
    [
        ("chatml", "openai", None),
        ("chatml", "trl", "qwen3"),
        ("chatml", "axolotl", "qwen2_5"),
        ("chatml", "mistral", None),
        *(("prompt_completion", "trl", template) for template in ("qwen3", "qwen3_6", "qwen2_5", "gemma4", "glm4moe")),
        ("kto", "trl", "qwen3"),
        ("alpaca", "axolotl", None),
        ("completion", "trl", None),
    ],
)
def test_those_who_train_take_it(ratchet: RatchetProcess, name: str, consumer: str, template: str | None) -> None:
    if template is not None and template not in templates.shipped():
        pytest.skip("this TRL ships no such template")
    report = check(export(ratchet, name)[1], consumer, template)
    assert report.good, sorted(report.findings)


def test_a_training_gets_the_same_file(ratchet: RatchetProcess) -> None:
    order = {"verb": "trigger", "why": "the test wants to see a training"}
    own = {"x-ratchet-csrf": "1"}
    assert request(ratchet.admin_url, "/api/commands", method="POST", body=order, headers=own).status == 202
    seen = ratchet.directory / "model"
    await_true(seen.exists, "a training", limit_s=120.0)
    lines = (ratchet.directory / "seen.jsonl").read_bytes()
    assert lines == export(ratchet, "chatml")[1].read_bytes()
