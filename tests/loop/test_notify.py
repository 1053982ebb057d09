"""What people are told, in the form of each chat: who, what and why; nobody is called, and no key is written down."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typer.testing import CliRunner

from policies.lifecycle import Event
from policies.notices import TITLES, notice_of
from proxy.cli.app import app as command_line
from proxy.config import parse_config, public_document
from proxy.loop.adapters.messages import NotifyTarget, body_for, form_of, targets_of
from proxy.loop.adapters.notify import WebhookNotifier, post

HOSTILE = "m <!channel> @everyone @here <@U1> *b* [x](http://evil.example) `c` <users/all> www.evil.example mailto:a@b"
PROMOTED: dict[str, Any] = {
    "event": "promoted", "at": 1_790_000_000.0, "phase": "watching", "phase_before": "promoting",
    "reason": "model-7 serves everybody: at least 97 % sure that it is better; best estimate +4.2 %.",
    "why": "model-7 has won its test", "who": "ann", "journal_seq": 31, "run_id": "run-7", "experiment_id": 3,
}  # fmt: skip
CHATS = ("slack", "mattermost", "discord", "teams", "google_chat")
CONSOLE = "https://ratchet.example.com/console/"


def message(kind: str, event: dict[str, Any] = PROMOTED, url: str = "https://h.example/x") -> Any:
    return body_for(NotifyTarget(url, kind, CONSOLE), event)


def words(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)


@pytest.mark.parametrize("kind", CHATS)
def test_a_message_says_what_why_by_whom_and_links_to_its_page(kind: str) -> None:
    said = words(message(kind)).replace("\\\\", "")
    for part in (
        "The challenger was promoted",
        "97 %",
        "+4.2 %",
        "model-7 has won its test",
        "By ann",
        f"{CONSOLE}history/31",
    ):
        assert part in said, part
    assert "http" not in words(body_for(NotifyTarget("https://h", kind), PROMOTED)).replace(
        "http://adaptivecards.io", ""
    )


def test_the_forms_are_those_of_their_receivers() -> None:
    slack = message("slack")
    assert slack["text"].startswith("Ratchet: The challenger was promoted")
    assert slack["blocks"][0]["text"]["type"] == "plain_text"
    assert message("mattermost").keys() == {"text", "username"}
    discord = message("discord")
    assert discord["allowed_mentions"] == {"parse": []}
    assert discord["content"]
    teams = message("teams")
    assert teams["type"] == "message"
    [card] = teams["attachments"]
    assert (card["contentType"], card["contentUrl"]) == ("application/vnd.microsoft.card.adaptive", None)
    assert card["content"]["body"][0]["type"] == "TextBlock"
    assert card["content"]["actions"] == [
        {"type": "Action.OpenUrl", "title": "Open in the console", "url": f"{CONSOLE}history/31"}
    ]
    assert message("google_chat").keys() == {"text"}


def test_our_own_form_has_the_events_fields_as_they_are() -> None:
    assert body_for(NotifyTarget("https://h"), PROMOTED) == PROMOTED
    assert message("json") == PROMOTED | {"url": f"{CONSOLE}history/31"}


def test_an_alert_is_alertmanagers() -> None:
    body = message("alertmanager")
    assert (body["version"], body["status"], body["externalURL"]) == ("4", "firing", CONSOLE)
    [alert] = body["alerts"]
    assert alert["labels"] == {
        "alertname": "RatchetEvent",
        "event": "promoted",
        "phase": "watching",
        "severity": "info",
    }
    assert alert["annotations"]["summary"] == "The challenger was promoted"
    assert alert["startsAt"] == "2026-09-21T14:13:20.000Z"
    [posted] = message("alertmanager", PROMOTED | {"event": "watch_halted"}, "http://am:9093/api/v2/alerts")
    assert posted["labels"]["severity"] == "warning"
    assert posted["endsAt"] == "2026-09-21T14:28:20.000Z"


@pytest.mark.parametrize("kind", CHATS)
def test_hostile_words_call_nobody_and_become_no_link(kind: str) -> None:
    body = body_for(NotifyTarget("https://h", kind), PROMOTED | {"reason": HOSTILE, "why": "", "who": "@channel"})
    said = words(body).replace("http://adaptivecards.io", "")
    for call in (
        "@everyone",
        "@here",
        "@channel",
        "<!channel>",
        "<@U1>",
        "<users/all>",
        "://evil",
        "www.evil",
        "mailto:a",
    ):
        shown = said if kind != "slack" else words(body["text"])  # its blocks are plain text
        assert call not in shown, call
    if kind in ("mattermost", "discord", "teams"):
        assert "[x](" not in said
        assert "*b*" not in said.replace(r"\\*", "")


@pytest.mark.parametrize("kind", CHATS)
def test_a_long_reason_is_cut_to_what_the_receiver_takes(kind: str) -> None:
    body = message(kind, PROMOTED | {"reason": "*" * 9000})
    if kind == "discord":
        assert len(body["content"]) <= 2000
        assert body["content"].endswith(f"<{CONSOLE}history/31>")
    assert len(words(body)) < 8000
    if kind == "slack":
        assert len(body["blocks"][0]["text"]["text"]) <= 3000


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://discord.com/api/webhooks/1/x/slack", "slack"),
        ("https://prod-1.westeurope.logic.azure.com:443/workflows/x/triggers", "teams"),
        ("https://default1.2.environment.api.powerplatform.com/powerautomate/x", "teams"),
        ("https://chat.googleapis.com/v1/spaces/A/messages?key=k", "google_chat"),
        ("https://mattermost.example.com/hooks/x", "mattermost"),
        ("http://alerts.example.com:9093/api/v2/alerts", "alertmanager"),
        ("https://example.com/hooks/x", "json"),
        ("https://notdiscord.com/api/webhooks/1/x", "json"),
        ("https://hooks.slack.com.evil.example/x", "json"),
    ],
)
def test_the_address_tells_the_form(url: str, kind: str) -> None:
    assert form_of(url) == kind
    assert targets_of([url])[0].kind == kind
    assert targets_of([url], ["teams"])[0].kind == "teams"
    both = targets_of([url, "https://chat.example.com/hooks/y"], ["auto", "mattermost"])
    assert [target.kind for target in both] == [kind, "mattermost"]


def test_every_event_has_a_title_and_a_command_is_told_from_a_decision() -> None:
    assert {event.value for event in Event} <= TITLES.keys()
    decided = notice_of(PROMOTED | {"who": "ratchet"})
    assert "Decided because model-7 has won its test." in decided.text
    asked = notice_of(PROMOTED | {"why": "maintenance"})
    assert "Asked for: maintenance. By ann." in asked.text
    assert notice_of({"event": "from_the_future"}).title == "From the future"
    assert notice_of({"event": "test", "missed": 3}).text == "Earlier messages that were lost: 3."


# --------------------------------------------------------------------------------------------- sending


class Chat:
    """A receiver: `answers` in order, the last one stays."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.posts: list[Any] = []
        self.url = ""
        self.came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        async with self.came:
            self.posts.append(await request.json())
            self.came.notify_all()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=answer.status, text=answer.text, headers=answer.headers)

    async def got(self, count: int) -> None:
        async with asyncio.timeout(60), self.came:
            await self.came.wait_for(lambda: len(self.posts) >= count)


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    receiver = Chat()
    receiver.answers = [web.Response(text="ok")]
    app = web.Application()
    app.add_routes([web.post("/services/{key}", receiver.take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/s3cr3t"
    yield receiver
    await runner.cleanup()


async def test_who_limits_is_asked_again_when_it_says(chat: Chat) -> None:
    """Our own pause would be ten minutes."""
    chat.answers = [web.Response(status=429, headers={"Retry-After": "0.01"}), web.Response(text="ok")]
    notifier = WebhookNotifier([NotifyTarget(chat.url, "slack")], timeout_s=60.0, retry_s=(600.0,))
    notifier.start()
    notifier.notify(PROMOTED)
    await chat.got(2)
    await notifier.close()
    assert chat.posts[0] == chat.posts[1]


async def test_a_request_that_is_wrong_is_not_repeated_and_no_key_is_logged(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    chat.answers = [web.Response(status=404, text="no_service"), web.Response(text="ok")]
    caplog.set_level(logging.DEBUG)
    notifier = WebhookNotifier([NotifyTarget(chat.url, "slack")], timeout_s=60.0, retry_s=(600.0,))
    notifier.start()
    notifier.notify(PROMOTED)
    notifier.notify({"event": "retired", "reason": "x is stopped"})
    await chat.got(2)
    await notifier.close()
    assert "notification promoted was not delivered to slack at 127.0.0.1: HTTP 404 no_service" in caplog.text
    assert "Earlier messages that were lost: 1." in chat.posts[1]["text"]
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/s3cr3t", "http://[::1/s3cr3t", "http://no-such-host.invalid/s3cr3t"]
)
async def test_no_answer_names_no_key(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await post(session, NotifyTarget(url), PROMOTED)
    assert answer.status is None
    assert answer.said
    assert "s3cr3t" not in str(answer)
    assert "s3cr3t" not in repr(NotifyTarget(url)) if "[" not in url else True


def test_settings_are_shown_without_the_key_in_a_url() -> None:
    urls = ["https://hooks.slack.com/services/T0/B0/s3cr3t", "https://h.example?key=s3cr3t", "https://h.example"]
    shown = public_document(parse_config({"notify": {"urls": urls}}))["notify"]["urls"]
    assert shown == ["https://hooks.slack.com/***", "https://h.example/***", "https://h.example"]


# ------------------------------------------------------------------------------------------ ratchet notify


async def run(folder: Path, *arguments: str, **settings: Any) -> tuple[int, str]:
    file = folder / "ratchet.json"
    file.write_text(json.dumps({"notify": settings, "server": {"data_dir": str(folder)}}))
    called = ["notify", "--config", str(file), *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, command_line, called)
    return result.exit_code, result.output


async def test_a_test_message_shows_what_each_receiver_says(chat: Chat, tmp_path: Path) -> None:
    code, said = await run(tmp_path, "--test", urls=[chat.url], kinds=["discord"])
    assert (code, said) == (0, "discord at 127.0.0.1: taken (HTTP 200 ok)\n")
    assert chat.posts[0]["content"].startswith("**This is a test message:** ratchet notify")
    chat.answers = [web.Response(status=400, text="no_text")]
    code, said = await run(tmp_path, "--test", "--json", urls=[chat.url, "http://127.0.0.1:9/s3cr3t"])
    assert code == 1
    assert json.loads(said) == [
        {"receiver": "json at 127.0.0.1", "kind": "json", "taken": False, "status": 400, "answer": "no_text"},
        {
            "receiver": "json at 127.0.0.1",
            "kind": "json",
            "taken": False,
            "status": None,
            "answer": "connection refused",
        },
    ]
    sent = len(chat.posts)
    assert await run(tmp_path, urls=[chat.url], kinds=["slack"]) == (0, "slack at 127.0.0.1\n")
    assert len(chat.posts) == sent, "only --test sends"
    code, said = await run(tmp_path, "--test", urls=[])
    assert code == 3
    assert "notify.urls is empty" in said
