"""Why a model's server failed a request, as a closed set: what the counters are named by, and what people are told.

An answer has failed where `policies.records.Outcome` says so, or where the server itself said 5xx. Each is counted
once, for the model that was asked; a refusal (4xx) is an answer, and counted beside.
"""

from __future__ import annotations

import socket
import ssl
from enum import StrEnum
from typing import Final

from policies.records import Arm
from proxy.gateway.errors import BadResponseError
from proxy.gateway.framing import FramingError

__all__ = ["ARMS", "COPY_FAULTS", "REFUSALS", "CopyFault", "Fault", "answered_slot", "failed_slot",
           "fault_of_connecting", "fault_of_ending", "fault_of_status", "left_slot", "refused_slot"]  # fmt: skip


class Fault(StrEnum):
    """What went wrong with a request at the model's server."""

    REFUSED = "refused"
    """Nothing listens there."""
    UNRESOLVED = "unresolved"
    """The host has no address."""
    NO_CONNECTION = "no_connection"
    """No connection in time (gateway.connect_timeout_seconds)."""
    UNREACHABLE = "unreachable"
    """Any other reason for which no connection could be made."""
    TLS = "tls"
    """A connection, but no TLS on it."""
    CLOSED = "closed"
    """The connection ended before the answer began."""
    NO_HTTP = "no_http"
    """What came was no HTTP/1 response."""
    SILENT = "silent"
    """Nothing came in time (gateway.first_byte_timeout_seconds, gateway.idle_timeout_seconds)."""
    BROKEN_OFF = "broken_off"
    """The answer ended in the middle."""
    STATUS_500 = "500"
    STATUS_502 = "502"
    STATUS_503 = "503"
    STATUS_504 = "504"
    STATUS_508 = "508"
    STATUS_529 = "529"
    OTHER_5XX = "5xx"


class CopyFault(StrEnum):
    """What else may go wrong with the copy of a request, which no user waits for."""

    REFUSED = "4xx"
    LATE = "late"
    """No whole answer within gateway.shadow_timeout_seconds."""
    TOO_LONG = "too_long"
    """The answer is longer than capture.max_response_bytes."""


COPY_FAULTS: Final = (*(fault.value for fault in Fault), *(fault.value for fault in CopyFault))
_REFUSALS: Final = {401: "401", 403: "403", 404: "404", 429: "429"}
_OTHER_4XX: Final = "4xx"
REFUSALS: Final = (*_REFUSALS.values(), _OTHER_4XX)
"""As what a 4xx is counted."""
_STATUSES: Final = {int(fault): fault for fault in Fault if fault.isdigit()}
ARMS: Final = tuple(arm.label for arm in Arm)


def answered_slot(arm: str) -> str:
    """Counts the requests that were answered, in whatever way, or failed."""
    return f'answers_total{{arm="{arm}"}}'


def failed_slot(arm: str, fault: Fault) -> str:
    """Counts those among them that failed."""
    return f'failed_answers_total{{arm="{arm}",cause="{fault.value}"}}'


def refused_slot(arm: str, status: int) -> str:
    """Counts those among them that were refused with that 4xx."""
    return f'refused_answers_total{{arm="{arm}",status="{_REFUSALS.get(status, _OTHER_4XX)}"}}'


def left_slot(arm: str) -> str:
    """Counts clients that had waited for a second at least, and left before the answer began."""
    return f'left_waiting_total{{arm="{arm}"}}'


def fault_of_connecting(error: Exception) -> Fault:
    """Why no connection could be made."""
    match error:
        case ssl.SSLError():
            return Fault.TLS
        case socket.gaierror():
            return Fault.UNRESOLVED
        case ConnectionRefusedError():
            return Fault.REFUSED
        case TimeoutError():
            return Fault.NO_CONNECTION
        case ConnectionError():
            return Fault.CLOSED
        case _:
            return Fault.UNREACHABLE


def fault_of_ending(error: Exception | None, *, begun: bool) -> Fault:
    """Why an answer never became whole; `begun`: something of it has reached the client."""
    if begun:
        return Fault.BROKEN_OFF
    return Fault.NO_HTTP if isinstance(error, (BadResponseError, FramingError)) else Fault.CLOSED


def fault_of_status(status: int) -> Fault:
    """What a 5xx counts as."""
    return _STATUSES.get(status, Fault.OTHER_5XX)
