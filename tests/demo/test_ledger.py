"""The demo's proof: what customers hold is found in the log, and what is not there is counted as lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from proxy.demo.ledger import ClientLedger
from proxy.status import PhaseStatus, Status
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from proxy.tasks import cancel_and_wait, spawn
from proxy.web.admin import AdminServices, create_admin_app
from tests.harness.install import Install
from tests.harness.webserver import serving


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


@contextlib.asynccontextmanager
async def admin_port(install: Install) -> AsyncIterator[tuple[aiohttp.ClientSession, Store]]:
    store = await install.open_store()

    async def status() -> Status:
        return Status(phase=PhaseStatus(name="idle"))

    services = AdminServices(
        config=install.config,
        clock=install.clock,
        keys=install.keys,
        metrics=lambda accept: (b"", "text/plain"),
        status=status,
        health=lambda: {"status": "ok"},
        store=lambda: store,
    )
    try:
        async with serving(create_admin_app(services)) as url, aiohttp.ClientSession(url) as client:
            yield client, store
    finally:
        await store.close()


async def test_all_that_was_answered_and_voted_on_is_found_however_many_pages_back(install: Install) -> None:
    records = [install.record() for _ in range(1_101)]
    await install.fill(records, [install.vote(record, 1) for record in records[::100]])
    ledger = ClientLedger()
    for record in records:
        ledger.answered(install.ids.sign(record.id))
    for record in records[::100]:
        ledger.voted(install.ids.sign(record.id))
    async with admin_port(install) as (admin, _):
        await ledger.look(admin)
    assert (ledger.answers, ledger.logged, ledger.votes, ledger.counted, ledger.lost) == (1_101, 1_101, 12, 12, 0)


async def test_an_answer_without_a_record_and_a_vote_that_did_not_arrive_are_lost(install: Install) -> None:
    stored, missing = install.record(), install.record()
    await install.fill([stored])
    ledger = ClientLedger()
    for record in (stored, missing):
        ledger.answered(install.ids.sign(record.id))
    ledger.voted(install.ids.sign(stored.id))
    async with admin_port(install) as (admin, _):
        await ledger.look(admin)
    assert (ledger.logged, ledger.counted, ledger.lost) == (1, 0, 2)


async def test_what_is_still_on_its_way_is_waited_for(install: Install) -> None:
    await install.fill([])
    late = install.record()
    ledger = ClientLedger()
    ledger.answered(install.ids.sign(late.id))
    async with admin_port(install) as (admin, store):
        settling = spawn(ledger.settle(admin, limit_s=60), name="settling")
        try:
            await ledger.look(admin)
            assert ledger.lost == 1
            await store.ingest.apply(IngestBatch(writer="w0-1-1", segment=2, offset=1, records=(late,)))
            await settling
        finally:
            await cancel_and_wait([settling])
    assert ledger.lost == 0
