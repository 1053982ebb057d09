"""Children get settings through a pipe, are started again with growing patience, and notice their parent's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.app.child import Child, Inheritance, receive_inheritance
from proxy.clock import ManualClock
from proxy.config.model import Config
from proxy.config.serving import AdminConfig


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """A child whose module has no `main`: it ends at once, with status 1."""
    return Child("broken", "paths", index=0, listen_fd=None, clock=ManualClock(), pid=tmp_path / "broken.pid")


def ended(child: Child) -> int:
    assert child._process is not None
    child._process.wait()
    status = child.reap()
    assert status is not None
    return status


def test_the_back_off_doubles_to_ten_seconds(child: Child, capfd: pytest.CaptureFixture[str]) -> None:
    delays = []
    for _ in range(9):
        child.start(Config())
        assert child.due_at is None
        assert ended(child) == 1
        assert child.due_at is not None
        delays.append(child.due_at)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    assert "cannot import name 'main'" in capfd.readouterr().err


def test_a_child_that_has_lived_starts_afresh(tmp_path: Path) -> None:
    clock = ManualClock()
    child = Child("broken", "paths", index=0, listen_fd=None, clock=clock, pid=tmp_path / "broken.pid")
    for _ in range(5):
        child.start(Config())
        ended(child)
    child.start(Config())
    clock.advance(11)
    ended(child)
    assert child.due_at == pytest.approx(clock.monotonic() + 0.1)


def test_where_no_process_is_to_be_had_it_is_tried_again(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as none_left:
        none_left.setattr(sys, "executable", "/nowhere/python")
        child.start(Config())
        assert (child.running, child.due_at) == (False, pytest.approx(0.1))
    child.start(Config())
    assert child.due_at is None
    assert ended(child) == 1
    assert child.due_at == pytest.approx(0.2)


def test_a_child_without_a_successor_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child("worker", "worker", index=0, listen_fd=None, clock=ManualClock(), pid=tmp_path / "worker.pid")
    child._process = sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with monkeypatch.context() as none_left:
        none_left.setattr(sys, "executable", "/nowhere/python")
        assert child.replace(Config()) is None
    assert child.running
    assert child.due_at is None
    assert sleeper.poll() is None
    sleeper.communicate(b"\n")
    assert child.reap() == 0


def test_settings_and_secrets_arrive_and_show_nowhere(tmp_path: Path) -> None:
    program = "; ".join(
        (
            "import os, sys",
            "from proxy.app.child import receive_inheritance",
            "settings, parent_pipe = receive_inheritance()",
            "print(settings.config.admin.token, settings.name, settings.index, os.readlink('/proc/self/fd/0'))",
            "sys.stdout.flush()",
            "print(os.read(parent_pipe, 1), flush=True)",
        )
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        config = Config(admin=AdminConfig(token="xyzzy-47"))
        process.stdin.write(Inheritance(config=config, name="worker-1", index=1, listen_fd=None).packed())
        process.stdin.flush()
        assert process.stdout.readline() == b"xyzzy-47 worker-1 1 /dev/null\n"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"xyzzy-47" not in shown
        process.stdin.close()
        assert process.stdout.readline() == b"b''\n", "the end of the pipe is the end of the supervisor"
    assert process.wait() == 0


def test_a_parent_that_dies_while_it_hands_over_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.write(writing, b"\x10\0\0")
    os.close(writing)
    os.close(reading)
    try:
        with pytest.raises(EOFError, match="supervisor ended"):
            receive_inheritance()
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
