"""The record of an exchange as the spool keeps it: facts under short names, and the captured bodies as they were.

The names are a contract with the ingest (docs/reference/records.md). Durations are microseconds. No credential and no
cookie is ever among them, and users appear as keyed hashes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from policies.records import Outcome, StickySource
from proxy.spool.frames import KIND_EXCHANGE, encode_frame

if TYPE_CHECKING:
    from proxy.gateway.exchange import Exchange

__all__ = ["frame_of"]

_RANDOM: Final = StickySource.RANDOM
_FALLBACKS: Final = {
    None: b"null",
    "breaker": b'"breaker"',
    "connect": b'"connect"',
    "status": b'"status"',
    "timeout": b'"timeout"',
}
_FACTS: Final = (
    b'{"id":"%b","t":%d,%b,%b,"st":%d,"out":%d,"dur":%d,"ttfb":%b,"up":%d,"own":%d,'
    b'"key":%b,"src":"%b","fb":%b,"rb":%d,"sb":%d,"sh":%b%b%b}'
)
"""JSON, whose longer parts the head, the route table and the response have ready."""


def frame_of(exchange: Exchange, outcome: Outcome, ended: float) -> bytes | None:
    """The frame of `exchange`, which ended so at the monotonic time `ended`; None where it is kept once it is clean."""
    services, response = exchange.services, exchange.response
    sent, received = exchange.request, exchange.response_capture
    key, source = exchange.user()
    assigned, backend, is_exposure = exchange.assigned, exchange.backend, exchange.is_exposure
    total, first_byte, upstream, overhead = _timing(exchange, ended)
    whole = services.leaves_conversations and not sent.cut and not received.cut
    plain = whole and not (exchange.marks or exchange.refusal or exchange.resent)  # as nearly all are
    facts = _FACTS % (
        exchange.record_id.hex.encode(),
        exchange.arrived_at * 1e6,
        exchange.known.facts,
        backend.facts
        if assigned is backend.arm and is_exposure
        else exchange.routes.facts(assigned, backend, is_exposure),
        exchange.status,
        outcome.real,
        total * 1e6,
        b"null" if first_byte is None else b"%d" % (first_byte * 1e6),
        upstream * 1e6,
        overhead * 1e6,
        b"null" if source is _RANDOM else b"%d" % services.user_hash(key),
        str.__str__(source).encode(),  # str(), format() and %s of an enum go through its class: ten times the price
        _FALLBACKS[exchange.fallback],
        sent.size,
        received.size,
        b"{}" if response is None else response.facts,
        exchange.known.origin(services.trust, exchange.client.network),
        b"" if plain else _rarer(exchange),
    )
    if services.redact is not None:
        bodies = (bytes(sent.data), bytes(received.data)) if services.captures else (b"", b"")
        services.redact.exchange(orjson.loads(facts), *bodies, services.keep_clean)
        return None
    if not services.captures:
        return encode_frame(KIND_EXCHANGE, facts)
    return encode_frame(KIND_EXCHANGE, facts, sent.data, received.data)


def _rarer(exchange: Exchange) -> bytes:
    """Members that most records lack: digests of bodies that the record does not have whole, and the conversation that
    such a request names, which nobody else will find in it; when the pieces of the answer came, what the challenger
    said, and whether the request was sent twice."""
    services, started = exchange.services, exchange.started
    sent, received = exchange.request, exchange.response_capture
    facts: dict[str, Any] = {"rsha": sent.sha256} if sent.cut else {}
    if received.cut:
        facts["ssha"] = received.sha256
    if (sent.cut or not services.leaves_conversations) and (conversation := exchange.conversation()) is not None:
        facts["conv"] = services.user_hash(conversation)
    if exchange.marks:
        facts["mk"] = [(offset, int((at - started) * 1e6)) for offset, at in exchange.marks]
    if exchange.refusal:
        facts["cs"] = exchange.refusal
    if exchange.resent:
        facts["rs"] = True
    return b"," + orjson.dumps(facts)[1:-1] if facts else b""


def _timing(exchange: Exchange, ended: float) -> tuple[float, float | None, float, float]:
    """Total, time to first byte, upstream wait and own overhead, in seconds.

    While the client still sends its body we wait for the client; from then (or from the moment we hand the
    request on, whichever is later) to the last byte heard from the model we wait for the model. The rest is ours.
    """
    started, request_ended, handed_over = exchange.started, exchange.request.ended, exchange.handed_over
    first = exchange.first_byte
    waited = 0.0
    if handed_over is not None:
        waited = (exchange.heard or ended) - (handed_over if handed_over > request_ended else request_ended)
        if waited < 0.0:
            waited = 0.0
    overhead = ended - request_ended - waited
    return (
        ended - started,
        None if first is None else first - started,
        waited - exchange.held_s if waited > exchange.held_s else 0.0,
        overhead if overhead > 0.0 else 0.0,
    )
