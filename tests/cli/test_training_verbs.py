"""data preview, data export and power, on a real store."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.app import app
from proxy.clock import ManualClock, SystemClock
from tests.harness.install import Install

SUBJECTS = ("tides", "glaciers", "violins", "comets", "bridges", "saffron", "lighthouses", "fjords")


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path / "data", clock=ManualClock(SystemClock().now() - 7200))


def ratchet(install: Install, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--data-dir", str(install.root)], env={"COLUMNS": "200"})


def fill(install: Install) -> None:
    """Eight good answers, a bad one, and a duplicate."""
    good = [
        install.record(
            user=f"user-{n}", query=f"Tell me about {word}", response=f"What there is to say about {word}: {n}."
        )
        for n, word in enumerate(SUBJECTS)
    ]
    bad = install.record(user="ann", query="Say it badly", response="No.", quality=0.1)
    twin = install.record(user="eve", query="Tell me about tides", response="What there is to say about tides: 0.")
    asyncio.run(install.fill([*good, bad, twin], [install.vote(record, 1) for record in good[:4]]))


def test_preview_says_what_would_be_kept_and_why_not_the_rest(install: Install) -> None:
    fill(install)
    document = json.loads(ratchet(install, "data", "preview", "--json").stdout)
    assert (document["seen"], document["kept"], sum(document["dropped"].values())) == (10, 8, 2)
    text = ratchet(install, "data", "preview", "--show", "1").output
    assert all(said in text for said in ("seen", "dropped: ", "kept", "messages"))


def test_export_writes_the_training_file_and_its_manifest_once(install: Install, tmp_path: Path) -> None:
    fill(install)
    folder = tmp_path / "out" / "first"
    result = ratchet(install, "data", "export", str(folder), "--json")
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)
    lines = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert len(lines) == manifest["samples"] > 0
    assert manifest["samples"] + manifest["holdout_samples"] == 8
    assert json.loads((folder / "manifest.json").read_text())["sha256"] == manifest["sha256"]
    again = ratchet(install, "data", "export", str(folder))
    assert (again.exit_code, "already holds an export" in again.output) == (2, True)


def test_power_for_given_traffic_says_what_it_assumes(install: Install) -> None:
    result = ratchet(install, "power", "--requests-per-day", "500", "--users", "500", "--gain", "0.1", "--json")
    document = json.loads(result.stdout)
    by_gain = {answer["gain"]: answer["days"] for answer in document["answers"]}
    assert document["assumed"] is True
    assert by_gain[0.2] < by_gain[0.1]
    text = ratchet(install, "power", "--requests-per-day", "20000", "--users", "2000").output
    assert all(
        said in text
        for said in ("assumed", "+5 %", "20,000 requests a day by 2,000 users", "challenger at 1 % → 10 % → 50 %")
    )


def test_a_larger_share_needs_fewer_days(install: Install) -> None:
    def days(share: str) -> float:
        args = ("power", "--requests-per-day", "500", "--users", "500", "--share", share, "--gain", "0.1", "--json")
        answers = json.loads(ratchet(install, *args).stdout)["answers"]
        return float(next(answer["days"] for answer in answers if answer["gain"] == 0.1))

    assert days("0.5") < days("0.1")


def test_power_backwards_gives_the_gain_that_so_many_days_show(install: Install) -> None:
    def gain(days: str) -> float:
        args = ("power", "--requests-per-day", "20000", "--users", "2000", "--days", days, "--json")
        return float(json.loads(ratchet(install, *args).stdout)["detectable_gain"])

    assert 0 < gain("28") < gain("7")


def test_power_takes_the_traffic_from_the_store_where_it_has_some(install: Install) -> None:
    fill(install)
    document = json.loads(ratchet(install, "power", "--users", "8", "--json").stdout)
    assert document["traffic"]["requests_per_day"] == pytest.approx(10)  # it is not a day old
    rates = {metric["metric"]: metric["per_request"] for metric in document["metrics"]}
    assert rates["positive"] == pytest.approx(0.4)


def test_power_takes_an_unknown_crowd_for_as_many_as_there_are_requests(install: Install) -> None:
    args = ("power", "--gain", "0.1", "--requests-per-day", "2000", "--vote-rate", "0.1")
    document = json.loads(ratchet(install, *args, "--json").stdout)
    assert (document["traffic"]["users"], document["users_assumed"]) == (2000, True)
    assert "2,000 users (assumed: one request each; set it with --users)" in ratchet(install, *args).output


def test_power_says_what_the_documentation_of_the_rule_says(install: Install) -> None:
    """docs/statistics.md: 1/V of 5590 and 1409 for +5 and +10 %; thumbs, 70 % up, alone at a share of 10 %: 6,700 votes
    for +10 %."""
    config = install.root.parent / "thumbs.toml"
    config.write_text(
        "[ab_test_config]\nquality_weight = 0\nfeedback_weight = 1\nlatency_weight = 0\nmin_duration_hours = 0\n"
    )
    traffic = ("--requests-per-day", "1e4", "--users", "1e6", "--vote-rate", "1", "--share", "0.1")
    answers = json.loads(ratchet(install, "power", "--config", str(config), *traffic, "--json").stdout)["answers"]
    by_gain = {answer["gain"]: answer for answer in answers}
    assert by_gain[0.05]["information"] == pytest.approx(5590, rel=0.01)
    assert by_gain[0.1]["information"] == pytest.approx(1409, rel=0.01)
    assert by_gain[0.1]["observations"]["positive"] == pytest.approx(6_700, rel=0.02)


SMALL_SITE = ("power", "--requests-per-day", "50", "--users", "40", "--new-users-per-day", "10", "--vote-rate", "0.2")


def test_power_tells_a_small_site_how_long_it_takes_and_the_cheapest_lever(install: Install) -> None:
    config = install.root.parent / "thumbs.toml"
    config.write_text("[ab_test_config]\nquality_weight = 0\n")
    text = " ".join(ratchet(install, *SMALL_SITE, "--config", str(config)).output.split())
    assert "+5 % with your traffic: longer than max_duration_hours: one of two tests in 2 months" in text
    assert "hours of work: have people compare" in text
    assert text.count("(the cheapest that suffices)") == 1
    document = json.loads(ratchet(install, *SMALL_SITE, "--config", str(config), "--json").stdout)
    assert [lever["kind"] for lever in document["levers"]] == ["share", "judge", "preferences", "longer"]
    assert document["cheapest"] == "preferences"


def test_power_says_never_where_the_same_few_come_back(install: Install) -> None:
    text = ratchet(install, "power", "--requests-per-day", "50", "--users", "20", "--vote-rate", "0.2").output
    assert "never, however long the test takes: the same 20 users come back" in " ".join(text.split())


def test_power_says_that_a_gain_below_the_threshold_is_not_promoted(install: Install) -> None:
    args = ("power", "--requests-per-day", "20000", "--users", "20000", "--gain", "0.02")
    assert "+2 % is below promotion_threshold" in ratchet(install, *args).output


def test_power_without_numbers_says_which_ones_to_give(install: Install) -> None:
    result = ratchet(install, "power")
    assert (result.exit_code, "--requests-per-day and --users" in result.output) == (2, True)


def days_ago(install: Install, days: float) -> None:
    install.clock.advance(-days * 86_400)


def test_archive_then_build_from_the_archive_alone(install: Install, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the archive needs the extra `archive`")
    days_ago(install, 3)
    fill(install)
    archive = str(tmp_path / "archive")
    nothing = ratchet(install, "data", "export", str(tmp_path / "none"), "--from", archive)
    assert (nothing.exit_code, "data archive" in nothing.output) == (5, True)
    days = json.loads(ratchet(install, "data", "archive", archive, "--json").stdout)
    assert ({day["state"] for day in days}, sum(day["records"] for day in days)) == ({"written"}, 10)
    again = ratchet(install, "data", "archive", archive)
    assert (again.exit_code, "0 of" in again.output, "10 records" in again.output) == (0, True, True)

    stored = json.loads(ratchet(install, "data", "export", str(tmp_path / "a" / "x"), "--json").stdout)
    (install.root / "ratchet.db").unlink()
    result = ratchet(install, "data", "export", str(tmp_path / "b" / "x"), "--from", archive, "--json")
    assert result.exit_code == 0, result.output
    archived = json.loads(result.stdout)
    assert (archived["sha256"], archived["dropped"]) == (stored["sha256"], stored["dropped"])
    preview = json.loads(ratchet(install, "data", "preview", "--from", archive, "--json").stdout)
    assert (preview["seen"], preview["kept"]) == (10, 8)


def test_another_format_for_one_export(install: Install, tmp_path: Path) -> None:
    fill(install)
    result = ratchet(install, "data", "export", str(tmp_path / "x"), "--format", "alpaca", "--json")
    assert json.loads(result.stdout)["format_type"] == "alpaca"
    assert {"instruction", "input", "output"} <= json.loads(
        (tmp_path / "x/data.jsonl").read_text().splitlines()[0]
    ).keys()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--gain", "inf"), "--gain: inf is no finite number"),
        (("--requests-per-day", "nan"), "--requests-per-day: nan is no finite number"),
        (("--requests-per-day", "500", "--users", "0"), "--users: 0 must be above 0"),
        (("--requests-per-day", "-5"), "--requests-per-day: -5 must be above 0"),
    ],
)
def test_power_refuses_numbers_that_are_none(install: Install, asked: tuple[str, ...], says: str) -> None:
    result = ratchet(install, "power", *asked)
    assert result.exit_code == 2
    assert says in result.output


def test_power_says_what_few_days_and_one_user_are_worth(install: Install) -> None:
    text = ratchet(install, "power", "--requests-per-day", "500", "--users", "500", "--days", "1").output
    assert "1 day can detect" in text
    assert "No challenger is promoted before 2 days" in text
    hopeless = ratchet(install, "power", "--requests-per-day", "50", "--users", "50", "--days", "0.001").output
    assert "0.001 days can detect no gain" in hopeless
    alone = ratchet(install, "power", "--requests-per-day", "50", "--users", "1").output
    assert "50 requests a day by 1 user," in alone
    assert "the same user comes back, and weighs no more than 10 observations" in " ".join(alone.split())


def test_power_counts_requests_that_name_nobody_as_a_test_does(install: Install) -> None:
    unnamed = [replace(install.record(query=f"{n} + {n}?"), user_hash=None) for n in range(8)]
    asyncio.run(install.fill(unnamed, [install.vote(record, 1) for record in unnamed[:4]]))
    document = json.loads(ratchet(install, "power", "--json").stdout)
    assert (document["traffic"]["strangers_per_day"], document["users_assumed"]) == (8.0, False)
    text = ratchet(install, "power").output
    assert "8 requests a day (8 of them name nobody: a test counts each as a user of its own)" in text
    assert "come back" not in text


def test_power_without_a_vote_assumes_some_and_says_so(install: Install) -> None:
    asyncio.run(install.fill([install.record(user=f"user {n}") for n in range(8)]))
    document = json.loads(ratchet(install, "power", "--json").stdout)
    (note,) = [note for note in document["notes"] if note.startswith("positive: ")]
    assert "nobody has voted yet; votes on 10 % of the answers are assumed (--vote-rate" in note
    given = json.loads(ratchet(install, "power", "--vote-rate", "0.2", "--json").stdout)
    assert not any("nobody has voted" in note for note in given["notes"])
    refused = ratchet(install, "power", "--vote-rate", "0")
    assert (refused.exit_code, "positive: is never observed" in refused.output) == (2, True)
