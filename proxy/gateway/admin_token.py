"""The admin token on the public port: with it QA names the arm that answers a request."""

from __future__ import annotations

import math
from hmac import compare_digest

from proxy.clock import Clock
from proxy.gateway.errors import RejectedError
from proxy.gateway.head import RequestHead
from proxy.gateway.outbound import Peer
from proxy.limits import Guesses

__all__ = ["AdminToken"]


class AdminToken:
    """Compares what requests carry with the token, if there is one."""

    def __init__(self, token: str | None, clock: Clock) -> None:
        self._token = token.encode() if token else None
        self._guesses = Guesses(clock, where="x-ratchet-admin-token")

    def is_given(self, head: RequestHead) -> bool:
        """Whether the request carries the right one."""
        return self._token is not None and compare_digest(head.fields.get(b"x-ratchet-admin-token", b""), self._token)

    def hold_back_guesses(self, head: RequestHead, peer: Peer) -> None:
        """Refuse a request with one wrong admin token too many: else they could be tried here as fast as the model
        answers. Raises RejectedError."""
        if self._token is None or self.is_given(head):
            return
        if wait_s := self._guesses.wrong(peer.host.decode("latin-1")):
            raise RejectedError(429, "too many wrong admin tokens from this address (x-ratchet-admin-token); wait, "
            "then try again",
                                headers=b"Retry-After: %d\r\n" % math.ceil(wait_s))  # fmt: skip
