"""The gateway of one worker: what its connections share, and its beginning and end.

`Gateway(...).protocol_factory` goes to `loop.create_server`; `drain` waits for what is open, `close` ends it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

from policies.records import Arm
from proxy.clock import Clock, SystemClock
from proxy.config.model import Config
from proxy.config.serving import StickyConfig
from proxy.errors import ConfigError
from proxy.gateway.backend import Backend, Router, adds_lines
from proxy.gateway.client import ClientConnection
from proxy.gateway.deadlines import Deadlines
from proxy.gateway.errors import RejectedError
from proxy.gateway.head import RequestHead, RequestParser
from proxy.gateway.head_cache import CachedHead, HeadCache
from proxy.gateway.outbound import Peer, kept_from_trailers, request_lines, via_token
from proxy.gateway.pool import Address, UpstreamPool
from proxy.gateway.ports import GatewayCounters, MintsIds, RecordSpool, Redacts
from proxy.gateway.request_buffer import Budget
from proxy.gateway.sticky import StickySources
from proxy.gateway.trust import READ as TRUST_HEADERS
from proxy.gateway.trust import UserTrust
from proxy.limits import Guesses
from proxy.log_throttle import LogThrottle
from proxy.routes import RouteTable, Target
from proxy.spool.frames import KIND_EXCHANGE, encode_frame

__all__ = ["Gateway", "client_tls"]

_SWEEPS: Final = 8
_SHORTEST_SWEEP_S: Final = 0.01
_LONGEST_SWEEP_S: Final = 0.5
_LOOP_S: Final = 60.0
"""A loop of which nothing was seen for so long has been mended."""
_CUT_S: Final = 1.0
"""Longest wait for clients' connections that were cut to say so."""
_log = logging.getLogger(__name__)


