"""The pages on thumbs of other UIs: every block in them is run, or read by what will read it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tomllib
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import yaml
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from proxy.config import authorities
from proxy.config.load import parse_config
from proxy.config.serving import CaptureConfig, StickyConfig
from proxy.ingest.aliases import AliasReader
from proxy.web.open_webui import api, poller
from tests.harness.pages import ROOT, Block, blocks
from tests.harness.require import need
from tests.harness.webserver import serving_in_thread
from tests.web.test_feedback import Side

HOW_TO = ROOT / "docs/how-to"
CHAMPION = {"url": "http://model.example.com"}
SHOWN_ID = "0Q85B695TMI6XF3VX3bZfiHmb3IjgwAEoxU8"


def block(page: str, language: str, holding: str = "") -> Block:
    [found] = [one for one in blocks(HOW_TO / page) if one.language == language and holding in one.text]
    return found


def sent(headers: dict[str, str], values: dict[str, str]) -> dict[str, str]:
    """As the UI fills its templates; names in lower case, as a request is read."""
    filled = {name.lower(): text for name, text in headers.items()}
    for template, value in values.items():
        filled = {name: text.replace("{{" + template + "}}", value) for name, text in filled.items()}
    return filled


def test_open_webuis_headers_name_user_chat_message_and_task() -> None:
    headers = json.loads(block("open-webui.md", "json").text)
    request = sent(headers, {"USER_ID": "ada", "CHAT_ID": "chat-1", "MESSAGE_ID": "message-1", "TASK": ""})
    assert AliasReader(CaptureConfig()).of(None, request, {}) == ("message-1",)
    assert request[StickyConfig().headers[0]] == "ada"
    assert request[StickyConfig().conversation_headers[0]] == "chat-1"
    assert request[CaptureConfig().task_headers[0]] == ""


def test_the_settings_of_the_pages_are_settings() -> None:
    champion = {"champion": CHAMPION}
    found = parse_config(champion | tomllib.loads(block("open-webui.md", "toml").text)).feedback.open_webui
    assert (found.url, found.key) == ("http://open-webui:8080", "sk-the-key-of-an-administrator")
    config = parse_config(champion | tomllib.loads(block("librechat.md", "toml").text))
    assert config.feedback.token
    titles = yaml.safe_load(block("librechat.md", "yaml").text)["endpoints"]["custom"][0]["titleModel"]
    assert config.capture.task_models == (titles,)
    secret = re.search(r"LANGFUSE_SECRET_KEY=(\S+)", (HOW_TO / "librechat.md").read_text())
    assert secret is not None
    assert secret[1] == config.feedback.token


def test_librechats_headers_name_user_conversation_message_and_the_trace_of_its_scores() -> None:
    [endpoint] = yaml.safe_load(block("librechat.md", "yaml").text)["endpoints"]["custom"]
    values = {"LIBRECHAT_USER_ID": "ada", "LIBRECHAT_BODY_CONVERSATIONID": "chat-1",
              "LIBRECHAT_BODY_MESSAGEID": "0b5e55a6-0000-4000-8000-00000000abcd"}  # fmt: skip
    request = sent(endpoint["headers"], values)
    message = values["LIBRECHAT_BODY_MESSAGEID"]
    trace = sha256(message.encode()).hexdigest()[:32]
    assert AliasReader(CaptureConfig()).of(None, request, {}) == (message, trace)
    assert {"x-user-id"} <= {*StickyConfig().headers} & request.keys()
    assert {"x-conversation-id"} <= {*StickyConfig().conversation_headers} & request.keys()


def test_each_sentence_of_open_webuis_page_is_one_that_ratchet_says() -> None:
    page = (HOW_TO / "open-webui.md").read_text()
    source = Path(api.__file__).read_text() + " ".join(api._BY_STATUS.values())
    source += Path(poller.__file__).read_text() + Path(authorities.__file__).read_text()
    rows = re.findall(r"^\| (?!it says|-)([^|]+) \|", page, re.MULTILINE)
    assert len(rows) == 6
    for row in rows:
        for words in row.split(", "):
            assert words in source, words


def test_the_link_in_a_mail_opens_the_page(tmp_path: Path) -> None:
    side = Side(tmp_path)
    [link] = [one.text.strip() for one in blocks(HOW_TO / "feedback.md") if "feedback?record_id" in one.text]
    query = {name: value for name, [value] in parse_qs(urlsplit(link).query).items()} | {"record_id": side.record_id()}
    app, close = side.app()
    with serving_in_thread(app, close) as url:

        async def opened() -> tuple[int, str]:
            async with aiohttp.ClientSession(url) as client, client.get(urlsplit(link).path, params=query) as answer:
                return answer.status, await answer.text()

        status, page = asyncio.run(opened())
    assert (status, "Was this answer good?" in page) == (200, True)


def test_the_adapter_for_assistant_ui_votes(tmp_path: Path) -> None:
    need("node", shutil.which("node") is not None)
    side = Side(tmp_path)
    app, close = side.app()
    ids = [side.record_id(), side.record_id()]
    with serving_in_thread(app, close) as url:
        adapter = block("feedback.md", "js").text.replace("https://chat.example.com", url)
        calls = "".join(
            f"console.log((await feedback.submit({json.dumps(given)})).status);"
            for given in (
                {"message": {"metadata": {"custom": {"recordId": ids[0]}}}, "type": "positive"},
                {"message": {"metadata": {"custom": {"recordId": ids[1]}}}, "type": "negative", "comment": "No."},
            )
        )
        program = f"{adapter}\n(async () => {{{calls}}})()"
        done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["202", "202"]
    assert [(vote["feedback"], vote.get("comment")) for vote in side.votes()] == [(1, None), (-1, "No.")]


async def test_the_method_for_chatkit_votes(tmp_path: Path) -> None:
    side = Side(tmp_path)
    space: dict[str, Any] = {}
    exec(block("feedback.md", "python", "add_feedback").text, space)
    async with side.running() as client:
        server = SimpleNamespace(records={"item-1": side.record_id()}, http=client, ratchet="")
        for items in (["item-1", "item-2"], ["item-3"]):
            await space["add_feedback"](server, "thread", items, "negative", None)
    assert [vote["feedback"] for vote in side.votes()] == [-1]


def test_the_variables_for_opentelemetry_make_its_exporter_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [text] = [one.text for one in blocks(HOW_TO / "feedback.md") if "OTEL_EXPORTER_OTLP_ENDPOINT" in one.text]
    side = Side(tmp_path, parse_config({"champion": CHAMPION, "feedback": {"token": "the-feedback-token"}}))
    app, close = side.app()
    with serving_in_thread(app, close) as url:
        for line in text.replace("http://ratchet:8080", url).split():
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value)
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
        said = {
            "gen_ai.evaluation.name": "thumb",
            "gen_ai.evaluation.score.label": "up",
            "gen_ai.response.id": "chatcmpl-1",
        }
        provider.get_logger("shop").emit(LogRecord(event_name="gen_ai.evaluation.result", attributes=said))
        provider.shutdown()
    assert [(vote["alias"], vote["feedback"]) for vote in side.votes()] == [("chatcmpl-1", 1)]


def test_the_headers_of_the_table_are_those_that_are_read() -> None:
    page = (HOW_TO / "feedback.md").read_text()
    for header in CaptureConfig().alias_headers:
        assert f"`{header.partition('#')[0]}`" in page, header
    assert SHOWN_ID in page
