"""The cleaner with its real process: nothing waits, nothing is kept raw, and the bounds hold."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from proxy.cleaning.cleaner import Cleaner
from proxy.cleaning.process import Settings
from proxy.config.serving import RedactionConfig
from proxy.wire.redact import FAILED, NOT_RECORDED

MARK: Final = "zoe@corp.example"
PATTERNS: Final = (r"\w+@corp\.example",)
JSON: Final = {"content-type": "application/json"}
BUSY: Final = b'"' + b"a" * 40 + b'!"'
"""A minute's work for the pattern of `stubborn`."""

pytestmark = pytest.mark.asyncio


def asleep(text: str) -> str:
    """A redaction function that takes its time."""
    time.sleep(60)
    return text


def broken(text: str) -> str:
    raise RuntimeError(text)


def told(text: str) -> str:
    return text.replace("zoe", "somebody") + os.environ.get("RATCHET_ADMIN__TOKEN", "")


class Bench:
    """A cleaner, what it kept, and what it counted."""

    def __init__(self, settings: RedactionConfig, **options: Any) -> None:
        self.lost: Counter[str] = Counter()
        self.kept: list[tuple[dict[str, Any], bytes, bytes]] = []
        self._there = asyncio.Event()
        self.cleaner = Cleaner(settings, lambda slot: self.lost.update([slot]), **options)

    def exchange(self, request: bytes, response: bytes = b"", **meta: Any) -> None:
        facts = {"m": "POST", "p": "/v1/chat", "rh": dict(JSON), "sh": dict(JSON), "ttfb": 1, **meta}
        self.cleaner.exchange(facts, request, response, self._keep)

    def _keep(self, meta: dict[str, Any], request: bytes, response: bytes) -> None:
        self.kept.append((meta, request, response))
        self._there.set()

    async def until(self, count: int) -> list[tuple[dict[str, Any], bytes, bytes]]:
        async with asyncio.timeout(120):
            while len(self.kept) < count:
                self._there.clear()
                await self._there.wait()
        return self.kept


@pytest_asyncio.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    found: list[Bench] = []
    yield found
    for bench in found:
        await bench.cleaner.close(0.0)


def bench(benches: list[Bench], **settings: Any) -> Bench:
    options = {"most_bytes": settings.pop("most_bytes")} if "most_bytes" in settings else {}
    benches.append(Bench(RedactionConfig(**{"patterns": PATTERNS, **settings}), **options))
    return benches[-1]


def stubborn(benches: list[Bench], **settings: Any) -> Bench:
    return bench(benches, patterns=(*PATTERNS, r"(a+)+$"), engine="python", **settings)


async def test_a_moment_s_work_is_done_at_once_and_the_rest_by_the_process(benches: list[Bench]) -> None:
    here = bench(benches)
    here.exchange(b'{"to": "zoe@corp.example"}', p="/x?to=zoe%40corp.example", rh={**JSON, "user-agent": MARK})
    [(meta, request, _)] = here.kept
    assert request == b'{"to": "[redacted]"}'
    assert (meta["p"], meta["rh"]["user-agent"], meta["red"]) == ("/x?to=[redacted]", "[redacted]", True)
    here.exchange(b'{"to": "' + b"zoe@corp.example " * 5000 + b'"}', rsha="00ff")
    assert len(here.kept) == 1
    meta, request, _ = (await here.until(2))[1]
    assert MARK.encode() not in request
    assert (meta["rsha"], "nr" in meta) == (None, False)
    assert not here.lost


async def test_what_takes_too_long_is_lost_by_itself(benches: list[Bench]) -> None:
    here = stubborn(benches, deadline_seconds=0.3)
    here.exchange(b'{"to": "zoe@corp.example"}', BUSY, mk=[(1, 2)])
    here.exchange(b'{"a": 1}', b'{"b": "zoe@corp.example"}')
    (meta, request, response), (_, _, after) = sorted(await here.until(2), key=lambda kept: "nr" not in kept[0])
    assert (request, response) == (b'{"to": "[redacted]"}', NOT_RECORDED.encode())
    assert (meta["nr"], "mk" in meta) == (["response"], False)
    assert after == b'{"b": "[redacted]"}'
    assert here.lost == {'redaction_lost_total{reason="deadline"}': 1}


