"""A real gateway's upstream for the tests of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.harness.upstream import Upstream, serve_upstream


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server
