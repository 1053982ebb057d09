"""The hot path: HTTP/1.1 in, HTTP/1.1 out, a frame in the spool. `exchange.py` is one request from top to bottom."""

from proxy.gateway.counters import GATEWAY_COUNTERS
from proxy.gateway.gateway import Gateway

__all__ = ["GATEWAY_COUNTERS", "Gateway"]
