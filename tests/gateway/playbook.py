"""An exchange and nothing else: this plays the client, the model's servers and the clock, and notes what it is asked.

A test reads as a conversation. It tells the exchange something (`begin`, `body`, `connect`, `head`, `piece`, ...) and
compares `out()`, which is what the exchange did since the last look, as tuples in their order:

    ("dial", arm), ("cancel", arm)              make a connection; never mind
    ("send", arm, data, last)                   to the model's server
    ("release", arm, reusable)                  its connection is no longer needed
    ("hold", arm, on)                           read no more of the answer; read on
    ("write", data)                             to the client
    ("pause", on)                               read no more of the request's body; read on
    ("record",)                                 a frame was appended
    ("done", keep_alive), ("abort", unsent)     the client's connection is free; is to be broken off
    ("tunnel", arm, data)                       both are joined

Every event is held against TRANSITIONS, and every one of these calls against what may not come twice, or too late.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from proxy.clock import ManualClock
from proxy.config.model import Config
from proxy.gateway import GATEWAY_COUNTERS
from proxy.gateway.address import Address
from proxy.gateway.breaker import Breaker
from proxy.gateway.context import worker_context
from proxy.gateway.errors import BadResponseError, RejectedError
from proxy.gateway.exchange import Exchange
from proxy.gateway.exchange.states import TRANSITIONS, ExchangeEvent, State
from proxy.gateway.head import parse_response
from proxy.gateway.head_cache import KnownResponse
from proxy.gateway.outbound import Peer
from proxy.gateway.ports import Receiver, TunnelEnd, UpstreamSide
from proxy.gateway.request_buffer import Budget
from proxy.gateway.trust import Network
from proxy.routes import RouteTable, Target
from proxy.spool.frames import Frame, decode_payload
from tests.harness.gateway import config

__all__ = ["CHALLENGER", "CHAMPION", "NoteClient", "NoteUpstream", "Talk"]

CHAMPION, CHALLENGER = "champion", "challenger"
_PORTS = {8001: CHAMPION, 8002: CHALLENGER}
_HASH = 0x5EED


@dataclass
class NoteClient:
    """ClientSide: takes notes."""

    out: list[tuple[Any, ...]]
    network: Network
    peer: Peer = field(default_factory=lambda: Peer(b"127.0.0.1", tls=False))
    written: bytes = b""
    over: str | None = None
    """How the exchange left it."""
    on_end: TunnelEnd | None = None

    def write(self, data: bytes) -> None:
        assert self.over is None, f"written behind {self.over}: {data!r}"
        self.written += data
        self.out.append(("write", data))

    def backpressure(self, paused: bool) -> None:
        assert self.over is None, f"backpressure behind {self.over}"
        self.out.append(("pause", paused))

    def exchange_done(self, keep_alive: bool) -> None:
        self._leave("done")
        self.out.append(("done", keep_alive))

    def abort(self, unsent: bytes, error: Exception | None) -> None:
        self._leave("abort")
        self.out.append(("abort", unsent))

    def tunnel_to(self, upstream: UpstreamSide, data: bytes, on_end: TunnelEnd) -> None:
        self._leave("tunnel")
        upstream.detach()
        self.on_end = on_end
        self.out.append(("tunnel", cast(NoteUpstream, upstream).arm, data))

    def _leave(self, how: str) -> None:
        assert self.over is None, f"{how} behind {self.over}"
        self.over = how


@dataclass(eq=False)
class NoteUpstream:
    """UpstreamSide: takes notes."""

    out: list[tuple[Any, ...]]
    arm: str
    used: bool = False
    dialled_s: float = 0.01
    heard_at: float = 0.0
    answered: bool = False
    written: bool = False
    sent: bytes = b""
    last: bool = False
    receiver: Receiver | None = None
    over: str | None = None
    """Who ended it: release, detach, or the server itself."""

    def begin(self, receiver: Receiver, method: bytes) -> None:
        assert self.receiver is None
        self.receiver = receiver
        self.answered = self.written = False

    def send(self, data: bytes, *, last: bool) -> None:
        assert self.over in (None, "lost"), f"sent behind {self.over}: {data!r}"
        assert not self.last, f"sent behind the last of it: {data!r}"
        self.sent += data
        self.last, self.written = last, True
        self.out.append(("send", self.arm, data, last))

    def await_answer(self) -> None:
        assert self.over is None

    def backpressure(self, paused: bool) -> None:
        assert self.over is None
        self.out.append(("hold", self.arm, paused))

    def release(self, *, reusable: bool) -> None:
        assert self.over in (None, "lost"), f"released behind {self.over}"
        self.over = "release"
        self.out.append(("release", self.arm, reusable))

    def detach(self) -> asyncio.Transport:
        assert self.over is None
        self.over = "detach"
        return cast(asyncio.Transport, None)


@dataclass(eq=False)
class NoteDial:
    """Dialling: takes notes."""

    out: list[tuple[Any, ...]]
    arm: str
    over: bool = False

    def cancel(self) -> None:
        assert not self.over
        self.over = True
        self.out.append(("cancel", self.arm))


class NotePool:
    """Pool: takes notes."""

    def __init__(self, address: Address, talk: Talk) -> None:
        self.address = address
        self.arm = _PORTS[address.port]
        self.open: list[object] = []
        self.idle: list[NoteUpstream] = []
        self._talk = talk

    def take(self) -> NoteUpstream | None:
        if not self.idle:
            return None
        self._talk.upstreams.append(self.idle.pop())
        return self._talk.upstreams[-1]

    def dial(self, receiver: Receiver) -> NoteDial:
        dial = NoteDial(self._talk.outputs, self.arm)
        self._talk.dials.append(dial)
        self._talk.outputs.append(("dial", self.arm))
        return dial

    def retire(self) -> None:
        """Nothing is kept here."""

    async def close(self) -> None:
        """Nothing is kept here."""


@dataclass(frozen=True)
class _Minted:
    uuid: bytes = bytes(16)
    token: bytes = b"record-id"


class Talk:
    """One exchange, and both sides of it."""

    full = False

    def __init__(
        self,
        head: bytes,
        *,
        challenger: bool = False,
        settings: Config | None = None,
        share: float = 1.0,
        rewrite: dict[str, Any] | None = None,
    ) -> None:
        """`head` is the request's, without its empty line. With a `challenger`, it gets `share` of all users, and is
        asked otherwise as `rewrite` says."""
        self.outputs: list[tuple[Any, ...]] = []
        self.dials: list[NoteDial] = []
        self.upstreams: list[NoteUpstream] = []
        self.pools: dict[str, NotePool] = {}
        self.records: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.clock = ManualClock()
        other = Target(model_id=2, name="new", url="http://127.0.0.1:8002", rewrite=rewrite) if challenger else None
        table = RouteTable(
            version=1,
            champion=Target(model_id=1, name="old", url="http://127.0.0.1:8001"),
            challenger=other,
            share=share if challenger else 0.0,
            salt="00ff" * 8 if challenger else "",
        )
        self.context = worker_context(
            settings or config(),
            routes=lambda: table,
            spool=self,
            ids=self,
            user_hash=lambda key: _HASH,
            counters=self,
            make_pool=self._make_pool,
            clock=self.clock,
        )
        data = head + b"\r\n\r\n"
        known, length = self.context.heads.read(data, len(head))
        self.client = NoteClient(self.outputs, self.context.trust.network(b"127.0.0.1"))
        self.exchange = Exchange(self.context, self.client, known, length)

    # -- what the worker does for it

    def append(self, frame: bytes) -> bool:
        self.records.append(frame)
        self.outputs.append(("record",))
        return True

    def mint(self, now_s: float) -> _Minted:
        return _Minted()

    def add(self, name: str, amount: float = 1.0) -> None:
        assert name in GATEWAY_COUNTERS
        self.counts[name] += amount  # type: ignore[assignment]

    def _make_pool(self, address: Address) -> NotePool:
        pool = NotePool(address, self)
        self.pools[pool.arm] = pool
        return pool

    # -- what happens to it

    @property
    def state(self) -> State:
        return self.exchange.state

    @property
    def upstream(self) -> NoteUpstream:
        """The connection at hand."""
        return self.upstreams[-1]

    @property
    def breaker(self) -> Breaker:
        """The challenger's."""
        breaker = self.context.router.resolve(self.context.routes()).challenger.breaker  # type: ignore[union-attr]
        assert breaker is not None
        return breaker

    def out(self) -> list[tuple[Any, ...]]:
        """What it did since the last look."""
        done = self.outputs[:]
        self.outputs.clear()
        return done

    def keep(self, arm: str = CHAMPION) -> None:
        """Have a connection idle that was used before."""
        self.pools[arm].idle.append(NoteUpstream(self.outputs, arm, used=True))

    def tell(self, event: ExchangeEvent, *args: Any) -> None:
        """Any event, as whoever is called back by the event loop would: what that does about an exception, too."""
        before = self.state
        method: Callable[..., None] = getattr(self.exchange, event.value)
        try:
            method(*args)
        except RejectedError as exc:
            assert event in (ExchangeEvent.BEGIN, ExchangeEvent.RECEIVE)
            self.client_gone(exc.status)
        except BadResponseError as exc:
            self.lost(exc)
        else:
            assert self.state in TRANSITIONS[before][event], f"{before} {event} {self.state}"

    def begin(self, payload: bytes = b"", *, done: bool = True) -> None:
        """The head is here, and some of the body."""
        self.tell(ExchangeEvent.BEGIN, payload, done)

    def body(self, payload: bytes, *, done: bool = False) -> None:
        """More of the request's body."""
        self.tell(ExchangeEvent.RECEIVE, payload, done)

    def connect(self) -> NoteUpstream:
        """The connection asked for last is made."""
        self.dials[-1].over = True
        self.upstreams.append(NoteUpstream(self.outputs, self.dials[-1].arm))
        self.tell(ExchangeEvent.CONNECTED, self.upstreams[-1])
        return self.upstreams[-1]

    def refuse(self, error: Exception | None = None) -> None:
        """It cannot be made."""
        self.dials[-1].over = True
        self.tell(ExchangeEvent.CONNECT_FAILED, error or ConnectionRefusedError())

    def heard(self) -> None:
        self.upstream.answered = True
        self.upstream.heard_at = self.clock.monotonic()

    def head(self, head: bytes) -> None:
        """The head of an answer, without its empty line."""
        self.heard()
        data = head + b"\r\n\r\n"
        parsed = parse_response(data, len(head), self.exchange.head.method)
        if parsed.status == 101:
            self.tell(ExchangeEvent.SWITCHED, parsed, b"")
        elif parsed.status < 200:
            self.tell(ExchangeEvent.INFORMATIONAL, parsed)
        else:
            self.tell(ExchangeEvent.RESPONDED, KnownResponse(parsed), parsed.length)

    def piece(self, wire: bytes, payload: bytes | None = None, *, done: bool = False) -> None:
        """Bytes of the answer's body; `payload` where that is chunked."""
        self.heard()
        self.tell(ExchangeEvent.RELAY, wire, wire if payload is None else payload, done)

    def lost(self, error: Exception | None = None) -> None:
        """The model's connection ends."""
        self.upstream.over = "lost"
        self.tell(ExchangeEvent.UPSTREAM_LOST, error)

    def time_out(self) -> None:
        """Its deadline passes; whoever watches it closes it."""
        self.upstream.over = "lost"
        self.tell(ExchangeEvent.UPSTREAM_TIMED_OUT)

    def client_gone(self, status: int = 0) -> None:
        """The client's connection ends, or it is answered `status` by that connection."""
        self.client.over = self.client.over or "gone"
        self.tell(ExchangeEvent.CLIENT_LOST, status)

    def tunnel_ends(self, error: Exception | None = None, *, by_client: bool = True) -> None:
        assert self.client.on_end is not None
        before = self.state
        self.client.on_end(10, 20, error, by_client)
        assert self.state in TRANSITIONS[before][ExchangeEvent.TUNNEL_ENDED]

    # -- what must be true

    def record(self) -> Frame:
        """The one that there is."""
        (data,) = self.records
        return decode_payload(data)

    def check(self) -> None:
        """Whatever happened: nothing is there twice, and all of what was sent is the client's own."""
        assert len(self.records) <= 1
        assert self.counts["in_flight"] == (0 if self.state in (State.DONE, State.NEW) else 1)
        assert self.counts["tunnels"] == (1 if self.state is State.TUNNEL else 0)
        assert sum(dial.over is False for dial in self.dials) == (1 if self.state is State.CONNECTING else 0)
        at_hand = self.state in (State.SENDING, State.AWAITING_ANSWER, State.RELAYING)
        assert [up for up in self.upstreams if up.over is None] == ([self.upstream] if at_hand else [])

    def check_over(self, *, recorded: bool = True) -> None:
        """It is over, nothing is left of it, and it was written down once."""
        assert self.state is State.DONE
        self.check()
        assert self.client.over is not None
        assert len(self.records) == recorded
        assert self.context.budget.left == Budget().left
        assert self.counts["breaker_open"] == (self.breaker.is_open if CHALLENGER in self.pools else 0)
