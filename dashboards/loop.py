"""The loop dashboard: what is it doing, when will it retrain, what has come of it, and is it well?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.beside import archived, exported, judged
from dashboards.parts import bars, board, graph, level, number, rate, row, states
from policies.lifecycle import Phase

__all__ = ["dashboard"]


def dashboard() -> Dashboard:
    """Build it."""
    page = board("loop", "The learning loop: phase, triggers, outcomes, and the health of what feeds it.")
    row(
        page,
        "What is the loop doing?",
        states(
            "Phase",
            f"{', '.join(Phase)}.",
            (f"{level('ratchet_loop_phase', 'phase')} == 1", "{{phase}}"),
        ),
        graph(
            "Time in this phase",
            "Falls to zero at each change.",
            "s",
            (level("ratchet_loop_phase_seconds"), "in phase"),
        ),
        number(
            "Waits for a person",
            "Paused by a person (1), triggers stopped after rejections in a row (1), and commands that the loop has "
            "not carried out yet.",
            "none",
            ('max (ratchet_trigger_brake{brake="rejections", $M})', "stopped"),
            (level("ratchet_loop_paused"), "paused"),
            (level("ratchet_loop_commands_pending"), "orders"),
            limits=((None, "green"), (1, "orange")),
        ),
    )
    row(
        page,
        "When will it retrain?",
        bars(
            "Triggers",
            "Progress of each enabled trigger; at 100 % it fires. One is enough, after the cool-down.",
            "percentunit",
            (level("ratchet_trigger_progress", "trigger"), "{{trigger}}"),
            limits=((None, "blue"), (1, "green")),
        ),
        graph(
            "What the triggers look at",
            "Current value and target of each.",
            "short",
            (level("ratchet_trigger_value", "trigger"), "{{trigger}}"),
            (level("ratchet_trigger_target", "trigger"), "{{trigger}} target"),
        ),
        graph(
            "Training",
            "Progress of the running training, if the trainer reports it.",
            "percentunit",
            (level("ratchet_training_progress"), "done"),
            top=1,
        ),
    )
    row(
        page,
        "What are the results?",
        graph(
            "Outcomes",
            "Since the install: models trained, promoted, rejected, rolled back, and promotions undone in the "
            "watch window.",
            "short",
            (level("ratchet_loop_retrains_total"), "trained"),
            (level("ratchet_loop_promotions_total"), "promoted"),
            (level("ratchet_loop_rejections_total"), "rejected"),
            (f"sum ({level('ratchet_loop_rollbacks_total', 'reason')}) or vector(0)", "rolled back"),
            (level("ratchet_loop_returns_total"), "undone"),
            (level("ratchet_loop_rejections_in_a_row"), "not better, in a row"),
        ),
        graph(
            "Trainings that failed",
            "Since the installation; also datasets prepared.",
            "short",
            (level("ratchet_loop_failed_retrains_total"), "failed"),
            (level("ratchet_loop_datasets_total"), "datasets"),
        ),
        graph(
            "Dataset that is prepared",
            "Records that were looked at for it, and those that it has.",
            "short",
            (level("ratchet_loop_dataset_records", "state"), "{{state}}"),
        ),
        graph(
            "Watch window",
            "Time until the old champion retires; until then a few users stay on it, and a broken guardrail brings "
            "it back.",
            "s",
            (level("ratchet_watch_remaining_seconds"), "left"),
        ),
    )
    row(
        page,
        "Is the loop well?",
        graph(
            "Late",
            "Time since the next tick was due, and since the last good one. Large during a long action, such as "
            "writing a dataset of millions.",
            "s",
            (level("ratchet_loop_overdue_seconds"), "late"),
            (level("ratchet_loop_seconds_since_tick"), "since the last good tick"),
            limits=((None, "green"), (900, "red")),
        ),
        graph(
            "Ticks that failed",
            "Ticks that ended in an error; see the log.",
            "cps",
            (rate("ratchet_loop_tick_failures_total"), "failed"),
        ),
        graph(
            "Retries",
            "Consecutive failures of an action that is retried.",
            "short",
            (f"sum ({level('ratchet_loop_retry_attempts', 'action')}) or vector(0)", "attempts"),
        ),
        number(
            "Leaders",
            "Replicas that hold the loop's lease; one, or nobody acts.",
            "none",
            ("sum (ratchet_loop_leader{$M})", ""),
            limits=((None, "red"), (1, "green"), (2, "red")),
        ),
    )
    _fed(page)
    judged(page)
    exported(page)
    return archived(page)


def _fed(page: Dashboard) -> Dashboard:
    return row(
        page,
        "Does it get data?",
        graph(
            "Ingest",
            "Records and votes stored.",
            "cps",
            (rate("ratchet_ingest_records_total"), "records"),
            (rate("ratchet_ingest_votes_total"), "votes"),
            (rate("ratchet_ingest_parked_votes_total"), "votes before their record"),
            (rate("ratchet_ingest_ambiguous_votes_total"), "votes on several users' requests"),
        ),
        graph(
            "Trouble in ingest",
            "Attempts while the store was unavailable, frames stored raw, frames refused even raw, unreadable bytes, "
            "and what the database lost in a failover: stored again from the spool, or gone.",
            "cps",
            (rate("ratchet_ingest_retries_total"), "retries"),
            (rate("ratchet_ingest_raw_total", "reason"), "raw: {{reason}}"),
            (rate("ratchet_ingest_rejected_total"), "refused"),
            (rate("ratchet_ingest_skipped_bytes_total"), "unreadable bytes"),
            (rate("ratchet_ingest_fed_again_total"), "stored again"),
            (rate("ratchet_ingest_not_fed_again_total"), "gone"),
        ),
        graph(
            "Store",
            "Bytes on disk; retention keeps them under store.retention.max_bytes.",
            "bytes",
            (level("ratchet_store_bytes"), "bytes"),
        ),
        number(
            "Store up",
            "1 while the store can be written. At 0 serving goes on, and records wait in the spool.",
            "none",
            ("min (ratchet_store_up{$M})", ""),
            limits=((None, "red"), (1, "green")),
        ),
    )