class Gateway:
    """Forwards requests, and hands a frame per exchange to the spool."""

    def __init__(
        self,
        config: Config,
        *,
        routes: Callable[[], RouteTable],
        spool: RecordSpool,
        ids: MintsIds,
        user_hash: Callable[[bytes], int],
        counters: GatewayCounters,
        side_socket: Path | None = None,
        redact: Redacts | None = None,
        admin_token: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`routes` returns the current table, the same object until it changes. `side_socket` is where `/-/` is served.

        Raises ValueError where the first table cannot be followed.
        """
        self.config = config
        self.routes = routes
        self.spool = spool
        self.ids = ids
        self.user_hash = user_hash
        self.counters = counters
        self.count = counters.add
        self.redact = redact
        self.admin_token = admin_token.encode() if admin_token else None
        self.clock: Clock = clock or SystemClock()
        self._guesses = Guesses(self.clock, where="x-ratchet-admin-token")
        self.monotonic = self.clock.monotonic
        self.now = self.clock.now
        self.sticky = StickySources(config.sticky, config.capture.max_request_bytes)
        self.trust = UserTrust(config.sticky, user_hash, credentials_pass=config.champion.api_key is None)
        self._no_train_header = config.capture.no_train_header.lower().encode("latin-1")
        self._skip_paths = frozenset(path.encode("latin-1") for path in config.capture.skip_paths)
        self._parser = RequestParser(
            (*self.sticky.header_names, *TRUST_HEADERS, config.capture.no_train_header),
            recorded=config.capture.task_headers,
            max_headers=config.gateway.max_headers,
        )
        self.heads = HeadCache(self._parse)
        self.max_body_bytes = config.gateway.max_body_bytes
        self.max_head_bytes = config.gateway.max_head_bytes
        self.client_idle_s = config.gateway.client_idle_seconds
        self.captured_request_bytes = config.capture.max_request_bytes
        self.captured_response_bytes = config.capture.max_response_bytes
        self.refuses_when_full = config.spool.when_full == "refuse"
        self.captures = config.capture.enabled
        settings = config.sticky.conversation_fields
        self.leaves_conversations = self.captures and redact is None and settings == StickyConfig().conversation_fields
        """Whether whoever reads a record finds the conversation in its body."""
        self.adds_lines = adds_lines(config)
        self._looped_at: float | None = None
        """When one of our own requests came back last, monotonic seconds; None: we know of no loop."""
        self.kept_from_trailers = kept_from_trailers(config.champion.api_key_header)
        self.fallback_statuses = frozenset(config.gateway.fallback_statuses)
        self.rewrites_locations = config.gateway.rewrite_locations
        self.budget = Budget()
        self.complaints = LogThrottle()
        self.draining = False
        """No new requests are wanted: every answer closes its connection."""
        self.cutting = False
        """The time to finish is over: what is open now is being cut."""
        self._open_breakers = 0
        self.router = Router(config, self._pool, on_change=self.breaker_changed)
        self._deadlines = Deadlines(self.clock, _sweep_s(config))
        self._clients: set[ClientConnection] = set()
        self._waiting: dict[ClientConnection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.internal = self._internal(side_socket) if side_socket is not None else None
        self.router.resolve(routes())

    def hold_back_guesses(self, head: RequestHead, peer: Peer) -> None:
        """Refuse a request with one wrong admin token too many: else they could be tried here as fast as the model
        answers. Raises RejectedError."""
        given = head.fields[b"x-ratchet-admin-token"]
        if self.admin_token is None or compare_digest(given, self.admin_token):
            return
        if wait_s := self._guesses.wrong(peer.host.decode("latin-1")):
            raise RejectedError(429, "too many wrong admin tokens from this address (x-ratchet-admin-token); wait, "
                                     "then try again",
                                headers=b"Retry-After: %d\r\n" % math.ceil(wait_s))  # fmt: skip

    def protocol_factory(self) -> ClientConnection:
        """For `loop.create_server`."""
        return ClientConnection(self)

    @property
    def open_requests(self) -> int:
        """Requests whose answer is not complete, tunnels included."""
        return sum(client.exchange is not None for client in self._clients)

    async def drain(self, timeout_s: float) -> bool:
        """Let open requests finish for at most `timeout_s` seconds, then cut them; True if none was cut."""
        self.draining = True
        for client in [client for client in self._clients if client.exchange is None]:
            client.linger_close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            await self._cut()
            return False
        return True

    async def close(self) -> None:
        """End everything at once, within about two seconds: what does not end by then is left to the process's end."""
        self.draining = True
        if not self.cutting:
            await self._cut()
        pools = [*self.router.pools, *([self.internal.pool] if self.internal is not None else [])]
        await asyncio.gather(*(pool.close() for pool in pools))
        self._deadlines.close()

    async def _cut(self) -> None:
        """Break off what clients are still open, and have it written down."""
        self.cutting = True
        for client in list(self._clients):
            client.transport.abort()
        try:
            async with asyncio.timeout(_CUT_S):
                await self._empty.wait()
        except TimeoutError:
            if self._clients:
                _log.error("%d client connections were still open at the end", len(self._clients))

    # -- called by connections

    def register(self, client: ClientConnection) -> bool:
        """Count a new connection in; False where it has to wait for another one to end."""
        if self.cutting:  # accepted in the last moment
            client.transport.abort()
        self._clients.add(client)
        self._empty.clear()
        self._deadlines.watch(client)
        self.counters.add("client_connections")
        if len(self._clients) <= self.config.gateway.max_connections:
            return True
        self._waiting[client] = None
        return False

    def unregister(self, client: ClientConnection) -> None:
        """Count a connection out, and admit one that waits."""
        self._deadlines.forget(client)
        self._clients.discard(client)
        self.counters.add("client_connections", -1.0)
        if client in self._waiting:
            del self._waiting[client]
        elif self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.admit()
        if not self._clients:
            self._empty.set()

    def rejected(self, status: int) -> None:
        """Count a request that was refused for its form."""
        self.counters.add(f'protocol_errors_total{{status="{status}"}}')

    def keep_clean(self, meta: dict[str, Any], request: bytes, response: bytes) -> None:
        """Write down an exchange that was cleaned."""
        self.spool.append(encode_frame(KIND_EXCHANGE, meta, request, response))

    def breaker_changed(self) -> None:
        """Publish how many models are being spared."""
        now_open = self.router.open_breakers
        if now_open != self._open_breakers:
            self.counters.add("breaker_open", now_open - self._open_breakers)
            self._open_breakers = now_open

    def lines_for(self, head: RequestHead, peer: Peer) -> list[bytes]:
        """What is added to a request: whole lines without CRLF."""
        settings = self.config.gateway
        if self._looped_at is not None and self.monotonic() - self._looped_at > _LOOP_S:
            self._looped_at = None
            self._mark_requests(adds_lines(self.config))
        marked = settings.via or self._looped_at is not None
        return request_lines(head, peer, settings, via=via_token(self.user_hash) if marked else None)

    def _mark_requests(self, marked: bool) -> None:
        """Whether requests need lines of ours from now on."""
        self.adds_lines = marked
        self.router.adding(marked)

    def _refuse_loops(self, head: RequestHead) -> None:
        """Refuse a request that this install has sent itself. Raises RejectedError.

        By default we add no line to a request, so only the controller's question to the champion tells: where that
        comes back, requests are marked until the loop has been gone for a minute. Each is then forwarded once.
        """
        if via_token(self.user_hash) not in head.fields[b"via"]:
            return
        if self._looped_at is None:
            self._mark_requests(True)
        self._looped_at = now = self.monotonic()
        if (before := self.complaints.of("loop", now)) is not None:
            more = f"; {before:,} more since the last line like this" if before else ""
            _log.error("a request forwarded to the champion came back: %s leads back to this proxy; set champion.url "
                       "to the model's server%s", self.routes().champion.url, more)  # fmt: skip
        raise RejectedError(508, "this request came back to the proxy that forwarded it: champion.url leads back to "
                                 "this proxy; set it to the model's server", code="loop_detected")  # fmt: skip

    def _parse(self, data: bytes, end: int) -> CachedHead:
        head = self._parser.parse(data, end)
        if b"via" in head.fields and not head.target.startswith(b"/-/"):
            self._refuse_loops(head)
        conversation = self.sticky.conversation_in_head(head.fields)
        return CachedHead(
            head,
            key=self.sticky.from_head(head.fields),
            skip_paths=self._skip_paths,
            no_train_header=self._no_train_header,
            conversation=conversation,
            conversation_hash=None if conversation is None else self.user_hash(conversation),
        )

    def _pool(self, address: Address) -> UpstreamPool:
        return UpstreamPool(
            address, self.config.gateway, clock=self.clock, deadlines=self._deadlines, counters=self.counters
        )

    def _internal(self, path: Path) -> Backend:
        target = Target(model_id=0, name="side", url="http://side")
        return Backend(Arm.CHAMPION, target, self._pool(Address(path=path)), None, None, verbatim=False)


def _sweep_s(config: Config) -> float:
    """Time-outs are checked several times within the shortest of them."""
    gateway = config.gateway
    shortest = min(
        gateway.first_byte_timeout_seconds,
        gateway.idle_timeout_seconds,
        gateway.head_timeout_seconds,
        gateway.body_idle_seconds,
        gateway.client_idle_seconds,
        gateway.upstream_idle_seconds,
    )
    return min(_LONGEST_SWEEP_S, max(_SHORTEST_SWEEP_S, shortest / _SWEEPS))


def client_tls(config: Config) -> ssl.SSLContext | None:
    """The TLS context of the public port, or None where it speaks plain HTTP. Raises ConfigError."""
    server = config.server
    if server.tls_cert_file is None or server.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for setting, file in (("tls_cert_file", server.tls_cert_file), ("tls_key_file", server.tls_key_file)):
        try:
            Path(file).read_bytes()
        except OSError as exc:
            raise ConfigError(f"server.{setting}: {file} cannot be read ({exc.strerror}); check the path and its "
                              "permissions") from exc  # fmt: skip
    try:
        context.load_cert_chain(server.tls_cert_file, server.tls_key_file)
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(
            f"server.tls_cert_file {server.tls_cert_file}, server.tls_key_file {server.tls_key_file}: "
            f"cannot be loaded: {exc}; both must be PEM files, and the key must fit the certificate"
        ) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
