"""The console of a running server: its first look leads to a request, and a vote on that survives the controller."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.harness.model_server import create_model_server
from tests.harness.require import need
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow


def shown(ratchet: RatchetProcess, path: str = "/") -> str:
    return request(ratchet.admin_url, path).body.decode()


def voted(ratchet: RatchetProcess, record: str, act: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "x-ratchet-csrf": "1"}
    body = urlencode({"act": act, "who": "ann"}).encode()
    path = f"/records/{record}/votes"
    assert request(ratchet.admin_url, path, method="POST", body=body, headers=headers).status == 200


def feedback(ratchet: RatchetProcess, record: str) -> float | None:
    found: float | None = request(ratchet.admin_url, f"/api/records/{record}").json()["feedback"]
    return found


def test_from_the_first_look_to_a_vote_that_counts(tmp_path: Path) -> None:
    need("curl", shutil.which("curl") is not None)
    settings = {"champion": {"model": "small"}}
    environ = {"RATCHET_FEEDBACK__MAX_BATCH": "77"}
    with (
        serving_in_thread(create_model_server()) as url,
        RatchetProcess(tmp_path / "r", champion=url, settings=settings, environ=environ) as ratchet,
    ):
        ratchet.await_admin()
        page = shown(ratchet)
        assert "Waiting for the first request" in page
        command = html.unescape(re.search(r'<pre id="first-curl"[^>]*>(.*?)</pre>', page, re.DOTALL)[1])  # type: ignore[index]
        assert f"{ratchet.base_url}/v1/chat/completions" in command
        subprocess.run(["bash", "-c", f"{command} --fail"], check=True, capture_output=True)
        await_true(lambda: "The first request has come" in shown(ratchet), "the first request on the page")
        record = re.search(r'href="/records/([0-9a-f]{32})"', shown(ratchet))[1]  # type: ignore[index]

        voted(ratchet, record, "up")
        await_true(lambda: feedback(ratchet, record) == 1, "the vote to count")
        voted(ratchet, record, "down")
        earlier = ratchet.kill("controller")  # at once: what was kept is in the spool
        ratchet.await_new("controller", earlier)
        ratchet.await_admin()
        await_true(lambda: feedback(ratchet, record) == -1, "the vote of the killed controller to count")
        voted(ratchet, record, "undo")
        await_true(lambda: feedback(ratchet, record) == 1, "what was said before")

        page = shown(ratchet, "/settings")
        assert "RATCHET_FEEDBACK__MAX_BATCH" in page
        assert str(ratchet.config_file) in page
        voted(ratchet, record, "down")
        ratchet.stop()
        ratchet.start()
        ratchet.await_admin()
        assert feedback(ratchet, record) == -1, "stored at the end of the controller"