async def test_a_head_that_takes_too_long_leaves_nothing(benches: list[Bench]) -> None:
    here = stubborn(benches, deadline_seconds=0.3)
    here.exchange(b"", p="/" + "a" * 40 + "!")
    [(meta, _, _)] = await here.until(1)
    assert (meta["p"], meta["rh"], meta["sh"], meta["nr"]) == (NOT_RECORDED, {}, {}, ["head"])


async def test_what_waits_is_bounded(benches: list[Bench]) -> None:
    here = stubborn(benches, most_bytes=10_000)
    for _ in range(10):
        here.exchange(b'{"to": "' + b"x" * 3000 + b'"}')
    kept = await here.until(10)
    assert NOT_RECORDED.encode() in {request for _, request, _ in kept}
    assert here.lost['redaction_lost_total{reason="backlog"}'] > 0


async def test_the_end_waits_for_what_is_outstanding_and_no_longer(benches: list[Bench]) -> None:
    here = stubborn(benches)
    here.exchange(b'{"to": "zoe@corp.example"}')
    await here.cleaner.close(120)
    assert here.kept[0][1] == b'{"to": "[redacted]"}'
    here.exchange(b"{}")
    assert here.kept[1][1] == NOT_RECORDED.encode()
    late = stubborn(benches, deadline_seconds=60.0)
    late.exchange(BUSY)
    await late.cleaner.close(0.05)
    assert late.kept[0][1] == NOT_RECORDED.encode()
    assert late.lost['redaction_lost_total{reason="shutdown"}'] >= 1


async def test_a_function_that_hangs_or_fails_gives_nothing_away(benches: list[Bench]) -> None:
    hangs = bench(benches, callable=f"{__name__}:asleep", deadline_seconds=0.3)
    assert await hangs.cleaner.texts([MARK]) is None
    fails = bench(benches, callable=f"{__name__}:broken")
    fails.exchange(MARK.encode())
    [(meta, request, _)] = await fails.until(1)
    assert (request, meta["p"], meta["m"], meta["nr"]) == (FAILED.encode(), FAILED, "POST", ["request"])


async def test_a_function_gets_no_secret_of_ours(benches: list[Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_ADMIN__TOKEN", "a-secret")
    here = bench(benches, patterns=(), callable=f"{__name__}:told")
    assert await here.cleaner.texts(["zoe said"]) == ["somebody said"]


async def test_another_process_takes_over_from_one_that_was_killed(benches: list[Bench]) -> None:
    here = stubborn(benches)
    assert await here.cleaner.texts([MARK, "x"]) == ["[redacted]", "x"]
    [process] = children()
    os.kill(process, signal.SIGKILL)
    here.exchange(b'{"to": "zoe@corp.example"}')
    [(_, request, _)] = await here.until(1)
    assert MARK.encode() not in request
    assert await here.cleaner.texts([MARK]) == ["[redacted]"]


def children() -> list[int]:
    found = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for thread in found for pid in thread.read_text(encoding="ascii").split()]
    return [pid for pid in pids if b"ratchet-redaction" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_the_process_is_told_every_setting_and_each_rule_alone_cleans() -> None:
    rules: dict[str, Any] = {"patterns": PATTERNS, "callable": "module:function"}
    how = {"engine": "python", "deadline_seconds": 1.0}
    assert rules.keys() | how.keys() == {field.name for field in fields(RedactionConfig)}
    assert {field.name for field in fields(Settings)} == rules.keys() | how.keys() | {"most_decoded"}
    assert not RedactionConfig(**how).cleans
    for rule, value in rules.items():
        assert RedactionConfig(**{rule: value}).cleans, rule
