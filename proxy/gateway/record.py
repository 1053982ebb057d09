"""The record of an exchange as the spool keeps it: facts under short names, and the captured bodies as they were.

The names are a contract with the ingest (docs/reference/records.md). Durations are microseconds. No credential and no
cookie is ever among them, and users appear as keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from policies.records import StickySource
from proxy.gateway.context import WorkerContext
from proxy.gateway.facts import ExchangeFacts
from proxy.gateway.routing import encoding_of
from proxy.spool.frames import KIND_EXCHANGE, decode_payload, encode_frame
from proxy.spool.packed import FALLBACKS, pack_exchange
from proxy.wire.rewritable import rewritable

__all__ = ["frame_of"]

_RANDOM: Final = StickySource.RANDOM
_FALLBACKS: Final = {cause: place for place, cause in enumerate(FALLBACKS)}
_SOURCES: Final = {source: source.value.encode() for source in StickySource}


def frame_of(facts: ExchangeFacts, context: WorkerContext) -> bytes | None:
    """The frame of an exchange; None where it goes to `context.spool` once it is clean (`context.redact`)."""
    # At once: an attribute of a tuple costs five times as much.
    # fmt: off
    (record_id, arrived_at, started, handed_over, first_byte, heard_at, ended, held_s,
     known, network, key, _, _, backend, assigned, is_exposure,
     sent, response, received, status, outcome, fallback, refusal, resent, marks) = facts
    # fmt: on
    waited = _waited(sent.ended, handed_over, heard_at or ended)
    overhead = ended - sent.ended - waited
    whole = context.leaves_conversations and not sent.cut and not received.cut
    plain = whole and not (marks or refusal or resent)  # as nearly all are
    plainly = backend.rewriter is None
    captures = context.captures
    frame = pack_exchange(
        KIND_EXCHANGE,
        record_id.uuid,
        int(arrived_at * 1e6),
        int((ended - started) * 1e6),
        -1 if first_byte is None else int((first_byte - started) * 1e6),
        int((waited - held_s) * 1e6) if waited > held_s else 0,
        int(overhead * 1e6) if overhead > 0.0 else 0,
        None if key is None or key[1] is _RANDOM else context.user_hash(key[0]),
        sent.size,
        received.size,
        status,
        outcome,
        0 if fallback is None else _FALLBACKS[fallback],
        b"" if key is None else _SOURCES[key[1]],
        known.facts,
        backend.facts if assigned is backend.arm and is_exposure and (plainly or known.maybe_json) else _routing(facts),
        b"{}" if response is None else response.facts,
        known.origin(context.trust, network),
        b"" if plain else _rarer(facts, context),
        sent.data if captures else b"",
        received.data if captures else b"",
    )
    if context.redact is None:
        return frame
    copy = decode_payload(frame)
    context.redact.exchange(copy.meta, copy.request, copy.response, _keep_clean(context))
    return None


def _routing(facts: ExchangeFacts) -> bytes:
    """What `ResolvedRoutes.facts` says of a request that is no evidence, was answered by the other arm, or was not
    rewritten where others are."""
    request, backend = facts.request, facts.backend
    could = backend.rewriter is None or (
        facts.known.maybe_json and rewritable(request.size, encoding_of(facts.known), request.data, request.beyond)
    )
    return facts.routes.facts(facts.assigned, backend, facts.is_exposure, could)


def _keep_clean(context: WorkerContext) -> Callable[[dict[str, Any], bytes, bytes], None]:
    """What writes down an exchange that was cleaned."""

    def keep(meta: dict[str, Any], request: bytes, response: bytes) -> None:
        context.spool.append(encode_frame(KIND_EXCHANGE, meta, request, response))

    return keep


def _rarer(facts: ExchangeFacts, context: WorkerContext) -> bytes:
    """Members that most records lack: digests of bodies that the record does not have whole, and the conversation that
    such a request names, which nobody else will find in it; when the pieces of the answer came, what the challenger
    said, and whether the request was sent twice."""
    sent, received, started = facts.request, facts.response_body, facts.started
    members: dict[str, Any] = {"rsha": sent.sha256} if sent.cut else {}
    if received.cut:
        members["ssha"] = received.sha256
    if facts.conversation is not None:
        members["conv"] = context.user_hash(facts.conversation)
    if facts.marks:
        members["mk"] = [(offset, int((at - started) * 1e6)) for offset, at in facts.marks]
    if facts.refusal:
        members["cs"] = facts.refusal
    if facts.resent:
        members["rs"] = True
    return b"," + orjson.dumps(members)[1:-1] if members else b""


def _waited(request_ended: float, handed_over: float | None, heard_at: float) -> float:
    """Seconds that we waited for the model.

    While the client still sends its body we wait for the client; from then (or from the moment we hand the
    request on, whichever is later) to the last byte heard from the model we wait for the model. The rest is our own
    overhead.
    """
    if handed_over is None:
        return 0.0
    waited = heard_at - (handed_over if handed_over > request_ended else request_ended)
    return waited if waited > 0.0 else 0.0
