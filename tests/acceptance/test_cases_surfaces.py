"""What operators and what we start get to see of one running `ratchet serve`, secrets in its environment and all.

One process for all: it is asked with secrets in the query, trains and deploys, is guessed at and sent far too much.
Then its files are looked at.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

ADMIN: Final = "admin-token-0123456789abcdef"
FEEDBACK: Final = "feedback-token-0123456789abcdef"
KEY: Final = "key-of-the-champion-0123456789"
SECRETS: Final = {
    "RATCHET_ADMIN__TOKEN": ADMIN,
    "RATCHET_FEEDBACK__TOKEN": FEEDBACK,
    "RATCHET_CHAMPION__API_KEY": KEY,
}
BEARER: Final = {"authorization": f"Bearer {ADMIN}"}
PLANTED: Final = "PLANTED777"
TARGETS: Final = (
    *(f"/v1/models?a=1&{name}={PLANTED}" for name in (
        "subscription-key", "code", "X-Amz-Signature", "client_secret", "auth", "session", "%6bey", "private_token",
        "X-Amz-Security-Token", "refresh_token", "jwt", "api%5fkey", "credential", "key", "access_token", "PASSWD",
        "sv=1&sas", "k%2565y", "api.key", "auth[token]",
    )),
    f"/v1/models;jsessionid={PLANTED}?a=1",
    f"/v1/models?a=1;sig={PLANTED}",
    f"/v1/models?to=https%3A%2F%2Fx.example%2F%3Ftoken%3D{PLANTED}",
    f"/v1/models?o=%7B%22secret%22%3A%22{PLANTED}%22%7D",
)  # fmt: skip
TRAINING: Final = """
import json, os, pathlib

def train_model(data_path):
    here = pathlib.Path(__file__).parent
    (here / "trainer-environ.json").write_text(json.dumps(dict(os.environ)))
    (pathlib.Path(data_path).parent / "weights").write_text("1")
    return {"model_path": str(pathlib.Path(data_path).parent / "weights"), "loss": 0.5}
"""
SERVER: Final = """
import http.server, json, os, pathlib, sys

(pathlib.Path(__file__).parent / "server-environ.json").write_text(json.dumps(dict(os.environ)))

