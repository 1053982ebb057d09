"""A route table made ready: its targets with their connections, credentials and breakers, and the salt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson

from policies.assignment import assign, is_held_back
from policies.records import Arm, StickySource
from policies.rewrite import RewriteError
from proxy.config.model import Config
from proxy.credentials import CHAMPION, CredentialFile, UnknownCredentialError
from proxy.errors import ConfigError
from proxy.gateway.address import Address
from proxy.gateway.breaker import Breaker
from proxy.gateway.faults import answered_slot
from proxy.gateway.outbound import CREDENTIALS, CredentialLine
from proxy.gateway.ports import CredentialOf, MakesPools, Pool
from proxy.routes import RouteTable, Target
from proxy.users.sticky import StickyKey

if TYPE_CHECKING:
    from proxy.wire.rewriting import Rewriter

__all__ = ["Backend", "ResolvedRoutes", "Router", "adds_lines", "parse_url", "rewriter_of"]

_log = logging.getLogger(__name__)
_REMEMBERED_USERS: Final = 16384
"""Whose model is known without the hash, which costs as much as ten looks into a dictionary."""
_LONGEST_REMEMBERED: Final = 256
_PORTS: Final = {"http": 80, "https": 443}


class Backend:
    """One arm's model: where it is, how to speak to it, and whether to."""

    __slots__ = (
        "answered",
        "arm",
        "breaker",
        "credential",
        "facts",
        "host_line",
        "pool",
        "prefix",
        "rewriter",
        "target",
        "verbatim",
    )

    def __init__(
        self,
        arm: Arm,
        target: Target,
        pool: Pool,
        breaker: Breaker | None,
        credential: CredentialLine | None,
        rewriter: Rewriter | None = None,
        *,
        verbatim: bool,
    ) -> None:
        self.arm = arm
        self.answered = answered_slot(arm.label)
        """The counter of its answers."""
        self.target = target
        self.pool = pool
        self.breaker = breaker
        self.credential = credential
        address, self.prefix = parse_url(target.url)
        self.facts = b""
        """What a record says where it was assigned and has served: see ResolvedRoutes.facts."""
        self.rewriter = rewriter
        """What asks this model otherwise than its clients do; None: nothing does."""
        self.verbatim = verbatim and target.model is None and rewriter is None
        """Whether a head that is rendered once for this model is good for every client and body."""
        self.host_line = b"Host: " + _authority(address)


class ResolvedRoutes:
    """One route table, ready to be followed. Compares by identity: a new table makes new ones."""

    __slots__ = (
        "_chosen",
        "asks_otherwise",
        "challenger",
        "champion",
        "control",
        "copies",
        "needs_users",
        "rewrites",
        "salt",
        "share",
        "splits",
        "table",
    )

    def __init__(
        self, table: RouteTable, champion: Backend, challenger: Backend | None, control: Backend | None = None
    ) -> None:
        """Of challenger and control there is one at most."""
        self.table = table
        self.champion = champion
        self.challenger = challenger
        self.control = control
        self.share = table.share if control is None else table.control_share
        """Of the users who are not the champion's."""
        self.salt = bytes.fromhex(table.salt)
        backends = [backend for backend in (champion, challenger, control) if backend is not None]
        self.rewrites = any(backend.target.model is not None for backend in backends)
        """Whether a request may need another model's name in its body."""
        self.asks_otherwise = any(backend.rewriter is not None for backend in backends)
        """Whether some requests are rewritten: what cannot be is no evidence then."""
        self.splits = len(backends) > 1 and self.share > 0.0
        """Whether the sticky key decides anything."""
        self.copies = table.copies
        """Whether a challenger without users gets copies of requests."""
        self.needs_users = self.splits or self.copies or table.experiment_id is not None
        """Whether it matters now whose a request is; else it is enough that the record shows it."""
        self._chosen: dict[bytes, Backend] = {}
        for backend in backends:
            backend.facts = self.facts(backend.arm, backend, True)

    def facts(self, assigned: Arm, served_by: Backend, is_exposure: bool, rewritten: bool = True) -> bytes:
        """What a record says of the table, the arms and the model: members of a JSON object.

        `is_exposure`: whether the request is evidence in the experiment; `rewritten`: whether it could be, where this
        model is asked otherwise.
        """
        table, target = self.table, served_by.target
        members = {
            "arm": int(assigned),
            "srv": int(served_by.arm),
            "mid": target.model_id,
            "mn": target.name,
            "exp": table.experiment_id if is_exposure else None,
            "ep": table.epoch,
            "cfg": table.config_id,
        }
        if served_by.rewriter is not None and rewritten:
            members["rw"] = True
        return orjson.dumps(members)[1:-1]

    def backend_for(self, key: StickyKey) -> Backend:
        """Which model serves the user with this key."""
        name, source = key
        backend = self._chosen.get(name)
        if backend is None:
            backend = self._choice(name)
            if source is not StickySource.RANDOM and len(name) <= _LONGEST_REMEMBERED:  # comes again
                if len(self._chosen) >= _REMEMBERED_USERS:
                    self._chosen.clear()
                self._chosen[name] = backend
        return backend

    def _choice(self, key: bytes) -> Backend:
        if self.challenger is not None and assign(self.salt, key, self.share) is Arm.CHALLENGER:
            return self.challenger
        if self.control is not None and is_held_back(self.salt, key, self.share):
            return self.control
        return self.champion


