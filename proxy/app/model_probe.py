"""One harmless question to a model's server: is anybody there, and is that a server of a model?

`GET …/v1/models` costs no tokens and changes nothing. Any answer of its own is a sign of life, for servers of models
differ in what they know: a 404 is one, and a 401 where no key of ours was refused.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from socket import gaierror
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from proxy.gateway.faults import Fault
from proxy.loop.adapters.session import open_session

__all__ = ["describe", "probe_model"]

_TIMEOUT_S: Final = 5.0
_CONNECT_S: Final = 4.0
"""Of that for the look-up of its name and the connection: who is late there is no server that hangs."""
_WORDS: Final = {
    Fault.REFUSED: ("connection refused", "start the model's server, or correct champion.url"),
    Fault.UNRESOLVED: (
        "the host name could not be resolved",
        "check the host in champion.url and the DNS server",
    ),
    Fault.NO_CONNECTION: ("connecting timed out", "check champion.url, DNS, the firewall and the network"),
    Fault.UNREACHABLE: ("the host cannot be reached", "check champion.url, the firewall and the network"),
    Fault.TLS: (
        "the TLS handshake failed",
        "check the server's certificate (champion.ca_file, where a private authority made it), and http or https in "
        "champion.url",
    ),
    Fault.CLOSED: ("the connection was closed without an answer", "see the log of the model's server"),
    Fault.NO_HTTP: ("the answer was not HTTP/1", "check http or https, and the port, in champion.url"),
    Fault.SILENT: ("no answer in time", "check whether the model's server is overloaded or hangs"),
    Fault.BROKEN_OFF: ("answers were cut off", "see the log of the model's server"),
    Fault.STATUS_508: ("508 Loop Detected", "champion.url leads back to this proxy; set it to the model's server"),
}
_LOOK: Final = "see the log of the model's server"


def describe(fault: Fault) -> tuple[str, str]:
    """What went wrong, and what to do about it."""
    return _WORDS.get(fault) or (f"status {fault.value}", _LOOK)


async def probe_model(
    url: str, *, credential: tuple[str, str] | None = None, via: str = "", tls: ssl.SSLContext | None = None
) -> str:
    """What speaks against the server at the base URL, with a remedy; empty where it answers like one.

    `credential`: name and value of the header that carries our own key; `via`: how the request names us;
    `tls`: whom we trust beside the system's authorities.
    """
    headers = dict([credential] if credential else [])
    if via:
        headers["Via"] = f"1.1 {via}"
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, connect=_CONNECT_S)
        async with (
            open_session(timeout, tls) as client,
            client.get(_models_url(url), headers=headers, allow_redirects=False) as answer,
        ):
            return _judged(url, answer.status, answer.headers, with_key=credential is not None)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as exc:
        what, remedy = describe(_fault(exc))
        return f"{what} at {url}; {remedy}"


def _judged(url: str, status: int, headers: Mapping[str, str], *, with_key: bool) -> str:
    if status == 508:
        what, remedy = describe(Fault.STATUS_508)
        return f"{what} at {url}: {remedy}"
    if status >= 500 and status != 501:  # as 405: a server that knows no GET, which a model's need not
        return f"{url} answers a plain GET with {status}; {_LOOK}"
    if status in (401, 403) and with_key:
        return f"{url} refuses our API key ({status}); check champion.api_key and champion.api_key_header"
    if status in (301, 302, 307, 308):
        return f"{url} redirects to {headers.get('Location', 'another address')}; set champion.url to that"
    if status == 200 and headers.get("Content-Type", "").lower().startswith("text/html"):
        return f"{url} answers with a web page, not as a model's server; check champion.url"
    return ""


def _models_url(url: str) -> str:
    path = urlsplit(url).path.rstrip("/")
    return url.rstrip("/") + ("/models" if path.endswith(("/v1", "/v1beta")) else "/v1/models")


def _fault(error: BaseException) -> Fault:
    cause = getattr(error, "os_error", None) or error
    match cause:
        case gaierror():
            return Fault.UNRESOLVED
        case ssl.SSLError() | aiohttp.ClientSSLError():
            return Fault.TLS
        case ConnectionRefusedError():
            return Fault.REFUSED
        case aiohttp.ConnectionTimeoutError():
            return Fault.NO_CONNECTION
        case TimeoutError():
            return Fault.SILENT
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return Fault.CLOSED
        case aiohttp.ClientResponseError():
            return Fault.NO_HTTP
        case _:
            return Fault.UNREACHABLE
