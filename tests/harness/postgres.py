"""A private PostgreSQL server for the tests: its own data directory, its own Unix socket, gone at the end.

`initdb` refuses to run as root, so as root everything is run as the system user `postgres`. The data lie in memory
where there is room: a new database is some hundreds of files, and making those on a disk costs as much as most tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import asyncpg

__all__ = ["PostgresServer", "find_binaries", "running_postgres"]

_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "off",  # what is written outlives the server, however it ends; only a power cut would show the difference
    "full_page_writes": "off",
    "autovacuum": "off",  # a database lives for a second, and a plan that changes in it changes the last digit of a sum
    "synchronous_commit": "on",
    "wal_level": "minimal",  # nobody follows, and what is never replayed need not be written
    "max_wal_senders": "0",
    "max_wal_size": "128MB",
    "checkpoint_warning": "0",
    "log_min_messages": "warning",
}
_DURABLE: Final = {
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_wal_size": "1GB",
    "checkpoint_warning": "30s",
}
_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 2 * 1024**3
"""Bytes that are to be free there; a server takes a few hundred million at most."""
_numbers = count(1)


def find_binaries() -> Path | None:
    """Directory of `initdb` and `pg_ctl`; None where PostgreSQL is not installed or cannot be run."""
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return None
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    candidates = [*([Path(on_path)] if on_path else []), *found]
    return candidates[-1].parent if candidates else None


class PostgresServer:
    """A running server. `url()` is its default database, `new_database()` makes an empty one."""

    def __init__(self, directory: Path, binaries: Path, address: str | None = None, *, durable: bool = False) -> None:
        self._directory = directory
        self._address = address
        self._port = 5432 if address is None else _free_port(address)
        self._binaries = binaries
        self._settings = {**_SETTINGS, **(_DURABLE if durable else {})}
        self._data = directory / "data"
        self._unwanted: list[str] = []

    def initialise(self) -> None:
        """Make the data directory."""
        self._run(
            "initdb", "-D", self._data, "-A", "trust", "-U", "ratchet", "--no-sync", "-E", "UTF8", "--locale", "C"
        )
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())
            file.write(f"unix_socket_directories = '{self._directory}'\nport = {self._port}\n")
            if self._address is not None:
                file.write(f"listen_addresses = '{self._address}'\n")
        if self._address is not None:
            with (self._data / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {self._address}/24 trust\n")

    def start(self) -> None:
        """Start and wait until connections are accepted."""
        self._run("pg_ctl", "-D", self._data, "-l", self._directory / "log", "-w", "-t", "180", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: `smart`, `fast`, or `immediate` (as a crash)."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", "180", "stop")

    def url(self, database: str = "postgres") -> str:
        """For `store.url`."""
        if self._address is not None:
            return f"postgresql://ratchet@{self._address}:{self._port}/{database}"
        return f"postgresql://ratchet@/{database}?host={self._directory}"

    def new_database(self, template: str | None = None) -> str:
        """Url of a new database: empty, or a copy of the one at the url `template`, to which nobody is connected."""
        name = f"test_{next(_numbers)}_{time.monotonic_ns()}"
        with ThreadPoolExecutor(1) as beside:  # the caller may be inside an event loop
            beside.submit(
                asyncio.run, self._make(name, "template1" if template is None else self._name(template))
            ).result()
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop what `new_database` made, connections and all: when the next one is made, by the same connection."""
        self._unwanted.append(self._name(url))

    async def _make(self, name: str, template: str) -> None:
        connection = await asyncpg.connect(self.url())
        try:
            while self._unwanted:
                await connection.execute(f'DROP DATABASE "{self._unwanted.pop()}" WITH (FORCE)')
            copied = "STRATEGY file_copy" if connection.get_server_version().major >= 15 else ""  # before, the only one
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {copied}')
        finally:
            await connection.close()

    def _name(self, url: str) -> str:
        return url.split("/")[-1].split("?")[0] if "?host=" not in url else url.split("@/")[1].split("?")[0]

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # pg_ctl's server inherits the pipes: a file, not a pipe, or the wait for their end never ends
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, check=False, timeout=200)
            if done.returncode:
                output.seek(0)
                raise RuntimeError(f"{program} failed ({done.returncode}): {output.read().decode(errors='replace')}")


def _has_room(place: Path) -> bool:
    return os.access(place, os.W_OK | os.X_OK) and shutil.disk_usage(place).free > _ROOM


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postgres(binaries: Path, address: str | None = None, *, durable: bool = False) -> Iterator[PostgresServer]:
    """A server for the length of the block, on a Unix socket, and on a port of `address` too where that is given.

    `durable`: as one in production writes, for whoever measures it.
    """
    place = _MEMORY if not durable and _has_room(_MEMORY) else Path("/tmp")
    directory = Path(tempfile.mkdtemp(prefix="ratchet-pg-", dir=place))  # a short path: it holds the socket
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
            directory.chmod(0o755)
        server = PostgresServer(directory, binaries, address, durable=durable)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