class Router:
    """Resolves route tables; connections and breakers live on while their URL stays in the table."""

    def __init__(
        self,
        config: Config,
        make_pool: MakesPools,
        count: Callable[[str, float], None],
        credentials: CredentialOf | None = None,
    ) -> None:
        """`count` adds to a counter. Without `credentials` there are none but the configured champion's."""
        self._config = config
        self._credentials = credentials or CredentialFile(None, config.champion).header
        self._credential_names = CREDENTIALS | {config.champion.api_key_header.lower().encode("latin-1")}
        self._count = count
        self._open_breakers = 0
        self._make_pool = make_pool
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        self._breakers: dict[tuple[int, str], Breaker] = {}
        self._resolved: ResolvedRoutes | None = None
        self._table: RouteTable | None = None
        self._verbatim = not adds_lines(config)

    def resolve(self, table: RouteTable) -> ResolvedRoutes:
        """`table` made ready; the same object for the same table.

        A table that cannot be followed is logged, and the last good one goes on serving. Raises ValueError
        (ConfigError is one) where there is none yet.
        """
        if table is self._table and self._resolved is not None:
            return self._resolved
        self._table = table
        try:
            self._resolved = self._resolve(table)
        except ValueError as exc:
            if self._resolved is None:
                raise
            _log.error("route table version %d cannot be used, the last good one stays in use: %s", table.version, exc)
        self.breaker_changed()
        return self._resolved

    def _resolve(self, table: RouteTable) -> ResolvedRoutes:
        champion = self._backend(Arm.CHAMPION, table.champion)
        challenger = self._beside(Arm.CHALLENGER, table.challenger)
        control = self._beside(Arm.CONTROL, table.control)
        if (challenger is None) != (table.challenger is None) or (control is None) != (table.control is None):
            # nothing here is evidence then
            table = replace(table, challenger=None, share=0.0, control=None, control_share=0.0, experiment_id=None)
        routes = ResolvedRoutes(table, champion, challenger, control)
        self._forget_all_but(champion, challenger or control)
        return routes

    def _beside(self, arm: Arm, target: Target | None) -> Backend | None:
        """The model that has some of the users; whatever is wrong with it, the champion has to answer."""
        try:
            return None if target is None else self._backend(arm, target)
        except ValueError as exc:
            _log.error("%s gets no users here: %s", target and target.name, exc)
            return None

    def for_copies(self, target: Target, pool: Pool) -> Backend:
        """`target`, asked as in a test, over a pool of its own and without a breaker. Raises ValueError."""
        return self._made(Arm.CHALLENGER, target, pool, None)

    def adding(self, adds: bool) -> None:
        """Whether lines are added to heads from the next request on."""
        self._verbatim = not adds
        if self._resolved is not None:
            self._resolved = self._resolve(self._resolved.table)

    def breaker_changed(self) -> None:
        """Publish how many models are being spared."""
        now_open = sum(breaker.is_open for breaker in self._breakers.values())
        if now_open != self._open_breakers:
            self._count("breaker_open", now_open - self._open_breakers)
            self._open_breakers = now_open

    @property
    def pools(self) -> list[Pool]:
        """Those in use, and those that still have connections."""
        return [*self._pools.values(), *self._retired]

    def _backend(self, arm: Arm, target: Target) -> Backend:
        origin = target.url
        pool = self._pools.get(origin)
        if pool is None:
            address, _ = parse_url(origin)
            pool = self._pools[origin] = self._make_pool(address)
        breaker = None
        if arm is not Arm.CHAMPION:
            breaker = self._breakers.setdefault((target.model_id, origin), Breaker(self._config.gateway.breaker))
        return self._made(arm, target, pool, breaker)

    def _made(self, arm: Arm, target: Target, pool: Pool, breaker: Breaker | None) -> Backend:
        credential, rewriter = self._means(target, lenient=arm is Arm.CHAMPION)
        return Backend(arm, target, pool, breaker, credential, rewriter, verbatim=self._verbatim)

    def _means(self, target: Target, *, lenient: bool) -> tuple[CredentialLine | None, Rewriter | None]:
        """How `target` is asked. `lenient`: what of that cannot be had is left out, for somebody has to answer; else it
        raises UnknownCredentialError, RewriteError."""
        credential, rewriter = None, None
        try:
            credential = self.credential(target)
        except UnknownCredentialError as exc:
            if not lenient:
                raise
            _log.error("%s is asked without an API key: %s", target.name, exc)
            credential = self._line(None)
        try:
            rewriter = rewriter_of(target)
        except RewriteError as exc:
            if not lenient:
                raise
            _log.error("%s is asked as its clients ask: %s", target.name, exc)
        return credential, rewriter

    def credential(self, target: Target) -> CredentialLine | None:
        """What `target` gets in place of the client's credential; None: the client's own passes.

        Raises UnknownCredentialError where it is to have one that is not here.
        """
        name = target.credential
        if name is None or (name == CHAMPION and self._config.champion.api_key is None):
            return None
        return self._line(self._credentials(name, target.url))

    def _line(self, header: tuple[str, str] | None) -> CredentialLine:
        line = b"" if header is None else ": ".join(header).encode("latin-1")
        return CredentialLine(line, self._credential_names | {line.partition(b":")[0].lower()})

    def _forget_all_but(self, champion: Backend, other: Backend | None) -> None:
        kept = {backend.target.url for backend in (champion, other) if backend is not None}
        self._retired = [pool for pool in self._retired if pool.open]
        for url in self._pools.keys() - kept:
            pool = self._pools.pop(url)
            pool.retire()
            self._retired.append(pool)
        breakers = {(other.target.model_id, other.target.url)} if other is not None else set()
        for key in self._breakers.keys() - breakers:
            del self._breakers[key]


