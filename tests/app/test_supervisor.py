"""`ratchet serve` as a group of processes: what it refuses to start with, how it reloads, how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, serve_upstream

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def ratchet(tmp_path: Path) -> Iterator[RatchetProcess]:
    made = RatchetProcess(tmp_path, champion=NOWHERE)
    yield made
    made.stop(expect=None)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RatchetProcess]:
    """One that has started well, for tests that leave it so."""
    with RatchetProcess(tmp_path_factory.mktemp("running"), champion=NOWHERE) as made:
        made.await_admin()
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


def ends_with(ratchet: RatchetProcess, status: int) -> str:
    """Start something that cannot start; returns its log."""
    with pytest.raises(AssertionError, match=f"ended with status {status}"):
        ratchet.start()
    return ratchet.wait(expect=status)


def test_a_second_server_in_the_same_directory_is_refused(running: RatchetProcess, tmp_path: Path) -> None:
    assert running.process is not None
    pid = running.process.pid
    second = RatchetProcess(tmp_path / "second", champion=NOWHERE)
    second.settings["server"]["data_dir"] = str(running.data_dir)
    assert f"used by another `ratchet serve` (process {pid})" in ends_with(second, 1)
    assert request(running.base_url, "/-/health").status == 200


def test_a_port_in_use_is_named(ratchet: RatchetProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ratchet.settings["server"]["port"] = taken.getsockname()[1]
        began = time.monotonic()
        log = ends_with(ratchet, 1)
    assert f"port {ratchet.settings['server']['port']} (server.host, server.port)" in log
    assert time.monotonic() - began > 2.0, "a manager that starts it again at once must not reach five starts in 10 s"


def test_a_damaged_key_ring_is_one_sentence_with_its_remedy(ratchet: RatchetProcess) -> None:
    ratchet.data_dir.mkdir(parents=True)
    (ratchet.data_dir / "keys.json").write_text("")
    log = ends_with(ratchet, 3)
    assert "not a key ring" in log
    assert "Restore it from a backup" in log
    assert "Traceback" not in log
    assert log.count(" ERROR ") == 1


def test_settings_that_cannot_work_end_it_with_a_reason(ratchet: RatchetProcess) -> None:
    ratchet.settings["capture"] = {"redaction": {"callable": "no_such_package:function"}}
    log = ends_with(ratchet, 3)
    assert "no_such_package" in log
    assert "worker-0 cannot run with these settings: shutting down" in log


def test_the_pid_files_and_addresses_are_true(running: RatchetProcess) -> None:
    assert running.process is not None
    assert running.pid("supervisor") == running.process.pid
    for pid in (*running.worker_pids, running.controller_pid):
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == running.process.pid
    addresses = json.loads((running.data_dir / "run" / "addresses.json").read_text())
    assert addresses == {"public": running.base_url, "admin": running.admin_url, "pid": running.process.pid}


def test_the_first_answer_does_not_wait_for_the_store_and_the_addresses_go_with_the_server(
    tmp_path: Path, ratchet: RatchetProcess
) -> None:
    blocked = tmp_path / "not-a-directory"
    blocked.write_text("")
    ratchet.settings["store"]["url"] = f"sqlite:///{blocked}/r.db"
    ratchet.start()
    await_true(lambda: _degraded(ratchet), "the admin port to say that the store is away")
    assert ratchet.metric("ratchet_store_up") == 0
    status = request(ratchet.admin_url, "/status").json()
    assert (status["phase"]["name"], status["leader"]) == ("starting", False)
    assert request(ratchet.base_url, "/-/health").status == 200
    addresses = ratchet.data_dir / "run" / "addresses.json"
    assert addresses.exists()
    ratchet.stop()
    assert not addresses.exists()


def test_a_vote_in_the_first_moment_waits_for_its_turn_and_a_run_folder_that_is_removed_is_made_again(
    ratchet: RatchetProcess,
) -> None:
    ratchet.start(ready=False)

    def vote() -> int:
        answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body={"messages": []})
        body = {"record_id": answer.headers["x-ratchet-record-id"], "feedback": 1}
        return request(ratchet.base_url, "/-/feedback", method="POST", body=body).status

    assert vote() == 202
    ratchet.await_admin()
    counted = ratchet.metric("ratchet_gateway_requests_total")
    shutil.rmtree(ratchet.data_dir / "run")
    await_true(lambda: ratchet.metric("ratchet_gateway_requests_total") >= counted, "the counts to be seen")
    await_true((ratchet.data_dir / "run/worker-0.sock").exists, "the socket")
    await_true(lambda: vote() == 202, "votes to be taken")
    await_true(
        lambda: request(ratchet.admin_url, "/status").json()["champion"].get("healthy") is False,
        "the champion's health",
    )
    log = ratchet.stop()
    assert "worker-0.stats was removed while the process was running" in log
    assert "worker-0.sock was removed while the worker was running" in log


def _degraded(ratchet: RatchetProcess) -> dict[str, str] | None:
    answer = request(ratchet.admin_url, "/health")
    facts: dict[str, str] = answer.json()
    return facts if answer.status == 503 and "the store can" in facts["reason"] else None


async def test_sighup_takes_new_settings_over_and_a_second_sigterm_cuts_the_draining_short(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Over without a refused connection; short in what the reload has started."""

    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()

    upstream.on("/hang", hang)
    ratchet = RatchetProcess(tmp_path, champion=NOWHERE, settings={"server": {"drain_seconds": 3600}})
    await asyncio.to_thread(ratchet.start)
    try:
        worker, controller = ratchet.pid("worker-0"), ratchet.controller_pid
        assert (await asyncio.to_thread(request, ratchet.base_url, "/x")).status == 502
        ratchet.settings["champion"]["url"] = upstream.url
        ratchet.config_file.write_text(json.dumps(ratchet.settings))
        os.kill(ratchet.pid("supervisor"), signal.SIGHUP)
        await asyncio.to_thread(ratchet.await_new, "worker-0", worker)
        await asyncio.to_thread(ratchet.await_new, "controller", controller)
        await asyncio.to_thread(
            await_true, lambda: request(ratchet.base_url, "/x").status == 200, "the new champion's answer"
        )
        upstream.arrived.clear()
        open_request = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/hang"))
        await upstream.arrived.wait()
        ratchet.terminate()
        await asyncio.to_thread(await_true, lambda: "draining: open" in ratchet.log, "the drain")
        await asyncio.to_thread(await_true, lambda: _is_killed_when_asked_again(ratchet), "the second signal's effect")
        log = await asyncio.to_thread(ratchet.wait, expect=1)
        assert "worker-0 had not ended at the second signal: killing it" in log
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            await open_request
    finally:
        await asyncio.to_thread(ratchet.stop, expect=None)


