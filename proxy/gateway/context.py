"""What a connection and its exchange need from their worker, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from policies.records import Arm
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.config.serving import GatewayConfig, StickyConfig
from proxy.gateway.address import Address
from proxy.gateway.admin_token import AdminToken
from proxy.gateway.backend import Backend, Router
from proxy.gateway.head import RequestParser
from proxy.gateway.head_cache import CachedHead, HeadCache
from proxy.gateway.loop_guard import LoopGuard
from proxy.gateway.outbound import kept_from_trailers
from proxy.gateway.ports import CredentialOf, GatewayCounters, MakesPools, MintsIds, Pool, RecordSpool, Redacts
from proxy.gateway.request_buffer import Budget
from proxy.gateway.shadow import Shadow
from proxy.gateway.trust import READ as TRUST_HEADERS
from proxy.gateway.trust import UserTrust
from proxy.log_throttle import LogThrottle
from proxy.routes import RouteTable, Target
from proxy.users.sticky import StickySources

__all__ = ["Shutdown", "WorkerContext", "worker_context"]


class Shutdown:
    """How far the end of the worker is. The only thing here that changes by itself."""

    __slots__ = ("cutting", "draining")

    def __init__(self) -> None:
        self.draining = False
        """No new requests are wanted: every answer closes its connection."""
        self.cutting = False
        """The time to finish is over: what is open now is being cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """The same for all requests of a worker. Sizes are bytes; 0 means no limit where a setting says so."""

    gateway: GatewayConfig
    max_body_bytes: int
    captured_request_bytes: int
    captured_response_bytes: int
    captures: bool
    """Whether records keep bodies."""
    leaves_users: bool
    """Whether whoever reads a record finds in its body whom that names."""
    leaves_conversations: bool
    """Whether whoever reads a record finds the conversation in its body."""
    refuses_when_full: bool
    """Whether a request that cannot be recorded is refused."""
    fallback_statuses: frozenset[int]
    kept_from_trailers: frozenset[bytes]

    now: Callable[[], float]
    """Unix seconds, UTC."""
    monotonic: Callable[[], float]
    """Seconds."""
    count: Callable[..., None]
    """`count(name, amount=1.0)` adds to one of GATEWAY_COUNTERS."""

    routes: Callable[[], RouteTable]
    """The current table, the same object until it changes."""
    router: Router
    internal: Backend | None
    """Where `/-/` is served."""
    heads: HeadCache[CachedHead]
    sticky: StickySources
    trust: UserTrust
    admin: AdminToken
    loops: LoopGuard

    ids: MintsIds
    user_hash: Callable[[bytes], int]
    spool: RecordSpool
    redact: Redacts | None
    shadow: Shadow | None
    """Who copies requests for a challenger without users."""
    budget: Budget = field(default_factory=Budget)
    log_throttle: LogThrottle
    shutdown: Shutdown = field(default_factory=Shutdown)


def worker_context(
    config: Config,
    *,
    routes: Callable[[], RouteTable],
    spool: RecordSpool,
    ids: MintsIds,
    user_hash: Callable[[bytes], int],
    counters: GatewayCounters,
    make_pool: MakesPools,
    clock: Clock,
    side_socket: Path | None = None,
    redact: Redacts | None = None,
    admin_token: str | None = None,
    credentials: CredentialOf | None = None,
    make_shadow: Callable[[Router], Shadow] | None = None,
) -> WorkerContext:
    """The context of a worker with these settings. `side_socket` is where `/-/` is served; without `make_shadow` no
    request is copied.

    Raises ValueError where the first table cannot be followed.
    """
    count, monotonic, log_throttle = counters.add, clock.monotonic, LogThrottle()
    router = Router(config, make_pool, count, credentials)
    loops = LoopGuard(
        config, routes=routes, router=router, user_hash=user_hash, monotonic=monotonic, log_throttle=log_throttle
    )
    sticky = StickySources(config.sticky, config.capture.max_request_bytes)
    settings = config.sticky.conversation_fields
    captures = config.capture.enabled
    router.resolve(routes())
    return WorkerContext(
        gateway=config.gateway,
        max_body_bytes=config.gateway.max_body_bytes,
        captured_request_bytes=config.capture.max_request_bytes,
        captured_response_bytes=config.capture.max_response_bytes,
        captures=captures,
        leaves_users=captures and redact is None,
        leaves_conversations=captures and redact is None and settings == StickyConfig().conversation_fields,
        refuses_when_full=config.spool.when_full == "refuse",
        fallback_statuses=frozenset(config.gateway.fallback_statuses),
        kept_from_trailers=kept_from_trailers(config.champion.api_key_header),
        now=clock.now,
        monotonic=monotonic,
        count=count,
        routes=routes,
        router=router,
        internal=_internal(make_pool(Address(path=side_socket))) if side_socket is not None else None,
        heads=HeadCache(_HeadReader(config, sticky, user_hash, loops).read),
        sticky=sticky,
        trust=UserTrust(config.sticky, user_hash, credentials_pass=config.champion.api_key is None),
        admin=AdminToken(admin_token, clock),
        loops=loops,
        ids=ids,
        user_hash=user_hash,
        spool=spool,
        redact=redact,
        shadow=make_shadow(router) if make_shadow is not None else None,
        log_throttle=log_throttle,
    )


class _HeadReader:
    """Reads the heads of requests that were not seen before."""

    def __init__(
        self, config: Config, sticky: StickySources, user_hash: Callable[[bytes], int], loops: LoopGuard
    ) -> None:
        self._sticky = sticky
        self._user_hash = user_hash
        self._loops = loops
        self._no_train_header = config.capture.no_train_header.lower().encode("latin-1")
        self._skip_paths = frozenset(path.encode("latin-1") for path in config.capture.skip_paths)
        self._parser = RequestParser(
            (*sticky.header_names, *TRUST_HEADERS, config.capture.no_train_header),
            recorded=config.capture.recorded_headers,
            max_headers=config.gateway.max_headers,
        )

    def read(self, data: bytes, end: int) -> CachedHead:
        """The head in `data`, whose empty line begins at `end`. Raises RejectedError."""
        head = self._parser.parse(data, end)
        self._loops.refuse_loops(head)
        conversation = self._sticky.conversation_in_head(head.fields)
        return CachedHead(
            head,
            key=self._sticky.from_head(head.fields),
            skip_paths=self._skip_paths,
            no_train_header=self._no_train_header,
            conversation=conversation,
            conversation_hash=None if conversation is None else self._user_hash(conversation),
        )


def _internal(pool: Pool) -> Backend:
    target = Target(model_id=0, name="side", url="http://side")
    return Backend(Arm.CHAMPION, target, pool, None, None, verbatim=False)
