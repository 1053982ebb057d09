"""`ratchet store`: the database as a whole."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config, say
from proxy.cli.stores import with_store

if TYPE_CHECKING:
    from proxy.store.store import Store

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Move the database to another server.")

_CLAIM_S: Final = 60.0
_STEP_S: Final = 0.05


@app.command("migrate-to")
def migrate_to(
    url: Annotated[
        str,
        typer.Argument(help="An empty database: postgresql://user@host/name. Password: in PGPASSWORD or ~/.pgpass."),
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Copy everything to another database and stop using this one. A running server keeps serving.

    Meanwhile the controller waits, and records stay in the spool. Afterwards set `store.url` and send the server SIGHUP
    (or start it): it continues with the new database and stores what waits. If the copy fails, nothing changes.
    """
    from proxy.app.paths import DataDir

    settings = read_config(config, data_dir)
    data = DataDir.of(settings)

    async def move(store: Store) -> int:
        from proxy.clock import SystemClock
        from proxy.store.store import Store

        target = await Store.open(url, clock=SystemClock())
        try:
            return await store.move_to(target, _silent if json else _show)
        finally:
            await target.close()

    with _controller_paused(data.run):
        moved = with_store(settings, move)
    if json:
        print_json({"records": moved})
    else:
        say(f"{moved} records copied to the new database. Now set store.url to it and send SIGHUP to the server.")


def _show(table: str, rows: int) -> None:
    say(f"{table}: {rows}", err=True)


def _silent(table: str, rows: int) -> None:
    """No progress: the output is for a program."""


@contextmanager
def _controller_paused(run: Path) -> Iterator[None]:
    """Hold the controller's lock. One that runs is asked to flush and end; the one started in its place waits."""
    if not run.is_dir():
        yield
        return
    descriptor = os.open(run / "controller.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        asyncio.run(_claim(descriptor, run / "controller.pid"))
        yield
    finally:
        os.close(descriptor)


async def _claim(descriptor: int, pid_file: Path) -> None:
    asked = None
    try:
        async with asyncio.timeout(_CLAIM_S):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    pid = int(pid_file.read_text())
                if pid != asked:
                    os.kill(pid, signal.SIGTERM)
                    asked = pid
                await asyncio.sleep(_STEP_S)
    except TimeoutError:
        fail(Exit.FAILED, f"the controller did not stop within {_CLAIM_S:g} s; stop `ratchet serve` and try again")
    except (OSError, ValueError) as exc:
        fail(Exit.FAILED, f"the controller could not be paused ({exc}); stop `ratchet serve` and try again")
