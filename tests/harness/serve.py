"""A whole `ratchet serve` as a user starts it: real processes on free ports, in a directory of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["Answer", "RatchetProcess", "request"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE_S = 120.0
"""Longest wait for anything: a busy machine is no failure."""


class Answer:
    """One HTTP answer, read to its end."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    base_url: str,
    path: str,
    *,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = _PATIENCE_S,
) -> Answer:
    """One request on a connection of its own. `body`: bytes, or anything that becomes JSON."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("content-type", "application/json")
    try:
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


class RatchetProcess:
    """`python -m proxy serve` and its children. Use as a context manager, or `start()` and `stop()`.

    `settings` are configuration tables as in JSON, laid over defaults that suit a test: on a machine that other tests
    keep busy, a controller that gives way to all of them would have no turn.
    """

    def __init__(
        self,
        directory: Path,
        *,
        champion: str,
        settings: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        """`inside`: a command that runs what follows it somewhere else, as `Network.inside` does."""
        self._inside = inside
        self.directory = directory
        self.data_dir = directory / "data"
        self.config_file = directory / "config.json"
        self.log_file = directory / "log.txt"
        self.settings = _merged(
            {
                "champion": {"url": champion},
                "server": {"port": 0, "data_dir": str(self.data_dir), "drain_seconds": 30, "controller_nice": 0},
                "admin": {"port": 0},
                "store": {"ingest_interval_seconds": 0.05},
            },
            settings or {},
        )
        self._environ = {**os.environ, **(environ or {}), "PYTHONPATH": str(_REPOSITORY), "NO_COLOR": "1"}
        self.process: subprocess.Popen[bytes] | None = None
        self._terminated = False
        self.base_url = ""
        self.admin_url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, *, ready: bool = True) -> Self:
        """Start it; with `ready`, return when the public side app answers."""
        self.launch()
        addresses = self._await(self._addresses, "its addresses")
        self.base_url, self.admin_url = addresses["public"], addresses["admin"] or ""
        if ready:
            self._await(lambda: _ok(self.base_url, "/-/health"), "a healthy worker")
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it, and wait for nothing."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(json.dumps(self.settings))
        with contextlib.suppress(OSError):  # there is none, or the disk is read-only
            (self.data_dir / "run" / "addresses.json").unlink()
        self._terminated = False
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._inside, sys.executable, "-m", "proxy", "serve", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self.directory,
            )
        return self.process

    def stop(self, *, expect: int | None = 0) -> str:
        """SIGTERM, wait, and return the log. `expect`: the exit status that is right; None for any."""
        if self.process is None:
            return self.log
        self.terminate()
        return self.wait(expect=expect)

    def terminate(self) -> None:
        """SIGTERM, once: a second one would cut the draining short."""
        if self.process is not None and self.process.poll() is None and not self._terminated:
            self._terminated = True
            self.process.send_signal(signal.SIGTERM)

    def wait(self, *, expect: int | None = 0) -> str:
        """Wait for its end, and return the log."""
        if self.process is None:
            return self.log
        try:
            status = self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            for pid in [self.process.pid, *self.worker_pids, self.controller_pid]:
                _kill(pid)
            self.process.wait()
            raise AssertionError(f"it did not stop within {_PATIENCE_S:g} s:\n{self.log}") from None
        self.process = None
        if expect is not None:
            assert status == expect, f"exit status {status}, not {expect}:\n{self.log}"
        return self.log

    def await_admin(self) -> None:
        """Return when the controller says that all is well. After a start behind a kill its port may come later."""
        self.admin_url = self._await(lambda: (self._addresses() or {}).get("admin"), "an admin port")
        self._await(lambda: _ok(self.admin_url, "/health"), "a healthy controller")

    def kill(self, name: str) -> int:
        """`kill -9` of `supervisor`, `controller` or `worker-<n>`; returns its process id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        if name == "supervisor" and self.process is not None:
            self.process.wait()
            self.process = None
        return pid

    def pid(self, name: str) -> int:
        """Its process id, once it has one: a child that is just starting has none yet."""
        path = self.data_dir / "run" / f"{name}.pid"

        def known() -> int | None:
            try:
                return int(path.read_text())
            except FileNotFoundError:
                return None

        return int(self._await(known, f"the process id of {name}"))

    def await_new(self, name: str, earlier: int) -> int:
        """The process id of `name` once it is another one than `earlier`."""

        def other() -> int | None:
            pid = self.pid(name)
            return pid if pid != earlier else None

        return int(self._await(other, f"a new {name}"))

    @property
    def worker_pids(self) -> list[int]:
        return [self.pid(f"worker-{n}") for n in range(self.settings["server"].get("workers", 1))]

    @property
    def controller_pid(self) -> int:
        return self.pid("controller")

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` on /metrics that carry these labels."""
        text = request(self.admin_url, "/metrics").body.decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(pair in line for pair in wanted))

    def _addresses(self) -> Any:
        path = self.data_dir / "run" / "addresses.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _await(self, look: Any, what: str) -> Any:
        return await_true(look, what, self._alive)

    def _alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"`ratchet serve` ended with status {self.process.returncode}:\n{self.log}")


def await_true(
    look: Any, what: str, check: Any = lambda: None, limit_s: float = _PATIENCE_S, *, every_s: float = 0.05
) -> Any:
    """The first true value of `look()`; `check()` may end the wait by raising.

    `every_s`: between two looks. What makes a whole server work is asked for less often, or the looking is most of the
    work.
    """
    deadline = time.monotonic() + limit_s
    while not (value := look()):
        check()
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(every_s)
    return value


def _ok(base_url: str, path: str) -> bool:
    try:
        return request(base_url, path).status == 200
    except (OSError, http.client.HTTPException):
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if nested else value
    return result
