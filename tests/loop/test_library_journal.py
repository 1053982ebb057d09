"""What the library has logged survives the process that logged it, and costs next to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import UsageLogger
from proxy.cli.app import app
from proxy.clock import ManualClock
from proxy.errors import TemporaryError
from proxy.ids import KeyRing, RecordIds
from proxy.loop.library.journal import TOO_MANY, LoggedCall, UsageJournal
from proxy.loop.library.usage_questions import record_vote
from proxy.loop.library.usage_store import UsageStore, close_usage_store, open_usage_store
from tests.harness.tables import sqlite_with_tables

KILLED = """
import os, signal, sys
from proxy import UsageLogger
usage = UsageLogger(sys.argv[1])
usage.background.run(lambda usage: usage.one_commit.acquire())  # nothing is stored from now on
print(*(usage.log(f"q {n}", "r", "m", user="ann", tags={"plan": "free"}) for n in range(3)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    sqlite_with_tables(tmp_path / "usage.db")
    return tmp_path / "usage.db"


def stored(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM records").fetchone()[0])


def test_calls_of_a_killed_process_are_stored_by_the_next(path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    ids = process.stdout.split()
    assert len(ids) == 3
    assert stored(path) == 0
    (file,) = (path.parent / "usage.db-log").glob("*.jsonl")
    assert file.stat().st_mode & 0o077 == 0
    assert b"ann" not in file.read_bytes(), "of a user only the keyed hash is written"
    with file.open("ab") as torn:
        torn.write(b'["0193')  # of a line that it did not finish
    with UsageLogger(path) as usage:
        assert {record["record_id"] for record in usage.get_records()} == set(ids)
        assert usage.record_feedback(ids[0], 1)
    assert not file.exists()
    with UsageLogger(path) as usage:
        assert usage.get_statistics()["total"] == 3, "once"


def test_commands_see_what_a_killed_process_had_logged(tmp_path: Path) -> None:
    """Whoever deletes a user means that, too."""
    sqlite_with_tables(tmp_path / "ratchet.db")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "ratchet.db")], capture_output=True, check=False)
    here = ["--data-dir", str(tmp_path), "--json"]
    listed = CliRunner().invoke(app, ["records", "list", *here])
    assert len(json.loads(listed.stdout)) == 3, listed.output
    deleted = CliRunner().invoke(app, ["records", "delete", "--user", "ann", "--yes", *here])
    assert json.loads(deleted.stdout)["records"] == 3
    assert list((tmp_path / "ratchet.db-log").iterdir()) == []


def test_a_vote_right_behind_its_call_finds_it(path: Path) -> None:
    with UsageLogger(path) as usage:
        assert all(usage.record_feedback(usage.log(f"q {n}", "r", "m"), 1) for n in range(5))
        assert usage.get_statistics()["positive"] == 5


def test_closing_stores_what_waits(path: Path) -> None:
    with UsageLogger(path) as usage:
        for number in range(700):
            usage.log(f"q {number}", "r", "m")
    assert stored(path) == 700
    assert list((path.parent / "usage.db-log").iterdir()) == []


def test_a_program_that_closes_nothing_loses_nothing(path: Path) -> None:
    code = "import sys; from proxy import UsageLogger; UsageLogger(sys.argv[1]).log('q', 'r', 'm')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with UsageLogger(path) as usage:
        assert usage.get_statistics()["total"] == 1


@pytest.mark.parametrize(
    "refused",
    [
        LoggedCall("", None, None, 1.0, None, "nameless", "r", {}),  # type: ignore[arg-type]
        LoggedCall("", None, "m", 1e17, None, "longer than a column", "r", {}),
        LoggedCall("", None, "m", 1e307, None, "longer than a number", "r", {}),
    ],
    ids=lambda call: call.query,
)
def test_one_call_that_the_store_refuses_keeps_no_other_out(
    path: Path, caplog: pytest.LogCaptureFixture, refused: LoggedCall
) -> None:
    with UsageLogger(path) as usage:
        usage.log("before", "r", "m")
        usage.background.opened()[1].journal.add(1.7e9, refused)  # past the checks of `log`
        usage.log("after", "r", "m")
        assert {record["query"] for record in usage.get_records()} == {"before", "after"}
    assert "one logged call is left out" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"query": 5}, "query: is of type int"),
        ({"response": {"a": 1}}, "response: is of type dict"),
        ({"model": None}, "model: is of type NoneType"),
        ({"query": "torn \ud83d"}, "not text that can be stored"),
        ({"latency_ms": 1e17}, "latency_ms: 1e+17 is not a number of milliseconds from 0 to 1e+12"),
        ({"latency_ms": 10**400}, "is not a number of milliseconds"),
    ],
)
def test_what_cannot_be_stored_is_refused_when_it_is_logged(path: Path, given: dict[str, Any], said: str) -> None:
    with UsageLogger(path) as usage:
        with pytest.raises((TypeError, ValueError), match=re.escape(said)):
            usage.log(**({"query": "q", "response": "r", "model": "m"} | given))
        assert usage.get_statistics()["total"] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"feedback_text": "torn \ud83d"}, "feedback_text: not text that can be stored"),
        ({"correction": "torn \ud83d"}, "correction: not text that can be stored"),
        ({"source": "\ud83d"}, "source: not text that can be stored"),
        ({"source": None}, "source: is of type NoneType"),
        ({"feedback_text": b"bytes"}, "feedback_text: is of type bytes"),
    ],
)
def test_a_vote_that_cannot_be_stored_is_refused_before_others_share_its_transaction(
    path: Path, given: dict[str, Any], said: str
) -> None:
    with UsageLogger(path) as usage:
        record = usage.log("q", "r", "m")
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(said)}"):
            usage.record_feedback(record, 1, **given)


