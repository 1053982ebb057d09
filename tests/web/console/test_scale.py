"""Pages stay fast at a million records because no statement of theirs reads a table that grows with traffic to its end.

The plans are SQLite's own, for the very statements that the pages sent: each must search such a table by key or index.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from tests.harness.console_data import Admin
from tests.harness.serve import request

pytestmark = pytest.mark.slow

GROWING = (
    "records",
    "bodies",
    "aliases",
    "feedback",
    "scores",
    "user_stats",
    "traffic",
    "durations",
    "looks",
    "run_users",
    "comparisons",
    "judgements",
)
PAGES = ("/", "/checks", "/checks/1", "/checks/1?show=worse", "/checks/1?show=better", "/checks/1?show=disagrees",
         "/checks/1?tag=returns", "/checks/1/side-by-side?who=ann", "/api/checks/1/comparisons?show=open&who=ann",
         "/experiment", "/experiment/1/data", "/traffic?range=30d", "/traffic/data?range=7d", "/records",
         "/records?text=dictionary&min_quality=0.9", "/records?feedback=negative", "/records?status=5xx",
         "/records?user_hash=0000000000000024", "/records?arm=challenger&since=24h", "/runs", "/history",
         "/history?holds=1", "/judge")  # fmt: skip


@contextmanager
def recorded() -> Iterator[list[tuple[str, Any]]]:
    """Every SELECT that is sent meanwhile, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            seen.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def full_scans(plan: list[str]) -> list[str]:
    """Steps of a plan that read a growing table from one end to the other."""
    return [step for step in plan if re.match(rf"SCAN ({'|'.join(GROWING)})\b", step)]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_reads_a_growing_table_to_its_end(admin: Admin, path: str) -> None:
    with recorded() as statements:
        assert request(admin.url, path).status == 200
    assert statements, "the page asked the store nothing"
    with closing(sqlite3.connect(admin.stage.root / "ratchet.db")) as database:
        for statement, parameters in statements:
            plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not full_scans(plan), f"{statement}\n{plan}"


def test_a_scan_would_be_noticed(admin: Admin) -> None:
    with closing(sqlite3.connect(admin.stage.root / "ratchet.db")) as database:
        plan = [row[3] for row in database.execute("EXPLAIN QUERY PLAN SELECT count(quality) FROM records")]
    assert full_scans(plan)


def test_one_record_run_experiment_and_decision_are_found_by_key(admin: Admin) -> None:
    body = request(admin.url, "/records").body.decode()
    record = re.search(r'href="(/records/[0-9a-f]{32})"', body)
    run = re.search(r'href="(/runs/run-[^"]+)"', request(admin.url, "/runs").body.decode())
    assert record
    assert run
    for path in (record[1], run[1], f"{run[1]}/data", f"{run[1]}/diff", "/experiment/1", "/history/2"):
        test_no_page_reads_a_growing_table_to_its_end(admin, path)