def _is_killed_when_asked_again(ratchet: RatchetProcess) -> bool:
    """One more signal: what comes within the first second is still the same wish."""
    if "at the second signal" in ratchet.log:
        return True
    assert ratchet.process is not None
    ratchet.process.send_signal(signal.SIGTERM)
    return False


def changed(ratchet: RatchetProcess, table: str, **settings: str) -> str:
    """The settings file with these in a table."""
    return json.dumps(ratchet.settings | {table: ratchet.settings[table] | settings})


def test_sighup_with_a_broken_file_changes_nothing(running: RatchetProcess) -> None:
    ratchet = running
    worker = ratchet.pid("worker-0")
    for content, told in (
        ('{"champion": {"urll": "http://x"}}', "the old one stays in use"),
        (json.dumps(ratchet.settings | {"admin": {"port": 1}}), "these settings need a restart: admin.port"),
        (
            changed(ratchet, "champion", ca_file="/none.pem"),
            "the old one stays in use: champion.ca_file: /none.pem cannot be used",
        ),
        (
            changed(ratchet, "server", tls_cert_file="/none.pem", tls_key_file="/none.key"),
            "in use: server.tls_cert_file: /none",
        ),
        (changed(ratchet, "champion", ca_file="~nobody-here/ca.pem"), "is in the home of a user who is not known"),
        (changed(ratchet, "server", tls_cert_file="a\0b", tls_key_file="a\0b"), "has a NUL character in it"),
        (json.dumps(ratchet.settings | {"check_interval_seconds": 10**400}), "is not a number"),
        ('{"champion": ' + "[" * 100_000, "stand in each other too deeply"),
    ):
        ratchet.config_file.write_text(content)
        os.kill(ratchet.pid("supervisor"), signal.SIGHUP)
        await_true(lambda told=told: told in ratchet.log, told)
    assert ratchet.pid("worker-0") == worker
    assert request(ratchet.base_url, "/-/health").status == 200