def test_who_logs_faster_than_the_store_takes_waits_for_it(path: Path) -> None:
    with UsageLogger(path) as usage:
        for number in range(TOO_MANY + 10):
            usage.log(f"q {number}", "r", "m")
            assert usage.background.opened()[1].journal.waiting < TOO_MANY


def test_a_store_that_takes_nothing_for_long_costs_neither_calls_nor_memory_nor_descriptors(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody is told of a failure whose call is written down: it would be logged twice."""
    monkeypatch.setattr("proxy.loop.library.journal.TOO_MANY", 20)
    monkeypatch.setattr("proxy.loop.library.usage_store._BUSY_S", 0.01)
    with UsageLogger(path) as usage, sqlite3.connect(path, isolation_level=None) as other:
        usage.get_statistics()
        waiting, files = usage.background.opened()[1], path.parent / "usage.db-log"
        other.execute("BEGIN IMMEDIATE")
        for number in range(5):
            usage.log(f"q {number}", "r", "m")
            with pytest.raises(TemporaryError):
                usage.get_statistics()
        assert len(list(files.iterdir())) == 2, "the first, and one for what came since, however often it is tried"
        for number in range(5, 100):
            usage.log(f"q {number}", "r", "m")
        assert sum(len(file.calls) for file in waiting.unstored) + waiting.journal.waiting <= 40
        assert len(list(files.iterdir())) <= 6
        with pytest.raises(TemporaryError):
            usage.close()
        other.execute("ROLLBACK")
        assert sorted(record["query"] for record in usage.get_records()) == sorted(f"q {n}" for n in range(100))
        assert list(files.iterdir()) == []
    assert len([record for record in caplog.records if "cannot be stored now" in record.message]) <= 1


async def test_nothing_is_tried_any_more_once_the_log_is_closed(path: Path) -> None:
    """What a try had taken would stay locked until the process ends, and nobody would store it before."""
    usage = await open_usage_store(path, ManualClock())
    await usage.one_commit.acquire()
    closing = asyncio.ensure_future(close_usage_store(usage))
    await asyncio.sleep(0)
    usage.wake(at_once=True)
    tried = usage.commit
    assert tried is not None
    usage.one_commit.release()
    await closing
    assert tried.done()
    usage.wake(at_once=True)
    assert usage.commit is tried


def test_the_import_brings_none_of_what_the_first_call_needs() -> None:
    """An application starts with it: CPU time is what modules cost, and these are the dear ones."""
    code = """
import sys
from proxy import (ABTestConfig, ContinuousLearningLoop, DataGeneratorConfig, Feedback, GuardrailConfig, LoopConfig,
    ModelChoice, TrainingDataGenerator, TriggerConfig, UsageLogger)
print(*sorted(sys.modules))
"""
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    dear = {"sqlalchemy", "alembic", "aiohttp", "aiosqlite", "asyncpg", "msgspec", "starlette", "typer", "rich"}
    assert dear & set(modules) == set()
    assert len(modules) < 300, modules
    assert len([name for name in modules if name.startswith(("proxy", "policies"))]) < 90


def test_logging_makes_one_transaction_of_many_calls(path: Path) -> None:
    """Why a call costs microseconds: what is counted is transactions, not time."""
    with UsageLogger(path) as usage:
        usage.get_statistics()
        for number in range(400):
            usage.log(f"q {number}", "r", "m")
        assert usage.get_statistics()["total"] == 400
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        (batches,) = connection.execute("SELECT SUM(segment) FROM spool_positions").fetchone()
    assert batches < 100


class Score(float):
    """As NumPy's: a float that JSON does not know."""


def test_a_score_of_numpy_is_a_score(path: Path) -> None:
    with UsageLogger(path) as usage:
        usage.log("q", "r", "m", quality_score=Score(0.75))
        assert usage.get_statistics()["avg_quality_score"] == 0.75


FULL = """
import os, resource, signal, sys
from proxy import UsageLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with UsageLogger(sys.argv[1]) as usage:
    usage.log("before", "r", "m")
    usage.get_statistics()
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    for n in range(5):
        try:
            usage.log("q" * 1000, "r", "m")
        except OSError as exc:
            assert "make room" in str(exc), exc
        usage.background.run(lambda usage: usage.settle())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(os.listdir("/proc/self/fd")) == before
    usage.log("after", "r", "m")
    print(*(record["query"] for record in usage.get_records()))
"""


def test_a_full_disk_leaves_nothing_behind(path: Path) -> None:
    """Neither files nor open descriptors, however often it is tried; with room again it goes on."""
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "after before\n"), done.stderr
    assert list((path.parent / "usage.db-log").iterdir()) == []


