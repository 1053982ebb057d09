"""The pages of client libraries do what they say: each is run by its own library, all before one Ratchet.

A page's Python blocks are one program, its scripts are files beside each other; only addresses are replaced.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.harness.model_server import create_model_server
from tests.harness.model_words import answer_to
from tests.harness.pages import ROOT, Block, blocks, commands
from tests.harness.programs import free_port
from tests.harness.require import need
from tests.harness.sdk import Way
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

HOW_TO: Final = ROOT / "docs/how-to"
TOKEN: Final = "feedback-token-of-the-pages"
ENVIRON: Final = {
    "OPENAI_API_KEY": "key",
    "ANTHROPIC_API_KEY": "key",
    "FEEDBACK_TOKEN": TOKEN,
    "LITELLM_MASTER_KEY": "sk-" + "0a1b2c3d" * 8,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or the prices of models are fetched from the network
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGSMITH_TRACING": "false",
}
AI_SDK: Final = ROOT / "tests/docs/ai_sdk"


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    directory = tmp_path_factory.mktemp("pages")
    settings = {"feedback": {"token": TOKEN}}
    with (
        serving_in_thread(create_model_server()) as url,
        RatchetProcess(directory, champion=url, settings=settings) as ratchet,
    ):
        ratchet.await_admin()
        yield Way(direct=url, proxied=ratchet.base_url, ratchet=ratchet)


def page(name: str, language: str) -> list[Block]:
    """The blocks of a how-to page in this language, in order."""
    return [block for block in blocks(HOW_TO / f"{name}.md") if block.language == language]


def here(way: Way, text: str) -> str:
    """As a reader would adapt it."""
    return text.replace("http://127.0.0.1:8080", way.proxied)


def run(argv: list[str], directory: Path, **environ: str) -> str:
    """What this command prints; it must succeed."""
    done = subprocess.run(argv, cwd=directory, env={**os.environ, **ENVIRON, **environ}, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_python(way: Way, name: str, directory: Path, more: str = "") -> None:
    """The Python of a page, top to bottom, as one program, with `more` below it."""
    program = directory / "page.py"
    program.write_text(here(way, "\n".join([*(block.text for block in page(name, "python")), more])))
    run([sys.executable, str(program)], directory)


def the_record(way: Way, text: str) -> dict[str, Any]:
    """The one record of this question: answered, by the user of every page."""
    [row] = way.records(text=text, user="u42")
    assert (row["response"], row["outcome"]) == (answer_to(text), "ok")
    return row


def the_vote(way: Way, text: str) -> Mapping[str, Any]:
    """The one vote on the answer to this question; it counts, and is a thumbs up of the user."""
    [vote] = await_true(lambda: votes_on(way, the_record(way, text)), f"a vote on {text}")
    assert (vote["feedback"], vote["source"], vote["counts"]) == (1, "u42", True)
    return dict(vote)


def votes_on(way: Way, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every vote on this record."""
    return list(request(way.ratchet.admin_url, f"/api/records/{row['record_id']}").json()["votes"])


def test_langchain(way: Way, tmp_path: Path) -> None:
    run_python(way, "langchain", tmp_path)
    assert the_record(way, "Name a river in France.")["key_source"] == "body"
    the_vote(way, "Name a river in France.")
    assert "streamed" in the_record(way, "Name a lake in Italy.")["flags"]
    assert the_record(way, "Name a hill in Rome.")["key_source"] == "body"
    assert the_record(way, "Name a town in Spain.")["kind"] == "messages"
    assert the_vote(way, "Name a town in Spain.")["token"] is True


def test_llamaindex(way: Way, tmp_path: Path) -> None:
    run_python(way, "llamaindex", tmp_path)
    assert the_record(way, "Name a river in Poland.")["key_source"] == "body"
    the_vote(way, "Name a river in Poland.")
    streamed = the_record(way, "Name a lake in Norway.")
    kept = request(way.ratchet.admin_url, f"/api/records/{streamed['record_id']}").json()["exchange"]
    assert kept["request_headers"]["x-request-id"].startswith("turn-")


