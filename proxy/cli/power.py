"""`ratchet power`: how many users, votes and days a test needs, before anybody starts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.printable import styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.power import MetricProfile
    from proxy.config.model import Config
    from proxy.store.store import Store

__all__ = ["power"]

_WINDOW_DAYS = 7.0
_GAINS = (0.02, 0.05, 0.1, 0.2)
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000

Gain = Annotated[
    float | None,
    typer.Option(min=0, help="Relative gain to detect, 0.05 for +5 %.", show_default="promotion_threshold"),
]
Share = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Share of users on the challenger, 0 to 1.", show_default="initial_challenger_traffic"
    ),
]
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
        "--users", help="Users a day. Default: those of the latest experiment, or one per request.", show_default=False
    ),
]
NewUsers = Annotated[float, typer.Option("--new-users-per-day", min=0, help="Users who join each day.")]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed:
    """What the store knows of the traffic; None where it does not."""

    requests_per_day: float | None = None
    users: float | None = None
    vote_rate: float | None = None
    scored_rate: float | None = None
    positive_rate: float | None = None
    profiles: Sequence[MetricProfile] | None = None


def power(
    gain: Gain = None, share: Share = None, days: Days = None,
    requests_per_day: Requests = None, users: Users = None, new_users: NewUsers = 0.0, vote_rate: VoteRate = None,
    config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Say how many users, votes and days an experiment needs to detect a gain at this share, before you start one.

    Numbers that you do not give are taken from the store; the output says what is assumed. Power: 80 %.
    """
    loaded = read_config(config, data_dir)
    seen = _observed(loaded)
    seen = replace(
        seen,
        requests_per_day=requests_per_day or seen.requests_per_day,
        users=users or seen.users,
        vote_rate=seen.vote_rate if vote_rate is None else vote_rate,
        profiles=seen.profiles if vote_rate is None else None,
    )
    at = loaded.ab_test_config.initial_challenger_traffic if share is None else share
    wanted = loaded.ab_test_config.promotion_threshold if gain is None else gain
    try:
        document = _answer(loaded, seen, wanted, at, days, new_users)
    except ValueError as exc:
        fail(Exit.USAGE, str(exc))
    if json:
        print_json(document)
    else:
        _print(document)


def _answer(
    config: Config, seen: _Observed, gain: float, share: float, days: float | None, new_users: float
) -> dict[str, Any]:
    from policies.power import Traffic, assumed_profiles, detectable_gain, required_test

    if not seen.requests_per_day:
        raise ValueError("there is no traffic in the store yet; give --requests-per-day and --users")
    users = seen.users or seen.requests_per_day
    traffic = Traffic(requests_per_day=seen.requests_per_day, users=users, new_users_per_day=new_users)
    test = config.ab_test_config
    profiles = seen.profiles or assumed_profiles(
        test,
        vote_rate=0.1 if seen.vote_rate is None else seen.vote_rate,
        scored_rate=1.0 if seen.scored_rate is None else seen.scored_rate,
        positive_rate=0.7 if seen.positive_rate is None else seen.positive_rate,
    )
    never = [profile.metric.value for profile in profiles if profile.per_request <= 0]
    if never:
        raise ValueError(f"{never[0]}: is never observed but has a weight in ab_test_config; set that weight to 0")
    document: dict[str, Any] = {
        "traffic": asdict(traffic),
        "users_assumed": seen.users is None,
        "share": share,
        "assumed": seen.profiles is None,
        "metrics": [asdict(profile) for profile in profiles],
    }
    if days is not None:
        return document | {"days": days, "detectable_gain": detectable_gain(days, share, traffic, profiles, test)}
    gains = sorted(
        {gain, *(other for other in _GAINS if test.evidence == "default" or other > test.promotion_threshold)}
    )
    return document | {
        "min_days": test.min_duration_hours / 24,
        "answers": [asdict(required_test(other, share, traffic, profiles, test)) for other in gains],
    }


def _observed(config: Config) -> _Observed:
    """The traffic of the last days, and how the champion's metrics vary in the latest test; empty without a store."""
    from proxy.app.paths import DataDir
    from proxy.cli.stores import with_store

    if config.store.url is None and not (DataDir.of(config).root / "ratchet.db").is_file():
        return _Observed()
    return with_store(config, lambda store: _look(store, config))


async def _look(store: Store, config: Config) -> _Observed:
    from policies.power import measured_profiles
    from policies.records import Arm
    from proxy.clock import SystemClock

    now_us = int(SystemClock().now() * 1e6)
    since_us = int(now_us - _WINDOW_DAYS * _DAY_US)
    totals = await store.traffic.totals(since_us)
    hours = await store.traffic.points(since_us, now_us + _HOUR_US, 3600)  # with the hour that has not ended yet
    if not totals.of_users or not hours:
        return _Observed()
    days = min(max((now_us - hours[0].at_us) / _DAY_US, 1.0), _WINDOW_DAYS)  # an installation may be younger
    thumbs = totals.votes.positive + totals.votes.negative
    seen = _Observed(
        requests_per_day=totals.of_users / days,
        vote_rate=totals.voted / totals.of_users,
        scored_rate=totals.scored / totals.of_users,
        positive_rate=min(0.99, max(0.01, totals.votes.positive / thumbs)) if thumbs else None,
    )
    latest = next(iter(await store.experiments.list(limit=1)), None)
    if latest is None:
        return seen
    arms = await store.statistics.arms(latest.id, latest.epoch)
    seen = replace(seen, users=float(sum(arm.moments.users for arm in arms.values())) or None)
    try:
        return replace(seen, profiles=measured_profiles(arms[Arm.CHAMPION].moments, config.ab_test_config))
    except ValueError:
        return seen


def _print(document: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    traffic, share = document["traffic"], 100 * document["share"]
    crowd = f"{traffic['requests_per_day']:,.0f} requests a day by {traffic['users']:,.0f} users"
    assumed = " (assumed: one request each; set it with --users)" if document["users_assumed"] else ""
    out.print(f"{crowd}{assumed}, challenger at {share:g} %")
    source = "assumed: no experiment yet" if document["assumed"] else "the champion's in the latest experiment"
    for row in document["metrics"]:
        spread = f"{row['mean']:.3g} ± {row['sd']:.2g}, on {row['per_request']:.0%} of the requests"
        out.print(f"  {row['metric']}: {spread} ({source})")
    if "detectable_gain" in document:
        least = (f"{document['detectable_gain']:+.1%}", "bold")
        out.print(styled(f"{document['days']:g} days can detect a gain of ", least, " or more, in 4 of 5 experiments"))
        return
    table = Table("gain", "days", "requests", "users", "observations", box=None, header_style="bold")
    for answer in document["answers"]:
        table.add_row(*_row(answer))
    out.print(table)
    out.print(f"An experiment runs for at least {document['min_days']:g} days in any case (min_duration_hours).")


def _row(answer: dict[str, Any]) -> list[str]:
    gain = f"{answer['gain']:+.0%}"
    if answer["days"] is None:
        return [gain, "never", "–", "–", "needs more users, or a larger share"]
    observations = ", ".join(f"{count:,} {name}" for name, count in answer["observations"].items())
    return [gain, f"{answer['days']:,.1f}", f"{answer['requests']:,}", f"{answer['users']:,}", observations]
