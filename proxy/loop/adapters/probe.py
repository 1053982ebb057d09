"""Is a model alive that we did not deploy? One GET on its base URL; any answer but a gateway's error counts.

Where the settings trust URLs unseen (`health_check = "false"`, for hosted APIs), nothing is asked.
"""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from proxy.loop.adapters.session import open_session

__all__ = ["HttpProbe"]

_DEAD: Final = frozenset({502, 503, 504})


class HttpProbe:
    """Asks over HTTP. Knows no paths of the model: a 404 or a 401 is a sign of life, too."""

    def __init__(self, *, timeout_s: float = 5.0, trusting: bool = False, tls: ssl.SSLContext | None = None) -> None:
        """`trusting`: every model is taken to be alive. `tls`: whom to trust beside the system's authorities."""
        self._tls = tls
        self._trusting = trusting
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def answers(self, url: str) -> bool:
        """Whether a server at the base URL answers at all within the time-out."""
        if self._trusting:
            return True
        try:
            session = open_session(self._timeout, self._tls)
            async with session as client, client.get(url, allow_redirects=False) as response:
                return response.status not in _DEAD
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
