"""Thumbs that are given elsewhere, on a running server: in Open WebUI, LibreChat, behind a link, by OpenTelemetry."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.harness.model_server import create_model_server
from tests.harness.open_webui import KEY, OpenWebUIServer
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

TOKEN = "the back end's own feedback token"
ADA, CHAT = "7d1f0c3e-0000-4000-8000-0000000000a1", "c0ffee00-0000-4000-8000-0000000000c1"
MESSAGE, LATER = "5e55a6e0-0000-4000-8000-0000000000d1", "5e55a6e0-0000-4000-8000-0000000000d2"
SHARED = "5e55a6e0-0000-4000-8000-0000000000d3"
LIBRECHAT = "0b5e55a6-0000-4000-8000-00000000abcd"
TITLE = (
    '### Task:\nName this chat.\n### Output:\nJSON format: { "title": "…" }\n<chat_history>\nUSER: hi\n</chat_history>'
)


@dataclass
class Scene:
    """A server before a model, and an Open WebUI that it knows."""

    ratchet: RatchetProcess
    ui: OpenWebUIServer

    def chat(self, headers: Mapping[str, str], text: str = "Capital of Switzerland?", *, stream: bool = True) -> str:
        """Ask something; the id of its record."""
        body = {"model": "small", "stream": stream, "messages": [{"role": "user", "content": text}]}
        answer = request(self.ratchet.base_url, "/v1/chat/completions", method="POST", body=body, headers=headers)
        assert answer.status == 200
        return answer.headers["x-ratchet-record-id"]

    def record(self, record_id: str) -> dict[str, Any]:
        """As the admin port shows it, once it is stored."""
        path = f"/api/records/{record_id}"
        found: Answer = await_true(
            lambda: answer if (answer := request(self.ratchet.admin_url, path)).status == 200 else None, "a record"
        )
        document: dict[str, Any] = found.json()
        return document

    def await_votes(self, record_id: str, *expected: tuple[int | None, str]) -> dict[str, Any]:
        """The record, once so many votes that count, with their sources, are what it has."""
        seen: list[Any] = []

        def there() -> dict[str, Any] | None:
            document = self.record(record_id)
            seen[:] = [(vote["feedback"], vote["source"]) for vote in document["votes"] if vote["counts"]]
            return document if sorted(seen) == sorted(expected) else None

        try:
            found: dict[str, Any] = await_true(there, f"votes {expected}", every_s=0.2)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; there were {seen}\n{self.ratchet.log}") from None
        return found

    def ring(self) -> None:
        event = {"event": "feedback.created", "subject": {"type": "feedback", "id": "f1"}, "data": {"rating": 1}}
        assert request(self.ratchet.base_url, "/-/openwebui", method="POST", body=event).status == 200

    def sentence(self) -> str:
        troubles: dict[str, Any] = request(self.ratchet.admin_url, "/health").json().get("troubles", {})
        return str(troubles.get("open_webui", {}).get("sentence", ""))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    ui = OpenWebUIServer()
    with serving_in_thread(create_model_server()) as model, serving_in_thread(ui.app()) as url:
        # within an hour it looks once by itself, at the start: whatever comes later, comes of the bell
        link = {"url": url, "key": KEY, "poll_seconds": 3600}
        settings = {"feedback": {"token": TOKEN, "open_webui": link}}
        with RatchetProcess(tmp_path / "r", champion=model, settings=settings) as ratchet:
            ratchet.await_admin()
            yield Scene(ratchet, ui)


def of_open_webui(message: str, *, task: str = "", user: str = ADA) -> dict[str, str]:
    """What its connection adds, by the template of the documentation."""
    return {"x-openwebui-user-id": user, "x-openwebui-chat-id": CHAT, "x-openwebui-message-id": message,
            "x-openwebui-task": task}  # fmt: skip


def test_thumbs_of_open_webui_come_change_go_and_survive_a_kill(scene: Scene) -> None:
    now_s = int(time.time())
    first = scene.chat(of_open_webui(MESSAGE))
    title = scene.chat(of_open_webui(MESSAGE, task="title_generation"), TITLE, stream=False)
    later = scene.chat(of_open_webui(LATER))
    of_two = [scene.chat(of_open_webui(SHARED, user=user)) for user in (ADA, "somebody else")]
    document = scene.record(first)
    assert (document["key_source"], document["kind"]) == ("header", "chat")
    assert document["user"] == scene.record(later)["user"] != scene.record(of_two[1])["user"]
    assert document["conversation"] is not None
    assert scene.record(title)["kind"] == "task"

    why = {"reason": "not_factually_correct", "comment": "It is Bern."}
    scene.ui.give("f1", now_s, -1, message=MESSAGE, user=ADA, **why)
    scene.ui.give("f3", now_s, 1, message=SHARED, user=ADA)
    scene.ring()
    voted = scene.await_votes(first, (-1, ADA))
    assert [vote["comment"] for vote in voted["votes"]] == ["not_factually_correct: It is Bern."]
    assert scene.record(title)["votes"] == []
    assert all(scene.record(one)["votes"] == [] for one in of_two), "the name of several people's answers is nobody's"

    scene.ui.give("f1", now_s + 1, "1", message=MESSAGE, user=ADA)
    scene.ring()
    scene.await_votes(first, (1, ADA))

    controller = scene.ratchet.kill("controller")
    scene.ui.give("f2", now_s + 2, 1, message=LATER, user=ADA)
    scene.ratchet.await_new("controller", controller)
    scene.ratchet.await_admin()
    scene.await_votes(later, (1, ADA))
    assert len(scene.record(first)["votes"]) == 2, "what was fetched before is not counted again"

    del scene.ui.votes["f1"]
    scene.ring()
    scene.await_votes(first)
    scene.await_votes(later, (1, ADA))

    scene.ui.trouble = "keys are off"
    scene.ring()
    said = await_true(scene.sentence, "the trouble")
    assert "ENABLE_API_KEYS=true" in said
    assert KEY not in scene.ratchet.log
    scene.ui.trouble = ""
    scene.ring()
    await_true(lambda: not scene.sentence(), "the end of the trouble")
    scene.await_votes(later, (1, ADA))


def test_thumbs_by_librechats_trace_a_link_and_opentelemetry(scene: Scene) -> None:
    headers = {"x-user-id": "66f0aa", "x-conversation-id": CHAT, "x-message-id": LIBRECHAT}
    answer = scene.chat(headers)
    title = scene.chat(headers, "Invented title prompt.\n\nUser: Capital of Switzerland?\nAI: Bern.", stream=False)
    linked = scene.chat({"x-user-id": "bob"})
    traced = scene.chat({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-user-id": "cas"})
    assert scene.record(title)["conversation"] == scene.record(answer)["conversation"]
    scene.record(traced)

    url = scene.ratchet.base_url
    trace = sha256(LIBRECHAT.encode()).hexdigest()[:32]
    basic = {"authorization": f"Basic {b64encode(f'pk-librechat:{TOKEN}'.encode()).decode()}"}
    score = {"id": f"feedback-{trace}", "traceId": trace, "name": "user-feedback", "dataType": "BOOLEAN",
             "metadata": {"messageId": LIBRECHAT, "userId": "66f0aa"}}  # fmt: skip
    scores = "/-/langfuse/api/public/scores"
    for value, thumb in ((1, 1), (0, -1)):
        assert request(url, scores, method="POST", body=score | {"value": value}, headers=basic).status == 200
        scene.await_votes(answer, (thumb, "66f0aa"))
    assert scene.record(title)["votes"] == [], "a title is not streamed"
    assert request(url, f"{scores}/feedback-{trace}", method="DELETE", headers=basic).status < 300
    scene.await_votes(answer)

    query = urlencode({"record_id": linked, "feedback": "-1"})
    page = request(url, f"/-/feedback?{query}")
    assert (page.status, b"<button>" in page.body) == (200, True)
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert request(url, "/-/feedback/page", method="POST", body=query.encode(), headers=form).status == 200
    scene.await_votes(linked, (-1, "anonymous"))

    pairs = {"gen_ai.evaluation.name": "user_feedback", "gen_ai.evaluation.score.label": "up", "user.id": "cas"}
    attributes = [{"key": name, "value": {"stringValue": value}} for name, value in pairs.items()]
    event = {"eventName": "gen_ai.evaluation.result", "attributes": attributes,
             "traceId": "0af7651916cd43dd8448eb211c80319c"}  # fmt: skip
    export = {"resourceLogs": [{"scopeLogs": [{"logRecords": [event]}]}]}
    sent = request(url, "/-/otlp/v1/logs", method="POST", body=json.dumps(export).encode(),
                   headers={"content-type": "application/json", "x-api-key": TOKEN})  # fmt: skip
    assert (sent.status, sent.json()) == (200, {})
    scene.await_votes(traced, (1, "cas"))
