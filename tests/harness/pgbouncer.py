"""A private pgbouncer before a PostgreSQL of the tests: Debian's own program, its settings and socket in a directory.

It refuses to run as root, so as root it is run as the system user `postgres`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.harness.postgres import PostgresServer

__all__ = ["Pgbouncer", "find_pgbouncer", "running_pgbouncer"]

_PATIENCE_S: Final = 60.0
_SETTINGS: Final = {
    "auth_type": "any",
    "pool_mode": "transaction",
    "default_pool_size": "4",
    "listen_addr": "",
    "unix_socket_mode": "0777",
    "server_idle_timeout": "60",
}


def find_pgbouncer() -> str | None:
    """The program; None where it is not installed or cannot be run."""
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return None
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Pgbouncer:
    """A running pooler. `url(direct)` is the way through it to the database at the url `direct`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def url(self, direct: str) -> str:
        """The url of the same database, through the pooler."""
        return f"postgresql://ratchet@/{direct.split('@/')[1].split('?')[0]}?host={self._directory}&port=6432"


@contextmanager
def running_pgbouncer(program: str, server: PostgresServer, **settings: str) -> Iterator[Pgbouncer]:
    """One for the length of the block, for every database of `server`; `settings` as in pgbouncer.ini."""
    directory = Path(tempfile.mkdtemp(prefix="ratchet-pgb-", dir="/tmp"))  # a short path: it holds the socket
    try:
        process = _start(program, directory, server, {**_SETTINGS, **settings})
        try:
            yield Pgbouncer(directory)
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    program: str, directory: Path, server: PostgresServer, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    file = directory / "pgbouncer.ini"
    host = server.url().partition("host=")[2]
    lines = [f"{name} = {value}" for name, value in {**settings, "unix_socket_dir": str(directory)}.items()]
    file.write_text(
        f"[databases]\n* = host={host} port=5432 user=ratchet\n[pgbouncer]\nlisten_port = 6432\n" + "\n".join(lines)
    )
    command = [program, str(file)]
    if os.geteuid() == 0:
        for path in (directory, file):
            shutil.chown(path, "postgres")
        directory.chmod(0o755)
        command = ["runuser", "-u", "postgres", "--", *command]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + _PATIENCE_S
    while not _listens(directory / ".s.PGSQL.6432"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"pgbouncer does not start: {(directory / 'log').read_text()}")
        time.sleep(0.02)
    return process


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
