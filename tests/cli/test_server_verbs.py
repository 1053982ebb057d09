"""Verbs that talk to a running server: feedback and status."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner, Result

from proxy.cli.app import app
from proxy.config.serving import SpoolConfig
from proxy.loop.codec import to_json
from proxy.metrics.shared import SharedCounters
from proxy.spool import SpoolWriter
from proxy.spool.frames import iter_frames
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.public import FEEDBACK_COUNTERS, create_public_app
from tests.harness.arms import assessed
from tests.harness.install import Install
from tests.harness.webserver import serving_in_thread


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path / "data")


def ratchet(install: Install, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--data-dir", str(install.root)], env={"COLUMNS": "200"})


def vote(install: Install, *args: str) -> tuple[Result, list[dict[str, Any]]]:
    """`ratchet feedback` against a real side app; the result, and the votes that are then in its spool."""
    spool = SpoolWriter(install.root / "spool", SpoolConfig())
    counters = SharedCounters(install.root / "stats", FEEDBACK_COUNTERS)
    side = create_public_app(install.config, spool, install.ids, counters, install.clock)
    with serving_in_thread(side) as url:
        result = ratchet(install, "feedback", *args, "--url", url)
    spool.close()
    counters.close()
    segments = sorted(install.root.glob("spool/*/*.seg"))
    return result, [
        vote for path in segments for frame, _ in iter_frames(path.read_bytes()) for vote in frame.meta["votes"]
    ]


@pytest.mark.parametrize(
    ("word", "feedback"), [("good", 1), ("bad", -1), ("-1", -1), ("neutral", 0), ("retract", None)]
)
def test_a_vote_by_the_id_that_lists_show(install: Install, word: str, feedback: int | None) -> None:
    record = install.record()
    result, [kept] = vote(install, record.id, word, "--comment", "hm")
    assert result.exit_code == 0, result.output
    assert (kept["id"], kept["feedback"], kept["source"], kept["comment"]) == (record.id, feedback, "cli", "hm")


def test_a_refusal_says_why_and_fails(install: Install) -> None:
    result, votes = vote(install, "chatcmpl-1", "good")
    assert (result.exit_code, votes) == (1, [])
    assert "not a record id" in result.output


def test_a_word_that_is_no_vote_is_wrong_usage(install: Install) -> None:
    assert ratchet(install, "feedback", "x", "great").exit_code == 2


def test_a_vote_that_says_nothing_is_wrong_usage(install: Install) -> None:
    result = ratchet(install, "feedback", "x")
    assert (result.exit_code, "--correction" in result.output) == (2, True)


def test_no_server_is_told_apart_from_a_refusal(install: Install) -> None:
    for verb in (["feedback", "x", "good", "--url"], ["status", "--admin-url"]):
        result = ratchet(install, *verb, "http://127.0.0.1:1")
        assert (result.exit_code, "no server answers" in result.output) == (4, True)
        assert "(Connection refused)" in result.output


def test_an_address_that_is_none_is_not_reachable(install: Install) -> None:
    for url in ("localhost:8081", "nothing", "http://[::1"):
        result = ratchet(install, "status", "--admin-url", url)
        assert (result.exit_code, f"no server answers at {url}" in result.output) == (4, True)


STATUS = {
    "phase": {"name": "testing", "since": 1.7e9, "reason": "run-1 is deployed", "paused": True},
    "next": {"action": None, "held": {"action": "Promote"}, "reasons": ["48 h are not over"], "wake_at": 1.7e9},
    "champion": {"id": 1, "name": "base", "healthy": True},
    "challenger": {"id": 2, "name": "run-1", "healthy": False},
    "previous": None,
    "run": {"id": "run-1", "trigger": "manual", "status": "running", "progress": 0.5, "message": "epoch 2"},
    "triggers": {
        "fired": None, "hold": "cool-down", "hold_until": None, "schedule_at": None,
        "progress": [
            {"name": "sample_count", "enabled": True, "value": 250, "target": 1000, "fraction": 0.25, "due": False,
             "reason": "few"},
        ],
    },
    "experiment": {
        "id": 3, "share": 0.1, "started_at": 1.7e9,
        "assessment": {**json.loads(json.dumps(to_json(assessed()))), "reasons": ["not sure yet"]},
    },
    "retries": [{"action": "Retire", "target": "4", "about": "run-0", "at": 1.7e9, "attempts": 2, "reason": "busy"}],
    "traffic": {"minutes": 15, "requests": 1200, "failed": 3, "refused": 4, "positive": 5, "negative": 6},
    "notes": ["the clock went back"],
}  # fmt: skip


def admin_app(install: Install, status: Mapping[str, Any]) -> Starlette:
    async def answer() -> Mapping[str, Any]:
        return status

    return create_admin_app(
        AdminServices(
            config=install.config,
            clock=install.clock,
            keys=install.keys,
            metrics=lambda accept: (b"", "text/plain"),
            status=answer,
            health=lambda: {"status": "ok"},
            store=lambda: None,
        )
    )


def test_status_for_people_says_everything_that_matters(install: Install) -> None:
    with serving_in_thread(admin_app(install, STATUS)) as url:
        text = ratchet(install, "status", "--admin-url", url).output
    said_by_status = [
        "testing", "(paused)", "run-1 is deployed", "base", "not healthy", "Promote", "48 h are not over",
        "new samples", "few", "cool-down", "10 %", "Keep testing", "not sure yet", "clock went back",
        "Stop a model (run-0): failed 2 times",
        "last 15 minutes: 1,200 requests, 3 failed, 4 refused, 5 thumbs up, 6 down",
    ]  # fmt: skip
    for said in said_by_status:
        assert said in text, said


TROUBLE = {"sentence": "21 of 25 requests failed in the last minute: connection refused at http://x", "since": 1.7e9}
KNOWN = {"failed_share": 0.84, "requests": 25, "seen_by": "host-1"}
CALM = {"challenger": None, "retries": [], "phase": {"name": "testing", "since": 1.7e9, "reason": "it is deployed"}}
"""Nothing hurts."""


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        (
            {"champion": {"name": "base", "healthy": False, **KNOWN}, "troubles": {"champion": TROUBLE}},
            "champion base is not healthy: 21 of 25 requests failed in the last minute: connection refused at http://x "
            "(since 2023-11-14 22:13:20 UTC)",
        ),
        (
            {"champion": {"name": "champion", "healthy": True, **KNOWN, "failed_share": 0.04}, **CALM},
            "champion answers: 1 of 25 requests failed in the last minute",
        ),
        ({"troubles": {"champion": TROUBLE, "store": TROUBLE}, "champion": None}, "champion is not healthy: 21 of 25"),
        ({"champion": {"name": "base", "healthy": None, "requests": 0}, **CALM}, "testing since 2023-11-14"),
        ({"champion": None}, "challenger run-1 is not healthy: "),
    ],
)
def test_status_begins_with_how_the_champion_is(install: Install, changes: Mapping[str, Any], first: str) -> None:
    with serving_in_thread(admin_app(install, {**STATUS, **changes})) as url:
        lines = ratchet(install, "status", "--admin-url", url).output.splitlines()
    assert " ".join(lines).startswith(first), lines
    assert sum("21 of 25" in line for line in lines) == len(changes.get("troubles", ()))


def test_status_says_whose_view_it_is_where_there_are_several(install: Install) -> None:
    replica = {"host": "host-1", "id": "a", "alive": True, "leader": True, "version": "1", "seen_s_ago": 1.0,
               "routes_version": 1, "lag_s": 0.0}  # fmt: skip
    document = {**STATUS, "champion": {"name": "base", "healthy": True, **KNOWN}, "replicas": [replica]}
    with serving_in_thread(admin_app(install, document)) as url:
        text = " ".join(ratchet(install, "status", "--admin-url", url).output.splitlines())
    assert "champion base is failing: 21 of 25 requests in the last minute (84.0 %), as host-1 sees it" in text


def test_status_for_programs_is_the_document(install: Install) -> None:
    with serving_in_thread(admin_app(install, STATUS)) as url:
        assert json.loads(ratchet(install, "status", "--admin-url", url, "--json").stdout) == STATUS


def test_status_of_a_server_without_a_loop_is_short_not_a_crash(install: Install) -> None:
    with serving_in_thread(admin_app(install, {"phase": {"name": "starting", "reason": "the store is away"}})) as url:
        result = ratchet(install, "status", "--admin-url", url)
    assert (result.exit_code, "the store is away" in result.output) == (0, True)


def test_what_is_no_status_of_this_version_is_said_not_a_crash(install: Install) -> None:
    with serving_in_thread(admin_app(install, {"hello": "world"})) as url:
        result = ratchet(install, "status", "--admin-url", url)
    assert (result.exit_code, "not a status document of this version" in result.output) == (1, True)


def test_the_running_server_is_found_by_the_addresses_it_wrote_down(install: Install) -> None:
    with serving_in_thread(admin_app(install, STATUS)) as url:
        (install.root / "run").mkdir()
        (install.root / "run" / "addresses.json").write_text(json.dumps({"public": None, "admin": url}))
        assert ratchet(install, "status", "--json").exit_code == 0