AGENT_WITH_A_TOOL: Final = """
from agents import function_tool

@function_tool
def weather(city: str, days: int) -> str:
    return "dry"

turn = f"turn-{uuid4()}"
config = RunConfig(model_settings=ModelSettings(extra_headers={"x-request-id": turn, "x-user-id": "u42"}))
asks = Agent(name="asks", model="small", tools=[weather])
assert "dry" in Runner.run_sync(asks, "A forecast, please.", run_config=config).final_output
requests.post(
    "http://127.0.0.1:8080/-/feedback",
    json={"record_id": turn, "feedback": 1, "source": "u42"},
    headers={"Authorization": f"Bearer {os.environ['FEEDBACK_TOKEN']}"},
    timeout=10,
).raise_for_status()
set_default_openai_api("responses")
config = RunConfig(model_settings=ModelSettings(extra_headers={"x-user-id": "u42"}))
Runner.run_sync(agent, "Name a river in Mali.", run_config=config)
"""
"""What the page says in words: one turn of several requests, and the other API."""


def test_openai_agents(way: Way, tmp_path: Path) -> None:
    run_python(way, "openai-agents", tmp_path, AGENT_WITH_A_TOOL)
    assert the_record(way, "Name a river in Egypt.")["key_source"] == "header"
    the_vote(way, "Name a river in Egypt.")
    last, first = way.records(2, text="A forecast, please.", user="u42")
    await_true(lambda: votes_on(way, last), "a vote on the last answer of the turn")
    assert "<tool_call>" in first["response"]
    assert votes_on(way, first) == []
    assert the_record(way, "Name a river in Mali.")["kind"] == "responses"


# ------------------------------------------------------------------------------------------------ LiteLLM


def test_litellm_as_a_library(way: Way, tmp_path: Path) -> None:
    run_python(way, "litellm", tmp_path)
    assert the_record(way, "Name a river in Cuba.")["key_source"] == "header"


