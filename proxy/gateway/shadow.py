"""Copies of users' requests for a challenger whose answers go to nobody.

An exchange offers its request when its record is written and the last byte of the user's answer is leaving; whatever
happens here happens behind that. Nothing waits for a turn: a copy that cannot be made now is dropped, and counted.
Three limits keep users from noticing a challenger that hangs, floods or fails:

* so many copies at a time (`gateway.shadow_concurrency`), each for so long (`gateway.shadow_timeout_seconds`);
* one hundredth of the event loop's time: after each copy there is a pause a hundred times as long as it has cost, by
  the bytes that came and went, and a longer one after a failure;
* memory: a copy holds what the record holds of the request, and as much of the answer as a record would.

Connections are its own, and so is the loss: no breaker, counter or figure of the test hears of a copy.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from math import inf
from typing import Any, Final

from policies.assignment import unit_interval
from policies.records import Outcome, StickySource
from proxy.config.model import Config
from proxy.gateway.backend import Backend, parse_url
from proxy.gateway.counters import COPIES_DROPPED, COPIES_FAILED
from proxy.gateway.deadlines import Deadlines
from proxy.gateway.facts import ExchangeFacts
from proxy.gateway.fitness import ServedAt, why_not, why_not_body
from proxy.gateway.model_field import replace_model
from proxy.gateway.outbound import copy_head, copy_token, request_lines
from proxy.gateway.ports import ClientSide, MakesPools, Pool, RecordSpool, Redacts
from proxy.gateway.shadow_copy import Original, ShadowCopy, facts_of
from proxy.routes import RouteTable, Target
from proxy.spool.frames import KIND_SHADOW, encode_frame
from proxy.tasks import spawn
from proxy.wire.rewritable import rewritable

__all__ = ["Shadow"]

_SHARE: Final = 0.01
"""Of the event loop's time."""
_COST_S: Final = 250e-6
"""What a copy takes of that. Measured, rounded up."""
_COST_OF_BYTE_S: Final = 3e-9
_BUSY: Final = COPIES_DROPPED.slot("busy")
_AT_PACE: Final = COPIES_DROPPED.slot("pace")
_REST_S: Final = 0.25
"""Pause after a copy that failed: a challenger that closes every connection at once is found out in seconds, too."""
_AGAIN_S: Final = 5.0
_KEPT_OF_FAILED: Final = 65536
"""Bytes of an answer that is none: enough to see why."""
_log = logging.getLogger(__name__)


