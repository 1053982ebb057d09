"""`ratchet power`: how long a test takes with this traffic, and what would make it shorter, before it is started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.wording import duration, many, number, percent, share, signed_percent
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.printable import styled

if TYPE_CHECKING:
    from policies.levers import Lever
    from policies.power import ExpectedTraffic
    from policies.profiles import MetricProfile
    from proxy.config.model import Config
    from proxy.loop.look.expected import Expected
    from proxy.store.store import Store

__all__ = ["power"]

_GAINS = (0.02, 0.05, 0.1, 0.2)
_NO_GAIN = 10.0
"""So large a gain (eleven times as good) is none that anybody looks for."""

Gain = Annotated[
    float | None,
    typer.Option(min=0, help="Relative gain to detect, 0.05 for +5 %.", show_default="promotion_threshold"),
]
Share = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="One share of the users on the challenger, 0 to 1, without a ramp.",
        show_default="the stages of the settings",
    ),
]  # fmt: skip
Days = Annotated[
    float | None, typer.Option(min=0, help="Ask instead which gain this many days can detect.", show_default=False)
]
Requests = Annotated[
    float | None,
    typer.Option("--requests-per-day", help="Default: the last 7 days in the store.", show_default=False),
]
Users = Annotated[
    float | None,
    typer.Option(
        "--users", help="Users a day, who come equally often. Default: the store's, and how often each comes; else one "
        "per request.", show_default=False,
    ),
]  # fmt: skip
NewUsers = Annotated[float, typer.Option("--new-users-per-day", min=0, help="Users who join each day (with --users).")]
VoteRate = Annotated[
    float | None,
    typer.Option(
        "--vote-rate",
        min=0,
        max=1,
        help="Share of answers that get a vote. Default: as observed.",
        show_default=False,
    ),
]

_VOTE_RATE = 0.1
"""Share of the answers that get a vote, where nobody has voted yet and nothing is said."""


def power(
    gain: Gain = None, share: Share = None, days: Days = None,
    requests_per_day: Requests = None, users: Users = None, new_users: NewUsers = 0.0, vote_rate: VoteRate = None,
    config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Say how long a test takes with your traffic, before you start one, and what would make it shorter.

    It knows the stages of the ramp. Numbers that you do not give are taken from the store; the output says what is
    assumed.
    """
    from policies.power import shares_of

    _refuse_nonsense(
        {"--gain": gain, "--days": days, "--requests-per-day": requests_per_day, "--users": users,
         "--new-users-per-day": new_users}
    )  # fmt: skip
    loaded = read_config(config, data_dir)
    seen = _given(_observed(loaded), requests_per_day, users, vote_rate)
    if not seen.requests_per_day:
        fail(Exit.USAGE, "there is no traffic in the store yet; give --requests-per-day and --users")
    test = loaded.ab_test_config
    a_day = seen.users_a_day or min(seen.users or seen.requests_per_day, seen.requests_per_day)
    shares = shares_of(test, a_day) if share is None else (share,)
    try:
        document = _answer(loaded, seen, test.promotion_threshold if gain is None else gain, shares, days, new_users)
    except ValueError as exc:
        fail(Exit.USAGE, str(exc))
    if json:
        print_json(document)
    else:
        _print(document)


def _refuse_nonsense(numbers: Mapping[str, float | None]) -> None:
    """Infinite numbers, and traffic of nobody: an answer to them would say nothing."""
    for option, value in numbers.items():
        if value is not None and not math.isfinite(value):
            fail(Exit.USAGE, f"{option}: {value} is no finite number")
        if value is not None and value <= 0 and option in ("--requests-per-day", "--users"):
            fail(Exit.USAGE, f"{option}: {value:g} must be above 0")


def _given(seen: Expected, requests_per_day: float | None, users: float | None, vote_rate: float | None) -> Expected:
    """What was seen, with what was given in its place."""
    if users is not None:
        seen = replace(seen, users=users, users_a_day=None, habits=(), strangers_per_day=0.0)
    if requests_per_day and seen.requests_per_day:
        factor = requests_per_day / seen.requests_per_day
        habits = tuple(replace(one, requests_per_day=one.requests_per_day * factor) for one in seen.habits)
        strangers = seen.strangers_per_day * factor
        seen = replace(seen, habits=habits, users_a_day=None, strangers_per_day=strangers)
    return replace(
        seen,
        requests_per_day=requests_per_day or seen.requests_per_day,
        vote_rate=(seen.vote_rate or None) if vote_rate is None else vote_rate,
        profiles=seen.profiles if vote_rate is None else None,
    )


