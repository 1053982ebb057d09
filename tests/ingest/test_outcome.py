"""One notion of how an exchange ended: every combination of what the connection told and what the answer says."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from policies.records import Outcome
from proxy.ingest.outcome import outcome_of

OK, LEFT, ERROR, LATE, CUT, HALF, REFUSED = (
    Outcome.OK, Outcome.CLIENT_DISCONNECT, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED,
    Outcome.INCOMPLETE, Outcome.REFUSED,
)  # fmt: skip
SEEN = (OK, LEFT, ERROR, LATE, CUT)
STATUSES = (0, 101, 200, 204, 302, 304, 400, 404, 429, 500, 502, 504, 599)
ANY = None
FACTS = ("seen", "class", "headed", "failed", "whole", "finished", "cut")
ROWS: tuple[tuple[Outcome, dict[str, Any]], ...] = (
    # The first row that fits; what a row does not name may be anything.
    (ERROR, {"seen": ERROR}),
    (LATE, {"seen": LATE}),
    (CUT, {"seen": CUT}),
    (OK, {"seen": OK, "class": 1}),
    (LEFT, {"seen": LEFT, "class": 0}),
    (OK, {"seen": OK, "class": 0}),
    (LEFT, {"seen": LEFT, "class": 1}),
    (LEFT, {"seen": LEFT, "headed": False}),
    (REFUSED, {"class": 4}),
    (ERROR, {"class": 5}),
    (ERROR, {"failed": True}),
    (OK, {"seen": LEFT, "finished": True}),
    (LEFT, {"seen": LEFT}),
    (HALF, {"class": 2, "whole": False, "cut": False}),
    (OK, {}),
)


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.label)
@pytest.mark.parametrize("status", STATUSES)
def test_every_combination(seen: Outcome, status: int) -> None:
    for headed, failed, whole, finished, cut in product((True, False), (True, False), (None, True, False),
                                                        (True, False), (True, False)):  # fmt: skip
        facts = dict(zip(FACTS, (seen, status // 100, headed, failed, whole, finished, cut), strict=True))
        expected = next(outcome for outcome, row in ROWS if all(facts[name] == value for name, value in row.items()))
        found = outcome_of(seen, status, headed=headed, failed=failed, whole=whole, finished=finished, cut=cut)
        assert found is expected, facts


def test_every_row_of_the_table_is_needed() -> None:
    """None is hidden by those above it."""
    used = set()
    for values in product(SEEN, (0, 1, 2, 3, 4, 5), *((True, False),) * 2, (None, True, False), *((True, False),) * 2):
        facts = dict(zip(FACTS, values, strict=True))
        used.add(next(n for n, (_, row) in enumerate(ROWS) if all(facts[k] == v for k, v in row.items())))
    assert used == set(range(len(ROWS)))


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.label)
@pytest.mark.parametrize("status", [status for status in STATUSES if status >= 400])
def test_an_error_status_is_never_an_answer(seen: Outcome, status: int) -> None:
    found = outcome_of(seen, status, headed=True, failed=False, whole=None, finished=False, cut=False)
    assert found.failed or found.refused or found is CUT