def rewriter_of(target: Target) -> Rewriter | None:
    """What asks `target` otherwise, if anything does. Raises RewriteError.

    Its JSON library is loaded where there is something to rewrite: that takes its time.
    """
    if target.rewrite is None:
        return None
    from proxy.wire.rewriting import Rewriter

    return Rewriter(target.rewrite)


def adds_lines(config: Config) -> bool:
    """Whether some lines are to be added to heads that depend on the client or the arm."""
    return config.gateway.via or config.gateway.expose_arm or config.gateway.forwarded_headers


def parse_url(url: str) -> tuple[Address, bytes]:
    """Address and path prefix (no slash at its end) of a model's base URL. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{url!r} is not a URL: {exc}") from exc
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(f"{url!r}: write it as http://host:port or https://host/prefix")
    address = Address(host=parts.hostname, port=port or _PORTS[parts.scheme], tls=parts.scheme == "https")
    try:
        return address, parts.path.rstrip("/").encode("ascii")
    except UnicodeEncodeError:
        raise ConfigError(f"{url!r}: its path has letters that no request line may have") from None


def _authority(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    default = _PORTS["https" if address.tls else "http"]
    return (host if address.port == default else f"{host}:{address.port}").encode(
        "idna" if not host.isascii() else "ascii"
    )