def test_what_a_failed_try_left_is_not_in_the_way(path: Path) -> None:
    with UsageLogger(path) as usage:
        usage.get_statistics()
        journal = usage.background.opened()[1].journal
        for number in range(10):
            (journal.folder / f"{journal.writer}-{number:08d}.new").touch()
        usage.log("q", "r", "m")
        assert usage.get_statistics()["total"] == 1


def test_a_vote_that_came_while_storing_failed_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it has no other call that would set things going."""
    monkeypatch.setattr("proxy.loop.library.usage_store._AGAIN_S", 0.05)
    with UsageLogger(path) as usage, sqlite3.connect(path, check_same_thread=False) as other:
        record_id = usage.log("q", "r", "m")
        usage.get_statistics()
        other.execute("CREATE TRIGGER away BEFORE INSERT ON feedback BEGIN SELECT RAISE(ABORT, 'away'); END")
        other.commit()

        async def two_votes(store: UsageStore) -> tuple[BaseException | bool, bool]:
            first = asyncio.ensure_future(record_vote(store, record_id, 1, None, None, "ann"))
            while not store.votes and not first.done():
                await asyncio.sleep(0)
            while store.votes:
                await asyncio.sleep(0)
            second = asyncio.ensure_future(record_vote(store, record_id, -1, None, None, "bob"))
            while not store.votes and not second.done():
                await asyncio.sleep(0)
            [refused] = await asyncio.gather(first, return_exceptions=True)
            other.execute("DROP TRIGGER away")
            other.commit()
            return refused, await asyncio.wait_for(second, 10)

        refused, stored_later = usage.background.run(two_votes)
        assert isinstance(refused, Exception)
        assert stored_later is True
        assert usage.get_statistics()["negative"] == 1


FORKED_AT_ONCE = """
import os, sys, threading
from proxy import UsageLogger
usage = UsageLogger(sys.argv[1])
first = threading.Thread(target=usage.log, args=("parent", "r", "m"))
first.start()
while not any(name.startswith("proxy.loop.look") or name.startswith("sqlalchemy") for name in list(sys.modules)):
    pass  # until it is in the middle of its imports
child = os.fork()
if not child:
    usage.log("child", "r", "m")
    usage.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
first.join()
"""


def test_a_process_that_is_forked_in_the_middle_of_the_first_call_can_log(path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED_AT_ONCE, str(path)], check=True, timeout=60)
    with UsageLogger(path) as usage:
        assert {record["query"] for record in usage.get_records()} == {"parent", "child"}


def test_a_forked_process_keeps_no_file_of_its_parent(tmp_path: Path) -> None:
    """What is just being stored included: else nobody would store it before that process has ended, too."""
    keys = KeyRing.load_or_create(tmp_path / "keys.json")
    journal, other = (UsageJournal(folder=tmp_path / "log", writer=name, ids=RecordIds(keys)) for name in "ab")
    journal.add(1.7e9, LoggedCall("", None, "m", 1.0, None, "q", "r", {}))
    taken = journal.take()
    journal.add(1.7e9, LoggedCall("", None, "m", 1.0, None, "q", "r", {}))
    read, write = os.pipe()
    forked, says_so = os.pipe()
    if (child := os.fork()) == 0:
        os.close(write)
        os.write(says_so, b".")
        os.read(read, 1)
        os._exit(0)
    assert os.read(forked, 1) == b"."
    taken.let_go()
    journal.take().let_go()
    found = list(other.orphans())
    os.close(write)
    os.waitpid(child, 0)
    for end in (read, forked, says_so):
        os.close(end)
    assert [len(file.calls) for file in found] == [1, 1]
    for file in found:
        file.let_go()
