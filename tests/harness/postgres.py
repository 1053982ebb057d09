"""A private PostgreSQL server for the tests: its own data directory, its own Unix socket, gone at the end.

`initdb` refuses to run as root, so as root everything is run as the system user `postgres`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

__all__ = ["PostgresServer", "find_binaries", "running_postgres"]

_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "off",  # what is written outlives the server, however it ends; only a power cut would show the difference
    "full_page_writes": "off",
    "autovacuum": "off",  # a database lives for a second, and a plan that changes in it changes the last digit of a sum
    "synchronous_commit": "on",
    "log_min_messages": "warning",
}
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
_numbers = count(1)


def find_binaries() -> Path | None:
    """Directory of `initdb` and `pg_ctl`; None where PostgreSQL is not installed or can not be run."""
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
        copied = [] if template is None else ["-T", self._name(template)]
        self._run("createdb", "-h", self._directory, "-p", str(self._port), "-U", "ratchet", *copied, name)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop what `new_database` made, connections and all."""
        name = self._name(url)
        self._run("dropdb", "-h", self._directory, "-p", str(self._port), "-U", "ratchet", "--force", name)

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


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postgres(binaries: Path, address: str | None = None, *, durable: bool = False) -> Iterator[PostgresServer]:
    """A server for the length of the block, on a Unix socket, and on a port of `address` too where that is given.

    `durable`: as one in production writes, for whoever measures it.
    """
    directory = Path(tempfile.mkdtemp(prefix="ratchet-pg-", dir="/tmp"))  # a short path: it holds the socket
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
