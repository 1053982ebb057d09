"""The experiment dashboard: is the challenger better, how sure is that, can the comparison be trusted, and does the new
champion keep what the challenger promised?

Panels are empty while no experiment runs: the loop does not report what it does not know.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.beside import checked, copied
from dashboards.parts import board, failures_of, graph, level, number, open_breakers, row, states
from dashboards.traffic import quantiles

__all__ = ["dashboard"]


def dashboard() -> Dashboard:
    """Build it."""
    page = board(
        "experiment",
        "The check of a challenger, its comparison with the champion, and the watch after it. Empty while none runs.",
    )
    checked(page)
    copied(page)
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
            "How many users are assigned to the challenger, and how many in the next stage.",
            "percentunit",
            (level("ratchet_experiment_share"), "challenger"),
            (level("ratchet_experiment_next_share"), "next stage"),
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
            "Time since the first stage of the evidence began.",
            "s",
            (level("ratchet_experiment_elapsed_seconds"), ""),
        ),
        graph(
            "Time until a decision",
            "When a decision can be expected at the earliest and at the latest, if all goes on as it does.",
            "s",
            (level("ratchet_experiment_eta_seconds", "bound"), "{{bound}}"),
        ),
    )
    _stages(page)
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
        open_breakers(),
    )
    row(
        page,
        "Can the comparison be trusted?",
        graph(
            "Users",
            "Distinct users per arm in this stage; their ratio must match the share.",
            "short",
            (level("ratchet_experiment_users", "arm"), "{{arm}}"),
        ),
        graph(
            "Requests",
            "Requests per arm that are evidence, of all stages.",
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
        graph(
            "Evidence for a mismatch",
            "Logarithm of the Bayes factor: the larger, the surer it is that the ratio of users is not the share.",
            "none",
            (level("ratchet_experiment_srm_log_bayes_factor"), "log Bayes factor"),
        ),
        number(
            "Few clusters",
            "1 while a promotion waits, because its evidence comes from few clusters.",
            "none",
            (level("ratchet_experiment_few_clusters"), ""),
            limits=((None, "green"), (1, "orange")),
        ),
    )
    return _watch(page)


def _stages(page: Dashboard) -> Dashboard:
    return row(
        page,
        "What does each stage say?",
        graph(
            "Gain in each stage",
            "The challenger's estimated gain in each stage by itself. The verdict rests on all stages together, whose "
            "rows are never pooled.",
            "percentunit",
            (level("ratchet_experiment_stage_lift", "stage", 'of="estimate"'), "stage {{stage}}"),
        ),
        graph(
            "Share in each stage",
            "The challenger's share of the users; it rises while there is no harm.",
            "percentunit",
            (level("ratchet_experiment_stage_share", "stage"), "stage {{stage}}"),
            top=1,
        ),
        graph(
            "Part of each stage",
            "How much a stage counts in the estimated gain.",
            "percentunit",
            (level("ratchet_experiment_stage_part", "stage"), "stage {{stage}}"),
            top=1,
        ),
        graph(
            "Requests in each stage",
            "Requests per stage and arm.",
            "short",
            (level("ratchet_experiment_stage_requests", "stage, arm"), "stage {{stage}} {{arm}}"),
        ),
        graph(
            "Users in each stage",
            "Distinct users per stage and arm.",
            "short",
            (level("ratchet_experiment_stage_users", "stage, arm"), "stage {{stage}} {{arm}}"),
        ),
    )


def _watch(page: Dashboard) -> Dashboard:
    return row(
        page,
        "Is the new champion as good as the old one, hour by hour?",
        states(
            "Guardrails of the watch",
            "State of each guardrail since the promotion, the new champion (champion) against the old one (control); a "
            "broken guardrail brings the old one back.",
            (f"{level('ratchet_watch_guardrail', 'guardrail, state')} == 1", "{{guardrail}}: {{state}}"),
        ),
        graph(
            "Requests since the promotion",
            "Requests of the new champion, and of the users who stay on the old one (control).",
            "short",
            (level("ratchet_watch_requests", "arm"), "{{arm}}"),
        ),
        graph(
            "Users since the promotion",
            "Distinct users of both, in the part of the watch that has most.",
            "short",
            (level("ratchet_watch_users", "arm"), "{{arm}}"),
        ),
        number(
            "Users on the old champion",
            "Share of users who stay on the old champion until the watch ends. 0: none, and the comparison is weaker.",
            "percentunit",
            (level("ratchet_watch_holdback_share"), ""),
        ),
        number(
            "Parts of the watch",
            "Parts of the watch so far. Each counts users and failures afresh, so that good hours do not hide a model "
            "that turns bad.",
            "short",
            (level("ratchet_watch_parts"), ""),
        ),
    )
