"""Texts that would command whoever shows them, and an install in every corner of which such a text has been planted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Final

from proxy.store.tables.values import IngestBatch
from tests.harness.install import Install

__all__ = ["ALL", "COMMANDS", "HOSTILE", "STORED", "plant"]

COMMANDS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What no terminal may be sent: written down again here, so that what is tested is not measured by itself."""
HOSTILE: Final = (
    "hello \x1b]52;c;ZWNobyBwd25lZA==\x1b\\ there",
    "\x1b[2J\x1b[H wiped \x1b]0;owned\x07 fake prompt $ ",
    "C1 \x9b2J \x9d0;owned\x9c \x90 \x85 DEL \x7f BS \x08\x08\x08 CR \rover",
    "bidi \u202eevil\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "nothing to see \u200b\u200d\u2060\ufeff line\u2028paragraph\u2029 tag \U000e0041\U000e007f",
    "half \ud83d and \udfff",
    "a [/nope] b [red]colour[/red] [link=http://evil.example]x[/link] :smile: [bold",
)
ALL: Final = " ".join(HOSTILE)
STORED: Final = ALL.replace("\ud83d", "").replace("\udfff", "")
"""All of it that a database takes."""


async def plant(install: Install) -> tuple[str, str]:
    """Records, votes, a model, decisions and an order full of STORED; the ids of a record with texts and of one that
    has none."""
    records = [install.record(query=f"{STORED} {number}", response=f"{STORED} {number}") for number in range(3)]
    body = replace(
        records[0].body,
        target=f"/v1/chat/completions?{STORED}",
        request_headers={"user-agent": STORED},
        response_headers={"x-request-id": STORED},
        request=json.dumps({"messages": [{"role": "user", "content": STORED}]}).encode(),
        response=STORED.encode(),
        error=STORED,
        tags={STORED[:40]: STORED},
    )
    bare = replace(install.record(), body=replace(body, query=None, response_text=None), status=502)
    records = [replace(records[0], body=body, model_id=2, aliases=(STORED[:60],)), *records[1:], bare]
    votes = [
        replace(install.vote(record, 1, source=STORED[:60]), comment=STORED, correction=STORED, tags={"why": STORED})
        for record in records
    ]
    store = await install.open_store()
    try:
        await store.models.add("champion")
        await store.models.add(STORED[:80])
        await store.ingest.apply(
            IngestBatch(writer="w0-1-1", segment=1, offset=1, records=tuple(records), votes=tuple(votes))
        )
        lease = await store.leases.acquire("loop", "test", ttl_s=60)
        assert lease is not None
        inputs = {"reasons": [STORED, STORED], "snapshot": {"phase": STORED}, "action": {"why": STORED}}
        for action in (STORED[:40], "Hold"):
            install.clock.advance(60.0)
            await store.journal.intend(action, fence=lease.fence, who=STORED[:40], why=STORED, inputs=inputs)
        await store.commands.submit("promote", who=STORED[:40], why=STORED, args={})
    finally:
        await store.close()
    return records[0].id, bare.id
