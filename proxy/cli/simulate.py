"""`ratchet simulate`: what would other settings have done with the stored traffic?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.vocabulary import action_label
from policies.wording import duration, many, share
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.serve import SetOption, parse_settings
from proxy.cli.stores import with_store

if TYPE_CHECKING:
    from proxy.config.model import Config
    from proxy.loop.backtest.retest import PaperTest, PaperWatch
    from proxy.store.store import Store

__all__ = ["simulate"]


def simulate(
    config: ConfigOption = None, settings: SetOption = None,
    since: Annotated[str, typer.Option(help="From: 30d (ago), 2026-01-31.")] = "30d",
    scan: Annotated[int, typer.Option(min=0, help="Newest records to select data from; 0 skips this.")] = 20_000,
    data_dir: DataDirOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Replay stored traffic under other settings: what would have triggered, been trained on and promoted, and when.

    `ratchet simulate --set trigger_config.min_new_samples=300`. Changes nothing. Assumes that each retrain succeeds at
    once. Stored experiments are decided again from their records and votes, check by check, with the stages, pauses and
    silent models of then; a promotion that happened is watched again. Each verdict is dated and compared with what
    happened, as is each rise of a share. Other decisions are made again on their recorded inputs. The output names what
    cannot be known (traffic after the real end, a share that was not given).
    """
    from proxy.clock import SystemClock
    from proxy.web.documents import parse_instant

    loaded = read_config(config, data_dir, parse_settings(settings))
    now = SystemClock().now()
    try:
        start = parse_instant(since, now)
    except ValueError as exc:
        fail(Exit.USAGE, f"--since: {exc}")
    document = with_store(loaded, lambda store: _replay(store, loaded, start, now, scan))
    if json:
        print_json(document)
    else:
        _print(document)


async def _replay(store: Store, config: Config, since: float, now: float, scan: int) -> dict[str, Any]:
    from rich.progress import Progress

    from proxy.loop.backtest.retest import retest
    from proxy.loop.backtest.simulate import decide_again, first_traffic, walk_triggers
    from proxy.loop.dataset import StoreDatasetBuilder
    from proxy.loop.service import service_rules

    begun = await first_traffic(store, int(since * 1e6), int(now * 1e6))
    retrains = []
    with Progress(console=console(err=True), transient=True) as progress:
        if begun is not None:
            builder = StoreDatasetBuilder(store.samples, config.generator_config, Path("unused")) if scan else None
            task = progress.add_task("hours", total=now - begun)
            async for retrain in walk_triggers(
                store, config, begun, now, builder=builder, scan=scan,
                on_hour=lambda at: progress.update(task, completed=at - begun),
            ):  # fmt: skip
                retrains.append(asdict(retrain))  # noqa: PERF401 – an asynchronous comprehension would hide the walk
        task = progress.add_task("tests", total=None)
        tests = [
            test
            async for test in retest(
                store, config, since, now, rules=service_rules(config),
                open_scores="score" in config.feedback.anonymous,
                on_look=lambda done, all: progress.update(task, completed=done, total=all),
            )
        ]  # fmt: skip
    seen, others = await decide_again(store, config, since)
    return {
        "since": begun,
        "until": now,
        "retrains": retrains,
        "experiments": [_test_document(test) for test in tests],
        "decisions": seen,
        "different": [asdict(other) for other in others],
    }


def _test_document(test: PaperTest) -> dict[str, Any]:
    watch = None if test.watch is None else {**asdict(test.watch), **_compared(test.watch)}
    return {**asdict(test), "watch": watch, **_compared(test)}


def _compared(paper: PaperTest | PaperWatch) -> dict[str, Any]:
    """What would have ended it, beside what did."""
    decision, really = paper.decision, paper.really
    same = decision is not None and really is not None and decision.action == really.action
    return {
        "would_be": None if decision is None else asdict(decision),
        "hours_earlier": (really.at - decision.at) / 3600 if same and decision and really else None,
    }


def _print(document: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    if document["since"] is None:
        out.print("nothing is stored from that time on")
        return
    days = (document["until"] - document["since"]) / 86_400
    retrains = len(document["retrains"])
    out.print(f"{retrains} {'retrain' if retrains == 1 else 'retrains'} in {duration(24 * days)} of traffic")
    table = Table("when", "trigger", "new samples", "kept", "why", box=None, header_style="bold")
    for row in document["retrains"]:
        kept = "–" if row["kept"] is None else many(row["kept"])
        table.add_row(_time(row["at"]), row["trigger"], many(row["new_quality_samples"]), kept, row["reason"])
    if document["retrains"]:
        out.print(table)
    _print_tests(document["experiments"])
    out.print(f"{len(document['different'])} of {document['decisions']} journalled decisions would have been different")
    for row in document["different"]:
        decisions = f"{action_label(row['was'])} → {action_label(row['would_be'])}"
        out.print(f"  {_time(row['at'])}  {decisions}: {row['reasons'][0]}")


def _print_tests(tests: list[dict[str, Any]]) -> None:
    """What happened, what would have, and below it what is not known."""
    from rich.table import Table

    if not tests:
        return
    out = console()
    table = Table("challenger", "share", "what happened", "under these settings", box=None, header_style="bold")
    for test in tests:
        shares = " → ".join(share(epoch["share"]) for epoch in test["epochs"]) or "–"
        table.add_row(test["challenger"], shares, _really(test["really"]), _would_be(test))
        if (watch := test["watch"]) is not None:
            control = f"{share(watch['holdback_share'])} control" if watch["holdback_share"] else "no control"
            table.add_row("  after the promotion", control, _really(watch["really"]), _would_be(watch))
    out.print("stored experiments, decided again at every check")
    out.print(table)
    for test in tests:
        would_be = test["would_be"]
        notes = test["notes"] if test["watch"] is None else (*test["notes"], *test["watch"]["notes"])
        for said in ((would_be["reasons"][0] if would_be else test["undecided"]), *notes):
            out.print(f"  {test['challenger']}: {said}")


def _really(decision: dict[str, Any] | None) -> str:
    if decision is None:
        return "still running"
    by = "" if decision["who"] == "ratchet" else f" by {decision['who']}"
    return f"{_time(decision['at'])}  {action_label(decision['action'])}{by}"


def _would_be(test: dict[str, Any]) -> str:
    held = "".join(
        f"{_time(v['at'])}  {v['verdict'].replace('_', ' ')}, held\n" for v in test["verdicts"] if v["action"] is None
    )
    decision, hours = test["would_be"], test["hours_earlier"]
    if decision is None:
        return held + ("still undecided" if test["really"] is None else "undecided at the end of its data")
    apart = "" if hours is None else f", {_apart(hours)}"
    return f"{held}{_time(decision['at'])}  {action_label(decision['action'])}{apart}"


def _apart(hours: float) -> str:
    """The loop looks once a minute: nearer than that is the same look."""
    if abs(hours) * 60 <= 1:
        return "at the same check"
    return f"{duration(abs(hours))} {'earlier' if hours > 0 else 'later'}"


def _time(at: float) -> str:
    from proxy.web.documents import iso

    return iso(int(at * 1e6))[:16].replace("T", " ")