def _answer(
    config: Config, seen: Expected, gain: float, shares: tuple[float, ...], days: float | None, new_users: float
) -> dict[str, Any]:
    from policies.levers import cheapest, levers
    from policies.power import ExpectedTraffic, detectable_gain, required_test

    test, requests = config.ab_test_config, seen.requests_per_day or 0.0
    traffic = ExpectedTraffic(
        requests_per_day=requests, users=seen.users or requests, new_users_per_day=new_users, habits=seen.habits,
        strangers_per_day=seen.strangers_per_day,
    )  # fmt: skip
    profiles, notes = _profiles(config, seen)
    on = seen.saving or 0.0 if test.cuped else 0.0
    document: dict[str, Any] = {
        "traffic": _traffic_document(traffic),
        "users_assumed": seen.users is None and not seen.strangers_per_day,
        "shares": shares,
        "assumed": seen.profiles is None,
        "metrics": [asdict(profile) for profile in profiles],
        "notes": notes,
        "cuped": test.cuped,
        "saving": seen.saving,
    }
    if days is not None:
        return document | {
            "days": days,
            "min_days": test.min_duration_hours / 24,
            "detectable_gain": detectable_gain(days, shares, traffic, profiles, test, saving=on),
        }
    least = test.promotion_threshold
    gains = sorted({gain, *(other for other in _GAINS if test.evidence == "default" or other > least)})
    found = levers(gain, shares, traffic, profiles, test, saving=seen.saving)
    best = cheapest(found, test)
    return document | {
        "gain": gain,
        "promotion_threshold": least,
        "min_days": test.min_duration_hours / 24,
        "max_days": test.max_duration_hours / 24,
        "most_a_user": 1 / test.icc,
        "answers": [asdict(required_test(other, shares, traffic, profiles, test, saving=on)) for other in gains],
        "levers": [_lever_document(one) for one in found],
        "cheapest": None if best is None else best.kind.value,
    }


def _profiles(config: Config, seen: Expected) -> tuple[tuple[MetricProfile, ...], list[str]]:
    """How the metrics behave, and what should be known of that."""
    from policies.assessment import QualityMeasure
    from policies.estimates import Metric
    from policies.profiles import assumed_profiles

    test, notes = config.ab_test_config, []
    format_checks = seen.scored_rate == 0 and seen.profiles is None and bool(seen.requests_per_day)
    if (format_checks or seen.measure is QualityMeasure.NOTHING) and test.quality_weight:
        test = replace(test, quality_weight=0.0)
        notes.append("quality: nothing measures it yet, so it is left out (scores, or a judge, would)")
    assumed = assumed_profiles(
        test,
        vote_rate=_VOTE_RATE if seen.vote_rate is None else seen.vote_rate,
        scored_rate=1.0 if seen.scored_rate is None else seen.scored_rate,
        positive_rate=0.7 if seen.positive_rate is None else seen.positive_rate,
    )
    profiles = seen.profiles or assumed
    votes = next((profile for profile in assumed if profile.metric is Metric.POSITIVE), None)
    if seen.vote_rate is None and votes is not None:
        unvoted = [one for one in profiles if one.metric is Metric.POSITIVE and one.per_request <= 0]
        profiles = tuple(votes if one in unvoted else one for one in profiles)
        if seen.profiles is None or unvoted:
            notes.append(
                f"positive: nobody has voted yet; votes on {share(_VOTE_RATE)} of the answers are assumed (--vote-rate "
                "takes another share; without votes set ab_test_config.feedback_weight to 0)"
            )
    never = [profile.metric.value for profile in profiles if profile.per_request <= 0]
    if never:
        raise ValueError(f"{never[0]}: is never observed but has a weight in ab_test_config; set that weight to 0")
    if test.cuped and seen.saving is not None:
        notes.append(f"cuped: the users' own past takes out {percent(seen.saving)} of the variance")
    if seen.measure is QualityMeasure.RECTIFIED:
        notes.append("positive: votes and judge together, in the place of quality and thumbs")
    return profiles, notes


def _traffic_document(traffic: ExpectedTraffic) -> dict[str, Any]:
    named = asdict(traffic)
    names = ("requests_per_day", "users", "new_users_per_day", "strangers_per_day", "habits")
    return {name: named[name] for name in names}


def _lever_document(lever: Lever) -> dict[str, Any]:
    return asdict(lever) | {"kind": lever.kind.value}


def _observed(config: Config) -> Expected:
    """The traffic of the last days, and how the champion's metrics vary in the latest test; empty without a store."""
    from proxy.app.paths import DataDir
    from proxy.cli.stores import with_store
    from proxy.loop.look.expected import Expected

    if config.store.url is None and not (DataDir.of(config).root / "ratchet.db").is_file():
        return Expected()
    return with_store(config, lambda store: _look(store, config))


async def _look(store: Store, config: Config) -> Expected:
    from policies.facts import JudgeFacts
    from proxy.clock import SystemClock
    from proxy.judge.build import scorer_of
    from proxy.loop.look.carriers import EvidenceReader
    from proxy.loop.look.expected import ExpectedReader

    scorer, clock = scorer_of(config.judge), SystemClock()
    judge = None if scorer is None else JudgeFacts(scorer=scorer, counts=False, trust=config.judge.trust)
    reader = ExpectedReader(
        store=store,
        ab_test=config.ab_test_config,
        evidence=EvidenceReader(store=store, clock=clock, ab_test=config.ab_test_config, judge=judge),
        scored_by_application=bool(config.capture.quality_pointers),
    )
    return await reader.read(int(clock.now() * 1e6))


