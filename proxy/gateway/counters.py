"""Everything that a worker counts on the way of a request. Requests under `/-/` are counted nowhere: no traffic."""

from __future__ import annotations

from typing import Final

from proxy.gateway.faults import ARMS, COPY_FAULTS, REFUSALS, Fault
from proxy.metrics.slots import WorkerCounter, slots_of
from proxy.spool.ills import DROP_REASONS

__all__ = ["COPIES_DROPPED", "COPIES_FAILED", "GATEWAY", "GATEWAY_COUNTERS"]

COPIES_DROPPED: Final = WorkerCounter(
    name="shadow_dropped_total",
    text="Requests of the shadow's share that were not copied to the challenger, by reason.",
    labels=(
        (
            "reason",
            ("acts", "busy", "defect", "kind", "no_answer", "no_train", "pace", "shutdown", "spool", "starting",
             "stateful", "too_long"),
        ),
    ),
)  # fmt: skip
COPIES_FAILED: Final = WorkerCounter(
    name="shadow_failed_total",
    text="Copies that the challenger failed or refused, by cause.",
    labels=(("cause", COPY_FAULTS),),
)
GATEWAY: Final = (
    WorkerCounter(name="in_flight", text="Requests that are open now."),
    WorkerCounter(name="client_connections", text="Open connections of clients."),
    WorkerCounter(name="upstream_connections", text="Open connections to models."),
    WorkerCounter(name="tunnels", text="Upgraded connections (WebSocket) that are open now."),
    WorkerCounter(name="breaker_open", text="Workers whose circuit breaker keeps requests from the challenger."),
    WorkerCounter(name="requests_total", text="Requests received, recorded or not."),
    WorkerCounter(
        name="protocol_errors_total",
        text="Requests refused before they were forwarded, by the status they got.",
        labels=(("status", ("400", "405", "408", "413", "414", "429", "431", "505", "508")),),
    ),
    WorkerCounter(
        name="answers_total",
        text="Requests that a model answered or failed, by arm.",
        labels=(("arm", ARMS),),
    ),
    WorkerCounter(
        name="failed_answers_total",
        text="Requests that a model failed, by arm and cause, without error events inside an answer.",
        labels=(("arm", ARMS), ("cause", tuple(fault.value for fault in Fault))),
    ),
    WorkerCounter(
        name="refused_answers_total",
        text="Requests that a model refused with a 4xx, by arm and status.",
        labels=(("arm", ARMS), ("status", REFUSALS)),
    ),
    WorkerCounter(
        name="left_waiting_total",
        text="Clients that waited a second or more and disconnected before any answer.",
        labels=(("arm", ARMS),),
    ),
    WorkerCounter(
        name="fallbacks_total",
        text="Requests of the challenger's users that the champion answered, by cause.",
        labels=(("cause", ("both_refused", "breaker", "connect", "status", "timeout")),),
    ),
    WorkerCounter(
        name="fallbacks_impossible_total",
        text="Failures of the challenger that a user saw, by cause.",
        labels=(("cause", ("connect", "status", "timeout")),),
    ),
    WorkerCounter(
        name="not_rewritten_total",
        text="Requests that could not be rewritten (compressed, long, not JSON): the champion's, and no evidence.",
    ),
    WorkerCounter(
        name="stale_retries_total",
        text="Requests sent again because the model's server had closed an idle connection.",
    ),
    WorkerCounter(name="upstream_connect_errors_total", text="Connections to a model that failed."),
    WorkerCounter(
        name="not_recorded_total",
        text="Requests and votes without a record, by reason.",
        labels=(("reason", ("defect", "incomplete_request", "refused", "skip_path", *DROP_REASONS)),),
    ),
    WorkerCounter(name="shadow_in_flight", text="Copies of requests that the challenger is answering now."),
    WorkerCounter(
        name="shadow_sent_total", text="Copies of requests sent to the challenger, whose answers no user gets."
    ),
    COPIES_DROPPED,
    COPIES_FAILED,
)

GATEWAY_COUNTERS: Final = slots_of(GATEWAY)
"""Their slots."""
