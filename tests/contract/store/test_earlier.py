"""Earlier answers by their provider's ids: of several claims the newest come first, and each says what it is worth."""

from __future__ import annotations

import random
from typing import Any

from policies.records import Outcome, StickySource
from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag
from tests.harness.exchanges import exchange


async def test_answers_are_found_by_their_providers_ids(store: Store, clock: ManualClock) -> None:
    rng, start_us = random.Random(1), int(clock.now() * 1e6) - 1_000_000_000

    def record(n: int, name: str, **changes: Any) -> NewRecord:
        return exchange(start_us + n * 1_000_000, rng, **{"aliases": (name, f"other-{n}"), "user_hash": n} | changes)

    first, claim = record(1, "resp_a"), record(2, "resp_a", key_source=StickySource.FIRST_MESSAGE)
    cut = record(3, "resp_b", flags=RecordFlag.TRUNCATED_RESPONSE)
    secret = record(4, "resp_c", flags=RecordFlag.NO_TRAIN)
    failed = record(5, "resp_d", status=502)
    broken = record(6, "resp_e", outcome=Outcome.INCOMPLETE)
    gone = record(7, "resp_f", body=None)
    records = (first, claim, cut, secret, failed, broken, gone)
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records))

    found = await store.samples.earlier(["resp_a", "resp_b", "resp_c", "resp_d", "resp_e", "resp_f", "resp_unknown"])
    assert {name: [one.sample.record_id for one in some] for name, some in found.items()} == {
        "resp_a": [claim.id, first.id], "resp_b": [cut.id], "resp_c": [secret.id], "resp_d": [failed.id],
        "resp_e": [broken.id],
    }  # fmt: skip
    assert {name: [(one.whole, one.sample.trainable) for one in some] for name, some in found.items()} == {
        "resp_a": [(True, True)] * 2, "resp_b": [(False, True)], "resp_c": [(True, False)],
        "resp_d": [(False, True)], "resp_e": [(False, True)],
    }  # fmt: skip
    assert [one.names_user for one in found["resp_a"]] == [False, True]
    assert first.body is not None
    assert found["resp_a"][1].sample.exchange.response == first.body.response
    assert await store.samples.earlier(["resp_unknown"]) == {}
    assert await store.samples.name_users([first.id, claim.id, "0" * 32]) == {first.id}
