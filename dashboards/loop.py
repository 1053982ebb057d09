"""The loop dashboard: what is it doing, when will it retrain, what has come of it, and is it well?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import bars, board, graph, level, number, rate, row, states

__all__ = ["dashboard"]


def dashboard() -> Dashboard:
    """Build it."""
    page = board("loop", "The learning loop: phase, triggers, outcomes, and the health of what feeds it.")
    row(
        page,
        "What is the loop doing?",
        states(
            "Phase",
            "idle, training, deploying, testing, promoting, watching.",
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
            "Paused by somebody (1), and orders that the loop has yet to carry out.",
            "none",
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
            "How near each enabled trigger is; at 100 % it is due. Any one suffices, after the cool-down.",
            "percentunit",
            (level("ratchet_trigger_progress", "trigger"), "{{trigger}}"),
            limits=((None, "blue"), (1, "green")),
        ),
        graph(
            "What the triggers look at",
            "Present value and target of each.",
            "short",
            (level("ratchet_trigger_value", "trigger"), "{{trigger}}"),
            (level("ratchet_trigger_target", "trigger"), "{{trigger}} target"),
        ),
        graph(
            "Training",
            "How much of the running training is done, where the trainer says so.",
            "percentunit",
            (level("ratchet_training_progress"), "done"),
            top=1,
        ),
    )
    row(
        page,
        "What has come of it?",
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
        ),
        graph(
            "Trainings that failed",
            "Since the install; and datasets prepared.",
            "short",
            (level("ratchet_loop_failed_retrains_total"), "failed"),
            (level("ratchet_loop_datasets_total"), "datasets"),
        ),
        graph(
            "Watch window",
            "Until the old champion retires; until then a broken guardrail brings it back.",
            "s",
            (level("ratchet_watch_remaining_seconds"), "left"),
        ),
    )
    row(
        page,
        "Is the loop well?",
        graph(
            "Late",
            "Since the next look was due. Large while a long step runs, e.g. a dataset of millions.",
            "s",
            (level("ratchet_loop_overdue_seconds"), "late"),
            limits=((None, "green"), (900, "red")),
        ),
        graph(
            "Ticks that failed",
            "Looks that ended in an error; the log says which.",
            "cps",
            (rate("ratchet_loop_tick_failures_total"), "failed"),
        ),
        graph(
            "Retries",
            "Failures in a row of an action that is tried again.",
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
    return row(
        page,
        "Is it fed?",
        graph(
            "Ingest",
            "Records and votes stored.",
            "cps",
            (rate("ratchet_ingest_records_total"), "records"),
            (rate("ratchet_ingest_votes_total"), "votes"),
        ),
        graph(
            "Trouble in ingest",
            "Attempts without a store, frames kept raw, frames refused even raw.",
            "cps",
            (rate("ratchet_ingest_retries_total"), "retries"),
            (rate("ratchet_ingest_raw_total", "reason"), "raw: {{reason}}"),
            (rate("ratchet_ingest_rejected_total"), "refused"),
        ),
        graph(
            "Store",
            "Bytes on disk; retention keeps them under store.retention.max_bytes.",
            "bytes",
            (level("ratchet_store_bytes"), "bytes"),
        ),
        number(
            "Store up",
            "1 while the store answers. At 0 serving goes on, records wait in the spool.",
            "none",
            ("min (ratchet_store_up{$M})", ""),
            limits=((None, "red"), (1, "green")),
        ),
    )
