"""The lines that are added to requests, and what they are for: a request that comes back is not forwarded again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from proxy.config.model import Config
from proxy.gateway.backend import Router, adds_lines
from proxy.gateway.errors import RejectedError
from proxy.gateway.head import RequestHead
from proxy.gateway.outbound import Peer, copy_token, request_lines, via_token
from proxy.log_throttle import LogThrottle
from proxy.routes import RouteTable

__all__ = ["LoopGuard"]

_LOOP_S: Final = 60.0
"""A loop of which nothing was seen for so long has been mended."""
_log = logging.getLogger(__name__)


class LoopGuard:
    """Knows whether our own requests come back.

    By default we add no line to a request, so only the controller's question to the champion tells: where that
    comes back, requests are marked until the loop has been gone for a minute. Each is then forwarded once.
    """

    def __init__(
        self,
        config: Config,
        *,
        routes: Callable[[], RouteTable],
        router: Router,
        user_hash: Callable[[bytes], int],
        monotonic: Callable[[], float],
        log_throttle: LogThrottle,
    ) -> None:
        self._config = config
        self._routes = routes
        self._router = router
        self._user_hash = user_hash
        self._monotonic = monotonic
        self._log_throttle = log_throttle
        self.adds_lines = adds_lines(config)
        """Whether heads get lines of ours now, by setting or because of a loop."""
        self._looped_at: float | None = None
        """When one of our own requests came back last, monotonic seconds; None: we know of no loop."""

    def lines_for(self, head: RequestHead, peer: Peer) -> list[bytes]:
        """What is added to a request: whole lines without CRLF."""
        settings = self._config.gateway
        if self._looped_at is not None and self._monotonic() - self._looped_at > _LOOP_S:
            self._looped_at = None
            self._mark_requests(adds_lines(self._config))
        marked = settings.via or self._looped_at is not None
        return request_lines(head, peer, settings, via=via_token(self._user_hash) if marked else None)

    def refuse_loops(self, head: RequestHead) -> None:
        """Refuse a request that this install has sent itself. Raises RejectedError."""
        via = head.fields.get(b"via")
        if via is None or head.target.startswith(b"/-/"):
            return
        if copy_token(self._user_hash) in via:
            raise RejectedError(508, "a copy of a request came back to the proxy that made it: the challenger's URL "
                                     "leads back to this proxy", code="loop_detected")  # fmt: skip
        if via_token(self._user_hash) not in via:
            return
        if self._looped_at is None:
            self._mark_requests(True)
        self._looped_at = now = self._monotonic()
        if (before := self._log_throttle.of("loop", now)) is not None:
            more = f"; {before:,} more since the last line like this" if before else ""
            _log.error("a request forwarded to the champion came back: %s leads back to this proxy; set champion.url "
                       "to the model's server%s", self._routes().champion.url, more)  # fmt: skip
        raise RejectedError(508, "this request came back to the proxy that forwarded it: champion.url leads back to "
                                 "this proxy; set it to the model's server", code="loop_detected")  # fmt: skip

    def _mark_requests(self, marked: bool) -> None:
        """Whether requests need lines of ours from now on."""
        self.adds_lines = marked
        self._router.adding(marked)
