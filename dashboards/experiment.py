"""The experiment dashboard: is the challenger better, how sure is that, and can the comparison be trusted?

Panels are empty while no experiment runs: the loop does not report what it does not know.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import board, failures_of, graph, level, number, row, states
from dashboards.traffic import quantiles

__all__ = ["dashboard"]


def dashboard() -> Dashboard:
    """Build it."""
    page = board("experiment", "The running comparison of champion and challenger. Empty while none runs.")
    row(
        page,
        "Is the challenger better?",
        graph(
            "Gain",
            "Weighted gain of the challenger over the champion with its always-valid bounds. Above the promotion "
            "threshold with the lower bound: better. Below zero with the upper: worse.",
            "percentunit",
            (level("ratchet_experiment_lift", "of"), "{{of}}"),
        ),
        states(
            "Verdict",
            "What the statistics say; the loop acts on it.",
            (f"{level('ratchet_experiment_verdict', 'verdict')} == 1", "{{verdict}}"),
        ),
        graph(
            "Share of users",
            "How many users are assigned to the challenger.",
            "percentunit",
            (level("ratchet_experiment_share"), "challenger"),
            top=1,
        ),
    )
    row(
        page,
        "How strong is the evidence, and when is it enough?",
        graph(
            "Evidence",
            "Logarithms of the e-values; each decides when it reaches its dashed target. Valid at every look.",
            "none",
            (level("ratchet_experiment_log_e", "side"), "{{side}}"),
            (level("ratchet_experiment_log_e_target", "side"), "{{side}} target"),
        ),
        graph(
            "Users that count",
            "Effective users: the smallest over arms and metrics. Users with many requests count "
            "little more than once.",
            "short",
            (level("ratchet_experiment_effective_users"), "effective users"),
        ),
        number(
            "Running for",
            "Time since this epoch of the experiment began.",
            "s",
            (level("ratchet_experiment_elapsed_seconds"), ""),
        ),
    )
    row(
        page,
        "Where does the difference come from?",
        graph(
            "Metrics",
            "Mean over users per metric and arm. quality: score; positive: share of good votes; voted: share of "
            "answers voted on; error, refused, slow: shares of failed, of refused (4xx) and of slow answers.",
            "percentunit",
            (level("ratchet_experiment_mean", "metric, arm", 'metric!="latency"'), "{{metric}} {{arm}}"),
        ),
        graph(
            "Latency",
            "Mean over users of the latency that the latency weight uses, per arm.",
            "s",
            (level("ratchet_experiment_mean", "arm", 'metric="latency"'), "{{arm}}"),
        ),
        graph(
            "Failed answers",
            "Share of requests that failed, by assigned arm.",
            "percentunit",
            (failures_of("ratchet_requests_total"), "{{arm}}"),
            limits=((None, "green"), (0.05, "red")),
        ),
        graph(
            "Duration",
            "Complete answers, by assigned arm.",
            "s",
            *quantiles("ratchet_request_duration_seconds", 0.5, 0.95),
        ),
    )
    row(
        page,
        "Is anybody harmed?",
        states(
            "Guardrails",
            "State of each guardrail; a broken guardrail rolls the challenger back.",
            (f"{level('ratchet_experiment_guardrail', 'guardrail, state')} == 1", "{{guardrail}}: {{state}}"),
        ),
        number(
            "Open breakers",
            "Workers that currently send no requests to the challenger.",
            "short",
            ("sum (ratchet_gateway_breaker_open{$M})", ""),
            limits=((None, "green"), (1, "red")),
        ),
    )
    return row(
        page,
        "Can the comparison be trusted?",
        graph(
            "Users",
            "Distinct users per arm; their ratio must match the share.",
            "short",
            (level("ratchet_experiment_users", "arm"), "{{arm}}"),
        ),
        graph(
            "Requests",
            "Requests per arm in this epoch.",
            "short",
            (level("ratchet_experiment_requests", "arm"), "{{arm}}"),
        ),
        number(
            "Sample ratio mismatch",
            "1: the ratio of users differs from the share by more than chance, so the experiment decides nothing.",
            "none",
            (level("ratchet_experiment_srm"), ""),
            limits=((None, "green"), (1, "red")),
        ),
    )