def _print(document: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    stages = " → ".join(share(part) for part in document["shares"])
    out.print(f"{_crowd(document)}, challenger at {stages}")
    source = "assumed: no experiment yet" if document["assumed"] else "the champion's in the latest experiment"
    for row in document["metrics"]:
        spread = f"{row['mean']:.3g} ± {row['sd']:.2g}, on {share(row['per_request'])} of the requests"
        out.print(f"  {row['metric']}: {spread} ({source})")
    for note in document["notes"]:
        out.print(f"  {note}")
    if "detectable_gain" in document:
        _print_detectable(document)
        return
    table = Table("gain", "1 of 2 tests", "4 of 5 tests", "requests", "users", "observations", box=None,
                  header_style="bold")  # fmt: skip
    for answer in document["answers"]:
        table.add_row(*_row(answer, document))
    out.print(table)
    for line in _what_else(document):
        out.print(line)


def _crowd(document: dict[str, Any]) -> str:
    traffic = document["traffic"]
    requests, users, nobody = (traffic[name] for name in ("requests_per_day", "users", "strangers_per_day"))
    said = f"{_many(requests)} requests a day"
    if traffic["habits"] or not nobody:
        said += f" by {_many(users)} {'user' if users == 1 else 'users'}"
    if nobody:
        said += f" ({_many(nobody)} of them name nobody: a test counts each as a user of its own)"
    return said + (" (assumed: one request each; set it with --users)" if document["users_assumed"] else "")


def _print_detectable(document: dict[str, Any]) -> None:
    out, days, gain = console(), document["days"], document["detectable_gain"]
    long = "1 day" if days == 1 else f"{days:g} days"
    if gain >= _NO_GAIN:
        out.print(f"{long} can detect no gain: that is too little traffic")
    else:
        out.print(
            styled(f"{long} can detect a gain of ", (signed_percent(gain), "bold"), " or more, in 4 of 5 experiments")
        )
    if days < document["min_days"]:
        out.print(f"No challenger is promoted before {document['min_days']:g} days (min_duration_hours).")


def _row(answer: dict[str, Any], document: dict[str, Any]) -> list[str]:
    gain, half = f"+{share(answer['gain'])}", _time(answer["half_days"])
    if answer["days"] is None:
        why = "below promotion_threshold" if answer["gain"] < document["promotion_threshold"] else "too few users"
        return [gain, half, "never", "–", "–", why]
    observations = ", ".join(f"{many(count)} {name}" for name, count in answer["observations"].items())
    return [gain, half, _time(answer["days"]), many(answer["requests"]), many(answer["users"]), observations]


def _many(number: float) -> str:
    return many(number) if number >= 1 else f"{number:.2g}"


def _time(days: float | None) -> str:
    if days is None:
        return "never"
    return f"{days:.1f} days" if 0.05 <= days < 1000 else duration(24 * days)


def _what_else(document: dict[str, Any]) -> list[str]:
    """How that agrees with the longest duration, and what a person could do."""
    from policies.levers import months_in_words

    gain, most, least = document["gain"], document["max_days"], document["min_days"]
    asked = next(answer for answer in document["answers"] if answer["gain"] == gain)
    said = [f"An experiment takes at least {least:g} and at most {most:g} days (min_ and max_duration_hours)."]
    if gain < document["promotion_threshold"]:
        said.append(f"+{share(gain)} is below promotion_threshold: it is seldom promoted, however long it takes.")
    half, days = asked["half_days"], asked["days"]
    if half is None:
        users = document["traffic"]["users"]
        crowd = f"the same {many(users)} users come back, and none" if users > 1 else "the same user comes back, and"
        weighs = "weighs no more than" if users <= 1 else "weighs more than"
        never = f"{crowd} {weighs} {document['most_a_user']:g} observations"
        if document["traffic"]["strangers_per_day"]:
            never = "ten years of it find out too little"
        said.append(f"+{share(gain)} with your traffic: never, however long the test takes: {never}.")
    else:
        long = "" if half <= most else "longer than max_duration_hours: "
        rest = "never four of five" if days is None else f"four of five in {months_in_words(days)}"
        said.append(f"+{share(gain)} with your traffic: {long}one of two tests in {months_in_words(half)}, {rest}.")
    if document["levers"]:
        said.append("What makes it shorter, four of five tests:")
        for lever in document["levers"]:
            mark = " (the cheapest that suffices)" if lever["kind"] == document["cheapest"] else ""
            work = lever["work_hours"]
            time = months_in_words(lever["days"]) if work is None else f"{number(round(work, 1))} hours of work"
            said.append(f"  {time}: {lever['words']}{mark}")
    return said