class Shadow:
    """All copies of a worker, and their end."""

    def __init__(
        self,
        config: Config,
        *,
        make_pool: MakesPools,
        backend: Callable[[Target, Pool], Backend],
        user_hash: Callable[[bytes], int],
        spool: RecordSpool,
        redact: Redacts | None,
        deadlines: Deadlines,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        count: Callable[..., None],
    ) -> None:
        """`make_pool` makes connections that are nobody else's; `backend` says how a target is asked over them."""
        self._gateway = config.gateway
        self._most = config.gateway.shadow_concurrency
        self._limit = config.capture.max_response_bytes
        self._captures = config.capture.enabled
        self._make_pool = make_pool
        self._made = backend
        self._user_hash = user_hash
        self._spool = spool
        self._redact = redact
        self._deadlines = deadlines
        self._now = now
        self._monotonic = monotonic
        self._count = count
        self._open: dict[ShadowCopy, asyncio.Handle] = {}
        self._table: RouteTable | None = None
        self._backend: Backend | None = None
        self._salt = b""
        self._pools: list[Pool] = []
        self._again_at = inf
        """When one that could not be asked is looked at again."""
        self._free_at = 0.0
        """When the next copy may be made, monotonic seconds."""
        self._served_at: ServedAt | None = None
        """Which API shapes a path has, once that is loaded."""
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether it knows which requests it understands. Before, there are no copies."""
        return self._served_at is not None

    def offer(self, facts: ExchangeFacts, client: ClientSide) -> None:
        """Make a copy of a request whose record was just written, or do not. Never raises, and never waits."""
        try:
            self._offer(facts, client)
        except Exception:  # noqa: BLE001 - fail open: a copy is nobody's answer
            self._drop("defect")
            _log.exception("a request was not copied")

    async def close(self) -> None:
        """End all copies now; none is made any more."""
        self._closed = True
        for copy, begin in list(self._open.items()):
            begin.cancel()
            copy.cancel()
            self._forget(copy)
            self._drop("shutdown")
        if self._loading is not None:
            await asyncio.wait([self._loading])
        await asyncio.gather(*(pool.close() for pool in self._pools))

    # -- whether

    def _offer(self, facts: ExchangeFacts, client: ClientSide) -> None:
        if self._served_at is None:
            self._drop("starting")
            if self._loading is None:
                self._loading = spawn(self._load(), name="load what copies need")
            return
        table = facts.routes.table
        if table is not self._table or self._monotonic() >= self._again_at:
            self._follow(table)
        backend, check_id = self._backend, table.check_id
        if backend is None or check_id is None:
            return
        record_id, share = facts.record_id.uuid.hex(), table.shadow_share
        if share < 1.0 and unit_interval(self._salt, record_id.encode()) >= share:
            return
        if len(self._open) >= self._most:  # first what happens to nearly all of many requests a second
            self._count(_BUSY)
            return
        if self._monotonic() < self._free_at:
            self._count(_AT_PACE)
            return
        if (reason := self._why_not(facts, backend)) is not None:
            self._drop(reason)
            return
        assert facts.key is not None  # the gateway has looked: `ResolvedRoutes.needs_users`
        key, source = facts.key
        user = None if source is StickySource.RANDOM else self._user_hash(key)
        original = Original(record_id, facts.known.head, bytes(facts.request.data), client.peer, user)
        copy = ShadowCopy(original, backend, check_id, limit=self._limit, monotonic=self._monotonic, ended=self._ended)
        self._pay(len(original.body))
        self._count("shadow_in_flight")
        # behind the last byte of the user's answer, which leaves when whoever called here is done
        self._open[copy] = asyncio.get_running_loop().call_soon(self._begin, copy)

    def _why_not(self, facts: ExchangeFacts, backend: Backend) -> str | None:
        """What speaks against a copy now."""
        if self._closed:
            return "shutdown"
        if not self._captures:
            return "kind"
        if (why := why_not(facts, prefixed=bool(backend.prefix))) is not None:
            return why
        return "spool" if self._spool.full else None

    # -- how

    def _begin(self, copy: ShadowCopy) -> None:
        """Send the copy."""
        try:
            self._send(copy)
        except Exception:  # noqa: BLE001 - as in `offer`
            self._drop("defect")
            copy.cancel()
            self._forget(copy)
            _log.exception("a request was not copied")

    def _send(self, copy: ShadowCopy) -> None:
        backend, head, body = copy.backend, copy.original.head, copy.original.body
        assert self._served_at is not None  # else it was not taken
        why = why_not_body(head.target_text, body, self._served_at)
        if why is None and backend.rewriter is not None and not rewritable(len(body), None, body):
            why = "too_long"
        if why is not None:
            self._forget(copy)
            self._drop(why)
            return
        if backend.rewriter is not None:
            body = backend.rewriter.body(head.target.decode("latin-1"), body)
        if backend.target.model is not None:
            body = replace_model(body, backend.target.model)
        extra = request_lines(head, copy.original.peer, self._gateway, via=copy_token(self._user_hash))
        self._deadlines.watch(copy)
        self._count("shadow_sent_total")
        request = copy_head(head, backend, length=len(body), extra=extra) + body
        copy.send(request, self._gateway.shadow_timeout_seconds)

    def _ended(self, copy: ShadowCopy) -> None:
        """It was answered, or failed."""
        self._forget(copy)
        self._pay(copy.body.size, began=False)
        if copy.fault is not None:
            self._free_at = max(self._free_at, self._monotonic() + _REST_S)
            self._count(COPIES_FAILED.slot(copy.fault))
        facts = facts_of(copy, self._now())
        answer = bytes(copy.body.data if copy.outcome is Outcome.OK else copy.body.data[:_KEPT_OF_FAILED])
        if self._redact is None:
            self._keep(facts, b"", answer)
        else:
            self._redact.exchange(facts, b"", answer, self._keep)

    def _keep(self, facts: dict[str, Any], request: bytes, answer: bytes) -> None:
        self._spool.append(encode_frame(KIND_SHADOW, facts, request, answer))

    def _pay(self, size: int, *, began: bool = True) -> None:
        """Put the next copy off, for what one has cost with `size` bytes."""
        now = self._monotonic()
        cost_s = size * _COST_OF_BYTE_S + (_COST_S if began else 0.0)
        self._free_at = max(self._free_at, now) + cost_s / _SHARE

    def _forget(self, copy: ShadowCopy) -> None:
        self._deadlines.forget(copy)
        if self._open.pop(copy, None) is not None:
            self._count("shadow_in_flight", -1.0)

    def _drop(self, reason: str) -> None:
        self._count(COPIES_DROPPED.slot(reason))

    # -- to whom

    def _follow(self, table: RouteTable) -> None:
        """Find the challenger of `table`. One that cannot be asked gets no copies: that is said once, and looked at
        again, for its key may be on its way to this host."""
        known, self._table = self._table is table, table
        target, before = table.shadow, self._backend
        self._backend, self._again_at = None, inf
        if target is None or not table.copies:
            return
        self._salt = b"shadow %d" % (table.check_id or 0)
        try:
            if before is not None and before.target.url == target.url and self._pools:
                pool = self._pools[-1]
            else:
                pool = self._new_pool(target.url)
            self._backend = self._made(target, pool)
        except ValueError as exc:
            self._again_at = self._monotonic() + _AGAIN_S
            if not known:
                _log.error("the challenger %s gets no copies of requests: %s", target.name, exc)

    def _new_pool(self, url: str) -> Pool:
        address, _ = parse_url(url)
        self._pools = [pool for pool in self._pools if pool.open]
        for pool in self._pools:
            pool.retire()
        self._pools.append(self._make_pool(address))
        return self._pools[-1]

    async def _load(self) -> None:
        """Beside the traffic, for it takes as long as dozens of requests; and only where there is a shadow at all."""
        await asyncio.to_thread(importlib.import_module, "proxy.wire.rewriting")
        shapes = await asyncio.to_thread(importlib.import_module, "proxy.wire.extract.shapes")
        self._served_at = shapes.served_at
