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
from proxy.web.feedback import MAX_ANONYMOUS_BYTES, MAX_BODY_BYTES
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

OBSERVATIONS = f"**{1 / TEST.icc:g} observations**"
CLUSTERS = f"**{carriers.LEAST_LEFT_OUT} clusters**"
LEFT_OUT = f"**{100 * carriers._FRACTION:g} %**"
VOTERS = f"**{carriers.LEAST_VOTERS} voters**"
VOTES = f"**{FEEDBACK.rate_per_second:g} votes a second**"
BATCH = f"**{FEEDBACK.max_batch:,} votes**"
VOTE_AGE = f"**{FEEDBACK.max_age_days:g} days**"
SAMPLES = f"**{DATA.max_samples_per_user} samples**"
CORRECTIONS = f"**{DATA.max_corrections_per_user} corrections**"
CORRECTED = f"**{100 * DATA.max_correction_share:g} %**"
OWN = f"**{100 * DATA.max_own_share:g} %**"
HEAD = f"**{size(GATEWAY.max_head_bytes)}**, **{GATEWAY.max_headers} headers**, **{GATEWAY.head_timeout_seconds:g} s**"
REQUEST, ANSWER = f"**{size(CAPTURE.max_request_bytes)}**", f"**{size(CAPTURE.max_response_bytes)}**"
DECODED, CODINGS = f"**{size(CAPTURE.max_decoded_bytes)}**", f"**{MAX_CODINGS} codings**"
VALUES = f"**{MAX_VALUES:,} JSON values**"
INGEST = f"**{size(ingestor._MOST_BYTES)}** of bodies in one transaction"
DEADLINE = f"**{REDACTION.deadline_seconds:g} s**"
ON_DISK, BODIES = f"**{size(SPOOL.max_bytes)}**", f"**{RETENTION.bodies_days:g} days**"
RECORDS, FAILED_RUNS = f"**{RETENTION.records_days:g} days**", f"**{RETENTION.failed_runs_days:g} days**"
GUESSES, PER_S = f"**{limits._GUESSES_AT_ONCE} guesses**", f"**{limits._GUESSES_PER_S:g} guess a second**"
TOKEN = f"**{SHORTEST_TOKEN} characters**"
ADMIN_BODY, ADMIN_HEAD = f"**{size(MAX_ADMIN_BODY_BYTES)}**", f"**{size(web_server._LONGEST_HEAD)}**"
SESSION = f"**{SESSION_S / 3600:g} hours**"

SAID = {
    PAGE: (
        f"A cluster counts at most {OBSERVATIONS}",
        f"the first address that is not trusted, up to **{trust._MOST_HOPS} hops**",
        f"{VOTES} per address",
        f"{BATCH} in one request",
        f"Votes on records older than {VOTE_AGE} are refused",
        f"A record id is signed (**{8 * ids._MAC_BYTES} bits**)",
        f"at most {CORRECTED} of a training file are corrections",
        f"at most {CORRECTIONS} come from one user or cluster",
        f"Heads: {HEAD}",
        f"**{GATEWAY.body_idle_seconds:g} s** of silence end one",
        f"**{GATEWAY.max_connections:,} connections** per worker",
        f"{REQUEST} of a request and {ANSWER} of an answer are kept",
        f"{CODINGS}, {DECODED} decoded over all of them, {VALUES}",
        f"**{dispatch._MAX_TURNS:,} turns**, **{stream._MAX_LINES:,} lines** of a stream",
        INGEST,
        f"Python's engine is used only if configured, with a deadline of {DEADLINE}",
        f"at most **{size(cleaner._MOST_BYTES)}** wait",
        f"The spool has at most {ON_DISK}",
        f"bodies are deleted after {BODIES}, records after {RECORDS}",
        f"{GUESSES} at once, {PER_S} after that",
        f"tokens under {TOKEN} are refused",
        f"the circuit breaker opens after **{GATEWAY.breaker.consecutive_failures} failures** in a row",
        f"the votes of the {CLUSTERS} (or {LEFT_OUT}, if that is more)",
        f"With fewer than {VOTERS} in an arm the promotion waits",
        f"each is one user, with {OBSERVATIONS}",
        f"One user contributes at most {SAMPLES} to a training file",
        f"At most {OWN} of the lines are by models trained here",
        f"Bodies over {ADMIN_BODY} and heads over {ADMIN_HEAD} are refused",
        f"Sessions last {SESSION}",
        f"Folders of failed trainings are removed after {FAILED_RUNS}",
    ),
    IN_NUMBERS: (
        f"{VOTES} per address and worker, {BATCH} in one request of **{size(MAX_ANONYMOUS_BYTES)}** at most "
        f"(**{size(MAX_BODY_BYTES)}** with the token)",
        f"one counts per record, none after {VOTE_AGE}",
        f"one cluster, in each arm at most {OBSERVATIONS}",
        f"the votes of {CLUSTERS} of each arm, or {LEFT_OUT}, are left out",
        f"below {VOTERS} the promotion waits",
        f"{SAMPLES} and {CORRECTIONS} of one user",
        f"{CORRECTED} corrections, {OWN} by models trained here",
        f"head {HEAD}; kept {REQUEST} and {ANSWER}; decoded {DECODED} by {CODINGS}; read {VALUES}",
        f"| {DEADLINE} for one body",
        INGEST,
        f"spool {ON_DISK}, bodies {BODIES}, records {RECORDS}, failed trainings {FAILED_RUNS}",
        f"{GUESSES} at once, then {PER_S} for an address; tokens of {TOKEN} or more",
        f"bodies of {ADMIN_BODY}, heads of {ADMIN_HEAD}, sessions of {SESSION}",
    ),
}
"""What each page says of each bound, with the figure of the constant that is meant: another one's that happens to be
the same does not do."""


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
def test_every_figure_is_that_of_its_constant(page: str) -> None:
    assert [said for said in SAID[page] if said not in page] == []
    rest = page
    for said in SAID[page]:
        rest = rest.replace(said, "", 1)
    assert bold_in(rest) == [], "figures that no constant stands behind"


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
