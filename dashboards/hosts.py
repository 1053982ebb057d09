"""Rows about the hosts: whether what passes is written down, their processes, and what is wrong around them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import graph, level, rate, row, states

__all__ = ["healthy", "recorded", "unwell"]


def recorded(page: Dashboard) -> Dashboard:
    """Spool and votes."""
    return row(
        page,
        "Is everything recorded?",
        graph(
            "Not recorded",
            "Requests and votes without a record, by reason. Only skip_path is harmless.",
            "cps",
            (rate("ratchet_gateway_not_recorded_total", "reason"), "{{reason}}"),
            limits=((None, "green"), (0.01, "red")),
        ),
        graph(
            "Spool",
            "Bytes that wait to be stored, all bytes, and the maximum: at the maximum records are dropped.",
            "bytes",
            ("sum (ratchet_spool_pending_bytes{$M})", "waiting"),
            ("sum (ratchet_spool_bytes{$M})", "all"),
            ("sum (ratchet_spool_max_bytes{$M})", "cap"),
        ),
        graph(
            "Oldest waiting record",
            "Its age: the delay of ingest.",
            "s",
            (level("ratchet_spool_oldest_seconds"), "age"),
            limits=((None, "green"), (60, "orange"), (600, "red")),
        ),
        graph(
            "Trouble of the spool",
            "Workers that cannot write it, failed fsyncs, files that somebody removed, and requests and votes that "
            "were in them.",
            "short",
            (level("ratchet_gateway_spool_unwell", "what"), "cannot write: {{what}}"),
            (rate("ratchet_gateway_spool_sync_errors_total"), "failed fsyncs per second"),
            (rate("ratchet_gateway_spool_vanished_total"), "removed files per second"),
            (rate("ratchet_gateway_spool_lost_frames_total"), "lost with them per second"),
            limits=((None, "green"), (0.01, "red")),
        ),
        graph(
            "Lost to redaction",
            "Bodies, heads and votes that are not recorded, because redaction took too long or failed.",
            "cps",
            (rate("ratchet_gateway_redaction_lost_total", "reason"), "{{reason}}"),
            limits=((None, "green"), (0.01, "red")),
        ),
        graph(
            "Feedback refused",
            "Refused votes, by reason.",
            "cps",
            (rate("ratchet_gateway_feedback_refused_total", "reason"), "{{reason}}"),
        ),
    )


def healthy(page: Dashboard) -> Dashboard:
    """CPU, memory, connections."""
    return row(
        page,
        "How are the processes?",
        graph(
            "CPU",
            "Cores used, by process. A worker near 1 is the limit: raise server.workers.",
            "short",
            (rate("ratchet_process_cpu_seconds_total", "instance, process"), "{{instance}} {{process}}"),
            limits=((None, "green"), (0.9, "orange")),
        ),
        graph(
            "Memory",
            "Resident memory, by process.",
            "bytes",
            ("ratchet_process_resident_memory_bytes{$M}", "{{instance}} {{process}}"),
        ),
        graph(
            "Age",
            "Time since a process started: a sawtooth is a crash loop.",
            "s",
            ("time() - ratchet_process_start_time_seconds{$M}", "{{instance}} {{process}}"),
        ),
        graph(
            "Connections that failed",
            "To a model: failed, or closed by its server (sent again).",
            "cps",
            (rate("ratchet_gateway_upstream_connect_errors_total"), "not made"),
            (rate("ratchet_gateway_stale_retries_total"), "sent again"),
        ),
    )


def unwell(page: Dashboard) -> Dashboard:
    """What a person sets right."""
    return row(
        page,
        "Is anything wrong around it?",
        states(
            "Troubles",
            "What is wrong around a host; /health and `ratchet status` say what, and since when.",
            (level("ratchet_trouble", "about"), "{{about}}"),
        ),
        graph(
            "Clock",
            "Seconds that this host's clock is ahead of the database's, and how often it was set while Ratchet ran.",
            "s",
            (level("ratchet_clock_ahead_seconds"), "ahead"),
            (level("ratchet_clock_jumps_total", "direction"), "set {{direction}} (times)"),
        ),
        graph(
            "Wrong admin tokens",
            "Requests to the admin port with a wrong token. `too_many`: somebody tries them.",
            "cps",
            (rate("ratchet_admin_tokens_refused_total", "reason"), "{{reason}}"),
        ),
        graph(
            "Databases made again",
            "How often the database was gone, and was created again without its records.",
            "short",
            (level("ratchet_store_replaced_total"), "times"),
            limits=((None, "green"), (1, "red")),
        ),
    )