def test_litellm_knows_the_settings_of_its_page() -> None:
    """Whether or not its proxy can be started here."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent
    known = "".join(
        (source / name).read_text(encoding="utf-8")
        for name in ("__init__.py", "proxy/proxy_server.py", "proxy/_types.py", "proxy/litellm_pre_call_utils.py")
    )
    [config] = page("litellm", "yaml")
    settings = yaml.safe_load(config.text)
    names = {*settings, *settings["litellm_settings"], *settings["general_settings"]}
    assert {name for name in names if name not in known} == set()
    [model] = settings["model_list"]
    assert model["litellm_params"]["model"].startswith("openai/")


def test_what_litellm_sends_names_the_user(way: Way) -> None:
    """As 1.108 was seen to send it with the settings of the page, for machines without its proxy."""
    text = "Name a cape in Chad."
    sent = {"user-agent": "AsyncOpenAI/Python 3.57.0", "authorization": "Bearer key",
            "x-litellm-user_api_key_hash": "litellm_proxy_master_key", "x-litellm-user_api_key_spend": "0.0",
            "x-litellm-user_api_key_user_id": "default_user_id", "x-litellm-user_api_key_end_user_id": "u42",
            "x-litellm-user_api_key_request_route": "/v1/chat/completions"}  # fmt: skip
    body = {"model": "small", "messages": [{"role": "user", "content": text}]}
    request(way.proxied, "/v1/chat/completions", method="POST", body=body, headers=sent)
    assert the_record(way, text)["key_source"] == "header"


def test_litellm_in_front(way: Way, tmp_path: Path) -> None:
    """Its proxy has dozens of dependencies, of which a test environment has few: where they are, it is run."""
    parts = ("apscheduler", "redis", "fastapi_sso", "semver", "expression", "email_validator", "soundfile")
    need("LiteLLM's proxy (litellm[proxy])", all(map(importlib.util.find_spec, parts)), extra=True)
    [config], [shell] = page("litellm", "yaml"), page("litellm", "sh")
    need("curl", shutil.which("curl") is not None)
    (tmp_path / "config.yaml").write_text(here(way, config.text))
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(Path(sys.executable).with_name("litellm")), "--config", "config.yaml", "--host", "127.0.0.1"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path, stdout=log, stderr=log,
                                  env={**os.environ, **ENVIRON})  # fmt: skip
    try:
        await_true(lambda: _answers(url), "LiteLLM's proxy", lambda: _runs(server, tmp_path / "log"))
        run(["sh", "-euc", here(way, shell.text)], tmp_path, LITELLM_URL=url)
    finally:
        server.terminate()
        server.wait(120)
    assert the_record(way, "Name a river in Peru.")["key_source"] == "header"
    the_vote(way, "Name a river in Peru.")


def _answers(url: str) -> bool:
    try:
        return request(url, "/health/liveliness").status == 200
    except OSError:
        return False


def _runs(server: subprocess.Popen[bytes], log: Path) -> None:
    assert server.poll() is None, log.read_text()[-3000:]


# ------------------------------------------------------------------------------------------------ AI SDK


@pytest.fixture(scope="module")
def ai_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the page, as the lock file beside this test has them."""
    need("node", shutil.which("node") is not None)
    need("npm", shutil.which("npm") is not None, extra=True)
    directory = tmp_path_factory.mktemp("ai-sdk")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(AI_SDK / name, directory)
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=30000"]
    done = subprocess.run(["npm", "ci", *options], cwd=directory, capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip
    ours = (
        "EUSAGE" in done.stderr or "EINTEGRITY" in done.stderr
    )  # the lock file does not fit, whatever the network does
    need("npm's registry", done.returncode == 0 or ours, extra=True)
    assert done.returncode == 0, done.stderr
    return directory


def test_the_ai_sdk(way: Way, ai_sdk: Path) -> None:
    for block in page("ai-sdk", "js"):
        assert block.title is not None
        (ai_sdk / block.title).write_text(here(way, block.text))
    (ai_sdk / "reader.mjs").write_text((AI_SDK / "reader.mjs").read_text())
    told = json.loads(run(["node", "reader.mjs"], ai_sdk))
    assert told["text"] == answer_to("Name a river in Chile.")
    asked = the_record(way, "Name a river in Chile.")
    assert (asked["record_id"], asked["key_source"]) == (told["recordId"], "body")
    assert _record_id_of(told["stream"]) == the_record(way, "Name a lake in Peru.")["record_id"]
    the_vote(way, "Name a lake in Peru.")


def _record_id_of(stream: str) -> str:
    """As `useChat` finds it: metadata of the message, which come after the step and before the end."""
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {")]
    parts = [part for part in map(json.loads, lines) if part["type"] != "text-delta"]
    assert [part["type"] for part in parts] == ["start", "start-step", "text-start", "text-end", "finish-step",
                                                "message-metadata", "finish"]  # fmt: skip
    return str(parts[-2]["messageMetadata"]["recordId"])


def test_what_the_ai_sdk_sends_names_the_user(way: Way) -> None:
    """As version 6 was seen to send it, for machines without npm: `providerOptions` become members of the body."""
    text = "Name a cape in Kenya."
    body = {"model": "small", "user": "u42", "messages": [{"role": "user", "content": text}]}
    sent = {"user-agent": "ai/6.0.326 ai-sdk/provider-utils/4.0.65", "authorization": "Bearer key"}
    answer = request(way.proxied, "/v1/chat/completions", method="POST", body=body, headers=sent)
    asked = the_record(way, text)
    assert (asked["record_id"], asked["key_source"]) == (answer.headers["x-ratchet-record-id"], "body")


def test_the_ai_sdk_that_is_tested_is_the_one_of_the_page() -> None:
    lock = json.loads((AI_SDK / "package-lock.json").read_text())["packages"]
    text = (HOW_TO / "ai-sdk.md").read_text()
    [major] = re.findall(r"Tested with `ai` (\d+)", text)
    assert lock["node_modules/ai"]["version"].split(".")[0] == major
    [install] = re.findall(r"`npm install ([^`]+)`", text)
    assert set(install.split()) == set(lock[""]["dependencies"])


# ------------------------------------------------------------------------------------------------ at the end


def test_another_model_of_litellm_is_brought(way: Way, tmp_path: Path) -> None:
    """Last of all: from here on there is a challenger."""
    [block] = page("litellm", "console")
    [command] = commands(block)
    environ = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
               "RATCHET_CONFIG": str(way.ratchet.config_file)}  # fmt: skip
    assert run(["sh", "-euc", command.line], tmp_path, **environ).startswith("challenge: ")
