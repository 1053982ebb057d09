"""The range of every number in the configuration: one table, in interval notation.

A setting that is a number and is missing here fails a test, so that nobody forgets to say what it may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from proxy.config.parse import show

__all__ = ["RANGES", "Interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers in the usual notation: `[0, 1]` with its ends, `(0, 1)` without them, `inf` for no end."""

    text: str
    meaning: str

    def complaint(self, value: float) -> str | None:
        """What is wrong with `value`, or None where it is inside."""
        low_text, high_text = self.text[1:-1].split(",")
        low, high = float(low_text), float(high_text)
        if value < low or (value == low and self.text[0] == "("):
            word = "more than" if self.text[0] == "(" else "at least"
            return f"{show(value)} is too small ({self.meaning}); write {word} {low_text}"
        if value > high or (value == high and self.text[-1] == ")" and not math.isinf(high)):
            word = "less than" if self.text[-1] == ")" else "at most"
            return f"{show(value)} is too large ({self.meaning}); write {word}{high_text}"
        return None


RANGES: Final[dict[Interval, tuple[str, ...]]] = {
    Interval("[0, inf)", "money for a million tokens"): ("generator_config.cost_per_million_tokens",),
    Interval("[0, 65535]", "a TCP port, 0 for a free one"): ("server.port", "admin.port"),
    Interval("[1, 256]", "a number of processes"): ("server.workers",),
    Interval("[0, inf)", "seconds"): ("server.drain_seconds", "spool.keep_seconds"),
    Interval("[0, 19]", "a nice value"): ("server.controller_nice",),
    Interval("(0, inf)", "seconds"): (
        "check_interval_seconds", "gateway.connect_timeout_seconds", "gateway.first_byte_timeout_seconds",
        "gateway.idle_timeout_seconds", "gateway.head_timeout_seconds", "gateway.client_idle_seconds",
        "gateway.body_idle_seconds", "gateway.upstream_idle_seconds", "gateway.breaker.open_seconds",
        "spool.fsync_interval_seconds", "store.ingest_interval_seconds", "store.retention.interval_seconds",
        "trainer.timeout_seconds", "capture.redaction.deadline_seconds",
         "trainer.poll_seconds", "deployer.ready_timeout_seconds", "notify.timeout_seconds",
    ),
    Interval("[1024, 16777216]", "bytes of a request head"): ("gateway.max_head_bytes",),
    Interval("[0, inf)", "bytes"): (
        "gateway.max_body_bytes", "capture.max_request_bytes", "capture.max_response_bytes", "store.retention.max_bytes",
    ),
    Interval("[65536, 268435456]", "bytes of one body"): ("capture.max_decoded_bytes",),
    Interval("[65536, inf)", "bytes; smaller files cost more than they hold"): ("spool.segment_bytes", "spool.max_bytes"),
    Interval("[1, inf)", "a count"): (
        "gateway.max_headers", "gateway.max_connections", "gateway.breaker.consecutive_failures", "store.pool_size",
        "store.ingest_batch", "feedback.max_batch", "trigger_config.min_new_samples", "trigger_config.min_feedback_votes",
        "trigger_config.min_usable_samples", "generator_config.max_samples", "generator_config.max_samples_per_user",
        "generator_config.max_corrections_per_user",
        "ab_test_config.min_samples_per_version",
    ),
    Interval("[0, inf)", "a count"): (
        "gateway.upstream_keepalive", "deployer.retries", "deployer.warmup_requests", "scoring.min_response_chars", "ab_test_config.min_effective_users",
        "ab_test_config.guardrails.min_effective_users",
    ),
    Interval("[0, inf)", "votes per second, 0 for no limit"): ("feedback.rate_per_second",),
    Interval("(0, inf)", "days"): ("feedback.max_age_days",),
    Interval("[0, inf)", "days, 0 to keep"): ("store.retention.bodies_days", "store.retention.records_days",
        "store.retention.failed_runs_days",
    ),
    Interval("[0, inf)", "hours"): (
        "store.archive.settle_hours",
        "trigger_config.cooldown_hours", "trigger_config.failure_backoff_hours", "ab_test_config.min_duration_hours",
        "ab_test_config.watch_hours", "ab_test_config.rejection_cooldown_hours",
    ),
    Interval("(0, inf)", "hours"): ("trigger_config.schedule_interval_hours", "ab_test_config.max_duration_hours"),
    Interval("[0, 1]", "a score, 0 to 1"): (
        "trigger_config.min_quality_score", "generator_config.min_quality_score", "scoring.refusal_score",
        "scoring.truncated_score", "scoring.repetition_score", "scoring.invalid_json_score",
    ),
    Interval("[-1, 1]", "a vote: −1, 0 or 1"): ("generator_config.min_user_feedback",),
    Interval("(0, 1]", "a share, 0 to 1"): (
        "trigger_config.quality_drop_threshold", "trigger_config.negative_feedback_threshold",
        "generator_config.near_duplicate_threshold",
    ),
    Interval("[0, 1]", "a share, 0 to 1"): (
        "generator_config.max_own_share", "generator_config.max_correction_share",
        "ab_test_config.guardrails.max_error_increase",
        "ab_test_config.guardrails.max_refused_increase", "ab_test_config.guardrails.max_slow_increase",
        "ab_test_config.guardrails.max_quality_drop", "ab_test_config.guardrails.max_positive_drop",
    ),
    Interval("[0, 1)", "a share, 0 to 1"): ("generator_config.holdout_share", "generator_config.existing_data_share"),
    Interval("(0, 1)", "a share of users, 0 to 1; with no users in one arm there is nothing to compare"): (
        "ab_test_config.initial_challenger_traffic",
    ),
    Interval("[0, 1]", "a relative gain, 0.05 for 5 %"): ("ab_test_config.promotion_threshold",),
    Interval("(0, 0.5]", "a probability of error"): ("ab_test_config.alpha", "ab_test_config.alpha_harm"),
    Interval("[0, inf)", "a weight"): (
        "ab_test_config.quality_weight", "ab_test_config.feedback_weight", "ab_test_config.latency_weight",
    ),
    Interval("(0, 1]", "an intra-class correlation"): ("ab_test_config.icc",),
    Interval("(1, inf)", "a Bayes factor"): ("ab_test_config.guardrails.srm_bayes_factor",),
    Interval("(0, inf)", "a concentration"): ("ab_test_config.guardrails.srm_concentration",),
}  # fmt: skip
