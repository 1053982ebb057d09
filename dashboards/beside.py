"""Rows about what goes on beside the traffic, and no user waits for: checks and copies for a challenger, the judge,
telemetry, the archive.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import graph, level, number, rate, row, states

__all__ = ["archived", "checked", "copied", "exported", "judged"]


def checked(page: Dashboard) -> Dashboard:
    """The check of a challenger before any user sees it."""
    return row(
        page,
        "May users see the challenger?",
        graph(
            "Progress of the check",
            "How much of the check is done: the challenger is asked what the champion has answered already.",
            "percentunit",
            (level("ratchet_check_progress"), "done"),
            top=1,
        ),
        states(
            "Verdict of the check",
            "pass: it may meet users; reject: it is worse; undecided: neither is shown; hold: something that the check "
            "or the shadow needs is missing.",
            (level("ratchet_check_verdict", "verdict"), "{{verdict}}"),
        ),
    )


def copied(page: Dashboard) -> Dashboard:
    """Shadow traffic."""
    return row(
        page,
        "What becomes of the copies of live requests?",
        graph(
            "Copies",
            "Copies sent to the challenger, and those that it failed, by cause. Nobody gets the answers.",
            "reqps",
            (rate("ratchet_gateway_shadow_sent_total"), "sent"),
            (rate("ratchet_gateway_shadow_failed_total", "cause"), "failed: {{cause}}"),
        ),
        graph(
            "Requests that were not copied",
            "Of the shadow's share, by reason. busy and pace: more came than may be copied, which is fine; defect: see "
            "the log.",
            "reqps",
            (rate("ratchet_gateway_shadow_dropped_total", "reason"), "{{reason}}"),
            stacked=True,
        ),
        graph(
            "Copies in flight",
            "Copies that the challenger is answering now; gateway.shadow_concurrency limits them in each worker.",
            "short",
            ("sum (ratchet_gateway_shadow_in_flight{$M})", "copies"),
        ),
    )


def judged(page: Dashboard) -> Dashboard:
    """The judge, where there is one."""
    return row(
        page,
        "Does the judge give scores, and do they count?",
        graph(
            "Answers judged",
            "Answers that got a score, and those drawn for the judge that got none, by reason. None is asked about "
            "again.",
            "cps",
            (rate("ratchet_judge_scores_total"), "scored"),
            (rate("ratchet_judge_failures_total", "reason"), "{{reason}}"),
        ),
        graph(
            "Oldest answer that waits",
            "Its age. After an hour an answer is left out.",
            "s",
            (level("ratchet_judge_lag_seconds"), "age"),
            limits=((None, "green"), (1800, "orange"), (3600, "red")),
        ),
        graph(
            "Agreement with people",
            "What the judge's balanced agreement with people's votes is at least; 50 % is chance.",
            "percentunit",
            (level("ratchet_judge_agreement_lower_ratio"), "at least"),
            top=1,
        ),
        number(
            "Scores count",
            "1 while the judge's scores count, 0 while they are only shown.",
            "none",
            (level("ratchet_judge_counts"), ""),
            limits=((None, "orange"), (1, "green")),
        ),
        graph(
            "Tokens of the judge",
            "Tokens that the judge used, as its server counts them.",
            "cps",
            (rate("ratchet_judge_tokens_total"), "tokens"),
        ),
    )


def exported(page: Dashboard) -> Dashboard:
    """Telemetry out, where it is switched on."""
    return row(
        page,
        "Does the collector get its telemetry?",
        graph(
            "Sent to the collector",
            "Spans (traces) and events (logs) that the receiver of telemetry.otlp_endpoint took.",
            "cps",
            (rate("ratchet_telemetry_sent_total", "signal"), "{{signal}}"),
        ),
        graph(
            "Left out",
            "Spans and events that are never sent, by reason. too_old: the receiver was away for longer than "
            "telemetry.otlp_max_age_seconds; the others: it does not take them.",
            "cps",
            (rate("ratchet_telemetry_dropped_total", "signal, reason"), "{{signal}}: {{reason}}"),
            limits=((None, "green"), (0.01, "red")),
        ),
        graph(
            "Requests that failed",
            "Requests that the receiver did not answer, or put off. They are repeated.",
            "cps",
            (rate("ratchet_telemetry_failures_total"), "failed"),
        ),
        graph(
            "Behind by",
            "Age of what is sent next; 0 if nothing waits.",
            "s",
            (level("ratchet_telemetry_lag_seconds"), "age"),
            limits=((None, "green"), (600, "orange"), (3600, "red")),
        ),
    )


def archived(page: Dashboard) -> Dashboard:
    """The archive, where there is one, and what the database has."""
    return row(
        page,
        "Is the archive up to date?",
        graph(
            "Days that wait",
            "Finished days that are not in store.archive.url yet. Retention deletes nothing before.",
            "none",
            (level("ratchet_archive_behind_days"), "days"),
            limits=((None, "green"), (2, "red")),
        ),
        graph(
            "Attempts that failed",
            "Failed attempts to read or write the archive.",
            "cps",
            (rate("ratchet_archive_failures_total"), "failed"),
        ),
        graph(
            "Records in the store",
            "Estimated; what the archive has and retention has deleted is not among them.",
            "short",
            (level("ratchet_store_records"), "records"),
        ),
    )
