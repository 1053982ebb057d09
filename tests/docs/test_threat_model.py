"""The threat model names tests that exist and figures that the code has; so does the table of bounds in secure.md."""

import re
from pathlib import Path

import pytest

from policies import carriers
from policies.experiment import ABTestConfig
from policies.selection import DataGeneratorConfig
from proxy import ids, limits
from proxy.app import web_server
from proxy.cleaning import cleaner
from proxy.config.checks import SHORTEST_TOKEN
from proxy.config.model import FeedbackConfig
from proxy.config.serving import CaptureConfig, GatewayConfig, RedactionConfig, SpoolConfig
from proxy.config.storage import RetentionConfig
from proxy.gateway import trust
from proxy.ingest import ingestor
from proxy.web.auth import SESSION_S
from proxy.web.feedback import MAX_BODY_BYTES
from proxy.web.limits import MAX_ADMIN_BODY_BYTES
from proxy.wire.decode import MAX_CODINGS
from proxy.wire.extract import dispatch, stream
from proxy.wire.lenient import MAX_VALUES
from tests.harness.pages import ROOT

PAGE = (ROOT / "docs/how-to/threat-model.md").read_text(encoding="utf-8")
SECURE = (ROOT / "docs/how-to/secure.md").read_text(encoding="utf-8")
IN_NUMBERS = SECURE.partition("## In numbers")[2].partition("\n## ")[0]

EARLIER = (
    "tests/gateway/test_smuggling.py",
    "tests/gateway/test_head.py",
    "tests/acceptance/test_hostile.py",
    "tests/web/test_admin.py",
    "tests/web/console/test_actions.py",
    "tests/web/console/test_pages.py",
    "tests/web/console/test_datasets.py",
    "tests/ids/test_ids.py",
    "tests/contract/store/test_search.py",
)
"""What showed, before anybody forged anything: smuggling, CSRF, rebinding, XSS, signed ids, SQL."""


def size(count: int) -> str:
    """Bytes as the pages write them."""
    unit, shift = ("KiB", 10) if count < 1 << 20 else ("MiB", 20) if count < 1 << 30 else ("GiB", 30)
    return f"{count >> shift} {unit}"


FEEDBACK, GATEWAY, CAPTURE, SPOOL = FeedbackConfig(), GatewayConfig(), CaptureConfig(), SpoolConfig()
RETENTION, DATA, REDACTION, TEST = RetentionConfig(), DataGeneratorConfig(), RedactionConfig(), ABTestConfig()
BOUNDS = {
    f"{1 / TEST.icc:g} observations",
    f"{carriers.LEAST_LEFT_OUT} clusters",
    f"{100 * carriers._FRACTION:g} %",
    f"{carriers.LEAST_VOTERS} voters",
    f"{trust._MOST_HOPS} hops",
    f"{FEEDBACK.rate_per_second:g} votes a second",
    f"{FEEDBACK.max_batch:,} votes",
    f"{FEEDBACK.max_age_days:g} days",
    f"{8 * ids._MAC_BYTES} bits",
    size(MAX_BODY_BYTES),
    f"{DATA.max_samples_per_user} samples",
    f"{100 * DATA.max_own_share:g} %",
    f"{DATA.max_corrections_per_user} corrections",
    f"{100 * DATA.max_correction_share:g} %",
    size(GATEWAY.max_head_bytes),
    f"{GATEWAY.max_headers} headers",
    f"{GATEWAY.head_timeout_seconds:g} s",
    f"{GATEWAY.body_idle_seconds:g} s",
    f"{GATEWAY.max_connections:,} connections",
    f"{GATEWAY.breaker.consecutive_failures} failures",
    size(CAPTURE.max_request_bytes),
    size(CAPTURE.max_response_bytes),
    size(CAPTURE.max_decoded_bytes),
    f"{MAX_CODINGS} codings",
    f"{MAX_VALUES:,} JSON values",
    f"{dispatch._MAX_TURNS:,} turns",
    f"{stream._MAX_LINES:,} lines",
    size(ingestor._MOST_BYTES),
    f"{REDACTION.deadline_seconds:g} s",
    size(cleaner._MOST_BYTES),
    size(SPOOL.max_bytes),
    f"{RETENTION.bodies_days:g} days",
    f"{RETENTION.records_days:g} days",
    f"{RETENTION.failed_runs_days:g} days",
    f"{limits._GUESSES_AT_ONCE} guesses",
    f"{limits._GUESSES_PER_S:g} guess a second",
    f"{SHORTEST_TOKEN} characters",
    size(MAX_ADMIN_BODY_BYTES),
    size(web_server._LONGEST_HEAD),
    f"{SESSION_S / 3600:g} hours",
}
"""Every figure that may stand in bold, as the pages write it."""


def paths_in(page: str) -> set[str]:
    return set(re.findall(r"`(tests/[^`]+)`", page))


def bold_in(page: str) -> list[str]:
    """Figures: what is bold and begins with a digit."""
    return re.findall(r"\*\*(\d[^*]*)\*\*", page)


def test_every_test_that_is_named_exists() -> None:
    named = paths_in(PAGE)
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


@pytest.mark.parametrize("page", [PAGE, IN_NUMBERS], ids=["threat-model", "secure"])
def test_every_figure_is_the_codes(page: str) -> None:
    figures = bold_in(page)
    assert figures
    assert [figure for figure in figures if figure not in BOUNDS] == []


def test_no_bound_is_left_out() -> None:
    assert BOUNDS - set(bold_in(PAGE)) == set()


@pytest.mark.parametrize("path", EARLIER)
def test_what_was_protected_before_is_still_tested(path: str) -> None:
    """By its path; what the file says is its own business, but it says something."""
    assert path in paths_in(PAGE)
    assert re.search(r"^(?:async )?def test_", Path(ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_each_kind_of_attacker_is_told_what_shows_it() -> None:
    """Every part of the page about somebody who attacks ends in tests."""
    parts = re.split(r"^### ", PAGE.partition("## Who attacks")[2].partition("\n## ")[0], flags=re.MULTILINE)[1:]
    assert len(parts) >= 11
    assert [part.splitlines()[0] for part in parts if not paths_in(part)] == []