class Model(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_GET

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Model).serve_forever()
"""


async def answer(request: Request) -> Response:
    await request.body()
    words = f"The answer to {request.headers.get('x-user-id')} is to ask again tomorrow, when the office is open."
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
    return JSONResponse({"id": "chatcmpl-12345678", "object": "chat.completion", "model": "m", "choices": [choice]})


@pytest.fixture(scope="module")
def ratchet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RatchetProcess]:
    """It has been asked, voted on and told to train, and has begun a test with what came of it."""
    folder = tmp_path_factory.mktemp("surfaces")
    (folder / "teaching.py").write_text(TRAINING)
    (folder / "model_server.py").write_text(SERVER)
    settings = {
        "generator_config": {"holdout_share": 0.0},
        "trigger_config": {"min_new_samples": 10_000, "min_usable_samples": 1},
        "trainer": {"kind": "callable", "callable": "teaching:train_model", "poll_seconds": 0.1},
        "deployer": {"kind": "command", "command": [sys.executable, str(folder / "model_server.py"), "{port}"],
                     "options": {"stop_grace_seconds": "1"}},
    }  # fmt: skip
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    with (
        serving_in_thread(app) as url,
        RatchetProcess(folder, champion=url, settings=settings, environ=SECRETS) as process,
    ):
        process.await_admin()
        _ask_and_vote(process)
        order = {"verb": "trigger", "why": "to see what it sees"}
        assert request(process.admin_url, "/api/commands", method="POST", body=order, headers=BEARER).status == 202
        await_true((folder / "server-environ.json").exists, "the model server")
        yield process
        process.stop()
        stop = [sys.executable, "-m", "proxy", "models", "stop", "--config", str(process.config_file)]
        subprocess.run(stop, check=True, capture_output=True, env=os.environ | SECRETS)


def _ask_and_vote(process: RatchetProcess) -> None:
    last = ""
    for number in range(6):
        body = {"model": "m", "messages": [{"role": "user", "content": f"What shall number {number} do today?"}]}
        headers = {"x-user-id": f"user-{number}"}
        got = request(process.base_url, "/v1/chat/completions", method="POST", body=body, headers=headers)
        last = got.headers["x-ratchet-record-id"]
        vote = {"record_id": last, "feedback": 1, "source": f"user-{number}"}
        assert request(process.base_url, "/-/feedback", method="POST", body=vote).status == 202
    for target in TARGETS:
        last = request(process.base_url, target).headers["x-ratchet-record-id"]
    await_true(
        lambda: request(process.admin_url, f"/api/records/{last}", headers=BEARER).status == 200, "the last record"
    )


@pytest.mark.parametrize("who", ["trainer", "server"])
def test_what_we_start_knows_none_of_our_secrets(who: str, ratchet: RatchetProcess) -> None:
    environ = json.loads((ratchet.directory / f"{who}-environ.json").read_text())
    assert not SECRETS.keys() & environ.keys()
    assert not any(secret in value for value in environ.values() for secret in SECRETS.values())
    assert {name for name in environ if name.startswith("RATCHET_")} <= {"RATCHET_PROCESS_TOKEN"}
    assert environ["PATH"]
    for pid in (ratchet.controller_pid, *ratchet.worker_pids):
        inherited = Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(secret.encode() in inherited for secret in SECRETS.values())


def test_no_secret_of_a_query_is_written_down(ratchet: RatchetProcess) -> None:
    page = request(ratchet.admin_url, "/api/records?limit=500", headers=BEARER).json()["records"]
    assert len(page) >= len(TARGETS)
    for file in (path for path in ratchet.data_dir.rglob("*") if path.is_file()):
        assert PLANTED.encode() not in file.read_bytes(), file
    assert PLANTED not in ratchet.log


def test_everything_is_for_this_user_alone(ratchet: RatchetProcess) -> None:
    places = [ratchet.data_dir, *ratchet.data_dir.rglob("*")]
    assert any(place.name == "manifest.json" for place in places)
    assert any(place.name == "ratchet.db-wal" for place in places)
    loose = {str(place): oct(place.lstat().st_mode) for place in places if stat.S_IMODE(place.lstat().st_mode) & 0o077}
    assert loose == {}


def test_a_folder_that_others_may_enter_is_said(ratchet: RatchetProcess) -> None:
    ratchet.data_dir.chmod(0o755)
    try:
        notes = request(ratchet.admin_url, "/status", headers=BEARER).json()["notes"]
        assert any(f"chmod 700 {ratchet.data_dir}" in note for note in notes), notes
    finally:
        ratchet.data_dir.chmod(0o700)
    notes = request(ratchet.admin_url, "/status", headers=BEARER).json()["notes"]
    assert not any("chmod" in note for note in notes), notes


@pytest.mark.parametrize("framing", ["length", "chunks", "head"])
def test_a_body_without_a_token_costs_no_memory(framing: str, ratchet: RatchetProcess) -> None:
    before = _resident(ratchet.controller_pid)
    status = _post(ratchet.admin_url, framing, 60)
    assert status in (413, 431, None)
    assert _resident(ratchet.controller_pid) - before < 32 << 20
    assert request(ratchet.admin_url, "/status", headers=BEARER).status == 200


def _post(url: str, framing: str, mebibytes: int) -> int | None:
    """POST to /api/session; the status, or None where the connection was closed in the middle."""
    host, _, port = url.removeprefix("http://").partition(":")
    piece = b"a" * (1 << 20)
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nx-ratchet-csrf: 1\r\nContent-Type: application/json\r\n"
    framed = {"length": b"Content-Length: %d\r\n\r\n" % (mebibytes << 20), "head": b"x: "}
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        try:
            connection.sendall(head + framed.get(framing, b"Transfer-Encoding: chunked\r\n\r\n"))
            for _ in range(mebibytes):
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunks" else piece)
            connection.sendall(b"0\r\n\r\n" if framing == "chunks" else b"")
            return int(connection.recv(4096).split(b" ")[1])
        except (OSError, IndexError):
            return None


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def test_guessing_is_slowed_down_counted_and_logged(ratchet: RatchetProcess) -> None:
    statuses = []
    for number in range(150):
        wrong = {"token": f"guess-{number}"}
        answer = request(ratchet.admin_url, "/api/session", method="POST", body=wrong, headers={"x-ratchet-csrf": "1"})
        statuses.append(answer.status)
    assert set(statuses) == {401, 429}
    assert statuses.count(401) < 100
    assert request(ratchet.admin_url, "/status", headers=BEARER).status == 200
    assert ratchet.metric("ratchet_admin_tokens_refused_total", reason="too_many") == statuses.count(429)
    assert "a wrong token from 127.0.0.1" in ratchet.log
    assert "guess-" not in ratchet.log


def test_health_tells_others_no_more_than_they_need(ratchet: RatchetProcess) -> None:
    def said(headers: dict[str, str]) -> Any:
        return request(ratchet.base_url, "/-/health?verbose", headers=headers).json()

    assert "pid" in said({})
    for header in ("x-forwarded-for", "forwarded", "via"):  # a proxy on this machine speaks for somebody else
        assert said({header: "127.0.0.1", "x-ratchet-for-another": "0"}) == {"status": "ok"}
    assert "pid" in said({"x-forwarded-for": "203.0.113.9", **BEARER})
    assert said({"x-forwarded-for": "203.0.113.9", "authorization": "Bearer wrong"}) == {"status": "ok"}


def test_every_answer_of_ours_says_nosniff(ratchet: RatchetProcess) -> None:
    ours = [(ratchet.admin_url, "/status"), (ratchet.admin_url, "/nothing"), (ratchet.base_url, "/-/health"),
            (ratchet.base_url, "/-/nothing"), (ratchet.base_url, "/-/feedback")]  # fmt: skip
    for (url, path), headers in itertools.product(ours, ({}, BEARER)):
        assert request(url, path, headers=headers).headers["x-content-type-options"] == "nosniff", path
    refused = request(ratchet.base_url, "/x", headers={"transfer-encoding": "gzip"})
    assert (refused.status, refused.headers["x-content-type-options"]) == (400, "nosniff")
