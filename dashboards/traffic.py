"""The traffic dashboard: are people served, how fast, how well, and is everything written down?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.hosts import healthy, recorded, unwell
from dashboards.parts import Query, board, failures_of, graph, level, number, open_breakers, rate, refusals_of, row
from policies.records import Outcome

__all__ = ["dashboard"]

ARM = "{{arm}}"


def quantile(q: float, metric: str, by: str = "arm", matchers: str = "") -> str:
    """A quantile of a histogram, over all replicas."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, matchers)})"


def quantiles(metric: str, *qs: float, by: str = "arm", matchers: str = "") -> list[Query]:
    """The same for several, with legends."""
    return [(quantile(q, metric, by, matchers), f"{f'{{{{{by}}}}} ' if by else ''}p{q * 100:g}") for q in qs]


def dashboard() -> Dashboard:
    """Build it."""
    page = board("traffic", "Requests through the proxy: rate, failures, speed, feedback, and whether all is recorded.")
    _served(page)
    _served_by(page)
    _fast(page)
    _good(page)
    _asked(page)
    _safe(page)
    recorded(page)
    healthy(page)
    return unwell(page)


def _served(page: Dashboard) -> Dashboard:
    return row(
        page,
        "Are people served?",
        graph(
            "Requests",
            "Everything that came in (counted at once), and what has been recorded per assigned arm "
            "(trails by the ingest's delay).",
            "reqps",
            (rate("ratchet_gateway_requests_total"), "came in"),
            (rate("ratchet_requests_total", "arm"), ARM),
        ),
        graph(
            "Failed answers",
            "Share of requests without an answer by the model's fault, by assigned arm: it said 5xx, broke off, timed "
            "out, or said inside a 200 that it failed. The error guardrail compares the arms.",
            "percentunit",
            (failures_of("ratchet_requests_total"), ARM),
            limits=((None, "green"), (0.01, "orange"), (0.05, "red")),
        ),
        graph(
            "Refused requests",
            "Share of requests that the model's server declined with a 4xx, by assigned arm. "
            "What only one arm refuses is that arm's fault; what both refuse is the client's.",
            "percentunit",
            (refusals_of("ratchet_requests_total"), ARM),
            limits=((None, "green"), (0.05, "orange")),
        ),
        graph(
            "How requests ended",
            "ok; client_disconnect: the person left; upstream_error, timeout and incomplete: the model's fault; "
            "refused: a 4xx; truncated: cut when the proxy was told to stop.",
            "reqps",
            (rate("ratchet_requests_total", "outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Open now",
            "Requests in flight and connections on both sides.",
            "short",
            ("sum (ratchet_gateway_in_flight{$M})", "requests"),
            ("sum (ratchet_gateway_client_connections{$M})", "client connections"),
            ("sum (ratchet_gateway_upstream_connections{$M})", "model connections"),
            ("sum (ratchet_gateway_tunnels{$M})", "tunnels (WebSocket)"),
        ),
    )


def _served_by(page: Dashboard) -> Dashboard:
    return row(
        page,
        "Do the models' servers answer?",
        number(
            "Champion up",
            "1 while the champion answers this host's requests, 0 while it fails them.",
            "none",
            ("min (ratchet_champion_up{$M})", ""),
            limits=((None, "red"), (1, "green")),
        ),
        graph(
            "Failed by the champion",
            "Share of the last minute's requests that the champion failed.",
            "percentunit",
            (level("ratchet_champion_failed_share"), "failed"),
            limits=((None, "green"), (0.05, "red")),
        ),
        graph(
            "Asked",
            "Requests by the model that got them. If the champion answered for the challenger or the control, it "
            "counts for both.",
            "reqps",
            (rate("ratchet_gateway_answers_total", "arm"), ARM),
            (rate("ratchet_gateway_left_waiting_total", "arm"), "{{arm}}: gone before the answer"),
        ),
        graph(
            "Failed, by cause",
            "Requests that a model failed. An error inside a 200 is not among them: see How requests ended.",
            "reqps",
            (rate("ratchet_gateway_failed_answers_total", "arm, cause"), "{{arm}}: {{cause}}"),
        ),
        graph(
            "Refused, by status",
            "Requests that a model's server declined, and those that Ratchet refused before they were forwarded.",
            "reqps",
            (rate("ratchet_gateway_refused_answers_total", "arm, status"), "{{arm}}: {{status}}"),
            (rate("ratchet_gateway_protocol_errors_total", "status"), "not forwarded: {{status}}"),
        ),
    )


def _fast(page: Dashboard) -> Dashboard:
    return row(
        page,
        "How fast are the answers?",
        graph(
            "Whole answer",
            "From the request's arrival to the last byte, by assigned arm. Answers only, without failures.",
            "s",
            *quantiles("ratchet_request_duration_seconds", 0.5, 0.95, matchers=f'outcome="{Outcome.OK.label}"'),
        ),
        graph(
            "First byte",
            "From the request's arrival to the head of the answer: how soon the model's server responds.",
            "s",
            *quantiles("ratchet_time_to_first_byte_seconds", 0.5, 0.95),
        ),
        graph(
            "First token",
            "From the request's arrival to the first word, thought or call: what a person waits for when answers are "
            "streamed.",
            "s",
            *quantiles("ratchet_time_to_first_token_seconds", 0.5, 0.95),
        ),
        graph(
            "Waiting for the model",
            "The part of a request that was spent waiting for the model's server.",
            "s",
            *quantiles("ratchet_upstream_seconds", 0.5, 0.95),
        ),
        graph(
            "The proxy's own part",
            "Time spent in the proxy itself. More than a millisecond means that its CPU is busy.",
            "s",
            *quantiles("ratchet_overhead_seconds", 0.5, 0.99, by=""),
            limits=((None, "green"), (0.005, "orange"), (0.05, "red")),
        ),
    )


def _good(page: Dashboard) -> Dashboard:
    quality = f"{rate('ratchet_quality_score_ratio_sum', 'arm')} / {rate('ratchet_quality_score_ratio_count', 'arm')}"
    voted = f"{rate('ratchet_gateway_feedback_votes_total')} / {rate('ratchet_gateway_requests_total')}"
    return row(
        page,
        "Are the answers good?",
        graph(
            "Votes",
            "Votes stored, by what they say.",
            "cps",
            (rate("ratchet_feedback_total", "feedback"), "{{feedback}}"),
            stacked=True,
        ),
        graph(
            "Votes per request",
            "Share of answers with a vote. Near zero, the loop learns from quality scores only.",
            "percentunit",
            (voted, "votes per request"),
        ),
        graph(
            "Quality score", "Mean quality of answers (0 to 1) by assigned arm.", "percentunit", (quality, ARM), top=1
        ),
    )


def _asked(page: Dashboard) -> Dashboard:
    return row(
        page,
        "What is asked for?",
        graph(
            "Kinds of requests",
            "By API; other: not recognized, recorded raw.",
            "reqps",
            (rate("ratchet_request_duration_seconds_count", "kind"), "{{kind}}"),
            stacked=True,
        ),
        graph(
            "Tokens",
            "As counted by the model. Cached tokens are part of the prompt's, reasoning tokens of the completion's.",
            "cps",
            (rate("ratchet_tokens_total", "type, model"), "{{model}} {{type}}"),
        ),
        graph(
            "Bodies",
            "Bytes of requests and responses.",
            "Bps",
            (rate("ratchet_body_bytes_total", "direction"), "{{direction}}"),
        ),
        graph(
            "Where users come from",
            "How the user of a request was identified. Much `random` weakens every experiment: set sticky.headers.",
            "reqps",
            (rate("ratchet_sticky_key_source_total", "source"), "{{source}}"),
            stacked=True,
        ),
    )


def _safe(page: Dashboard) -> Dashboard:
    return row(
        page,
        "Does the champion answer for another arm?",
        graph(
            "Stand-ins",
            "Requests of the challenger's or the control's users that the champion answered, by cause.",
            "reqps",
            (rate("ratchet_gateway_fallbacks_total", "cause"), "{{cause}}"),
            limits=((None, "green"), (0.1, "orange")),
        ),
        graph(
            "Failures that users saw",
            "Failures of the challenger or the control too late for a fallback to the champion.",
            "reqps",
            (rate("ratchet_gateway_fallbacks_impossible_total", "cause"), "{{cause}}"),
        ),
        graph(
            "Not rewritten",
            "Requests of a rewrite's users that cannot be rewritten (compressed, long, no JSON): the champion answers "
            "them as they are, and they are no evidence.",
            "reqps",
            (rate("ratchet_gateway_not_rewritten_total"), "not rewritten"),
        ),
        open_breakers(),
    )
