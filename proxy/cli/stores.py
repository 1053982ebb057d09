"""Opening the store for one command, and turning what can go wrong there into an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.cli.common import Exit, fail
from proxy.errors import ConfigError, PermanentError, TemporaryError

if TYPE_CHECKING:
    from proxy.config.model import Config
    from proxy.ids import KeyRing
    from proxy.store.archive import ArchiveSource, ArchiveStore
    from proxy.store.store import Store

__all__ = ["key_ring", "open_place", "with_archive", "with_store"]

T = TypeVar("T")


def with_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open the store of `config`, do `work`, close it; a server may run meanwhile. Ends the command on failure."""
    from proxy.app.paths import DataDir

    data = DataDir.of(config)
    if config.store.url is None and not (data.root / "ratchet.db").is_file():
        fail(
            Exit.UNREACHABLE,
            f"{data.root}: there is no database yet; start `ratchet serve`, or give --data-dir or --config",
        )
    return _run(_opened(data.store_url(config), config, work))


def with_archive(url: str, work: Callable[[ArchiveSource], Awaitable[T]]) -> T:
    """Do `work` on the archive at `url`. Ends the command on failure, and where nothing is archived there."""

    async def opened() -> T:
        place = open_place(url)
        from proxy.store.archive import ArchiveSource

        if not await asyncio.to_thread(place.dates):
            fail(Exit.NOT_FOUND, f"{url}: there is no archive; write one with `ratchet data archive`")
        return await work(ArchiveSource(place))

    return _run(opened())


def open_place(url: str) -> ArchiveStore:
    """The archive at `url`. Raises PermanentError without the libraries that it needs."""
    try:
        from proxy.store.archive import ArchiveStore
    except ImportError as exc:
        raise PermanentError(f"an archive needs more libraries ({exc}): pip install 'ratchet-proxy[archive]'") from exc
    return ArchiveStore(url)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))
    except TemporaryError as exc:
        fail(Exit.UNREACHABLE, str(exc))
    except PermanentError as exc:
        fail(Exit.FAILED, str(exc))
    except OSError as exc:
        if isinstance(exc, BrokenPipeError):  # `| head`
            raise
        fail(Exit.FAILED, f"{exc.filename or 'output'}: {exc.strerror or exc}")


async def _opened(url: str, config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    from proxy.clock import SystemClock
    from proxy.store.store import Store

    await _take_over(url)
    store = await Store.open(url, clock=SystemClock(), pool_size=config.store.pool_size)
    try:
        return await work(store)
    finally:
        await store.close()


async def _take_over(url: str) -> None:
    """Store what an application that was killed had logged by the library: whoever lists or deletes means that, too."""
    if not (place := url.partition("sqlite:///")[2]):
        return
    file = Path(place).expanduser()
    if not any(file.with_name(f"{file.name}-log").glob("*.jsonl")):
        return
    from proxy.clock import SystemClock
    from proxy.loop.library.usage_store import close_usage_store, open_usage_store

    usage = await open_usage_store(file, SystemClock())
    await close_usage_store(usage)


def key_ring(config: Config) -> KeyRing:
    """The install's keys; ends the command where there are none or they cannot be read."""
    from proxy.app.paths import DataDir
    from proxy.ids import KeyRing

    path = DataDir.of(config).keys
    try:
        return KeyRing(path)
    except FileNotFoundError:
        fail(Exit.UNREACHABLE, f"{path}: there are no keys yet; start `ratchet serve`, or give --data-dir or --config")
    except (OSError, ValueError) as exc:
        fail(Exit.FAILED, str(exc))
