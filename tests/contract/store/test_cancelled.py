"""Whatever is cancelled in the middle of a write leaves nothing open behind it: the next write gets in at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchanges

USER = 7
DAY_US = 86_400_000_000

WRITES: dict[str, Callable[[Store, int], Awaitable[Any]]] = {
    "leave a command": lambda store, n: store.commands.submit("retrain", who="test", why=str(n)),
    "finish an action": lambda store, n: store.journal.transition(LoopTransaction(fence=1, state={"loop": {"n": n}})),
    "delete a user": lambda store, _: store.deletion.delete_user(USER),
    "retention": lambda store, _: store.retention.prune(RetentionConfig(bodies_days=1, records_days=2)),
}


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """It would tidy up what was left open, by luck and much later."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_that_is_cancelled_anywhere_holds_up_nobody(
    store: Store, clock: ManualClock, write: Callable[[Store, int], Awaitable[Any]]
) -> None:
    """At one await after the other."""
    assert await store.leases.acquire("loop", "test", ttl_s=3600) is not None
    start_us = int(clock.now() * 1e6)
    for turns in range(0, 60, 4):
        old = exchanges(3, start_us=start_us - 5 * DAY_US + turns, seed=turns, user_hash=USER)
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=turns + 1, records=tuple(old)))
        attempt = asyncio.ensure_future(write(store, turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
    await write(store, 1000)
