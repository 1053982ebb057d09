"""From SQLite to PostgreSQL under load: no request fails, no record is lost, and the loop remembers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.ids import KeyRing, RecordIds
from tests.harness.load import load_on
from tests.harness.postgres import find_binaries, running_postgres
from tests.harness.require import need
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, reply, serve_upstream

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
async def test_a_running_server_moves_to_postgresql(tmp_path: Path) -> None:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as postgres:
        url = postgres.new_database()
        async with serve_upstream() as upstream:

            async def hasty(seen: Seen, line: Line) -> None:
                await asyncio.sleep(0.02)
                await line.send(reply())

            upstream.on("/v1/chat/completions", hasty)
            with RatchetProcess(tmp_path, champion=upstream.url) as ratchet:
                await asyncio.to_thread(ratchet.await_admin)
                async with load_on(ratchet.base_url, clients=2) as load:
                    await load.until(100)
                    await asyncio.to_thread(move, ratchet, url)
                    await load.until(50)
                    assert load.broken == 0
                    await asyncio.to_thread(switch, ratchet, url)
                    await load.until(50)
                assert load.refused == 0
                assert load.broken <= 2, "kept connections that SIGHUP's old worker closed while they were used again"
                ids = RecordIds(KeyRing(ratchet.data_dir / "keys.json"))
                answered = {ids.verify(token) for token in load.answered}
                await asyncio.to_thread(
                    lambda: await_true(lambda: answered <= set(records(url)), "every answer to be there", every_s=0.3)
                )
                assert len(records(url)) == len(set(records(url))) <= load.sent
                history = request(ratchet.admin_url, "/api/history").json()["entries"]
                assert any("installed" in str(entry) for entry in history), "the journal has moved along"


def move(ratchet: RatchetProcess, url: str) -> None:
    """`ratchet store migrate-to`, as a person does it."""
    command = [
        sys.executable,
        "-m",
        "proxy",
        "store",
        "migrate-to",
        url,
        "--config",
        str(ratchet.config_file),
        "--json",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=ratchet.directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] >= 100


def switch(ratchet: RatchetProcess, url: str) -> None:
    """Set store.url and send SIGHUP."""
    settings = {**ratchet.settings, "store": {**ratchet.settings["store"], "url": url}}
    ratchet.config_file.write_text(json.dumps(settings))
    assert ratchet.process is not None
    ratchet.process.send_signal(signal.SIGHUP)


def records(url: str) -> list[str]:
    """Ids of all records."""
    command = ["psql", url, "-X", "-At", "-c", "select id from records"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [line.replace("-", "") for line in done.stdout.split()]
