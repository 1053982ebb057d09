"""`ratchet simulate`: what would other settings have done with the stored traffic?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.serve import SetOption, parse_settings
from proxy.cli.stores import with_store

if TYPE_CHECKING:
    from proxy.config.model import Config
    from proxy.store.store import Store

__all__ = ["simulate"]


def simulate(
    config: ConfigOption = None, settings: SetOption = None,
    since: Annotated[str, typer.Option(help="From: 30d (ago), 2026-01-31.")] = "30d",
    scan: Annotated[int, typer.Option(min=0, help="Newest records to select from; 0: skip that.")] = 20_000,
    data_dir: DataDirOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Replay stored traffic under other settings: what would have triggered, trained on, promoted, and when.

    `ratchet simulate --set trigger_config.min_new_samples=300`. Nothing is changed. Retrains are assumed to succeed at
    once; decisions are taken again on the inputs that they had.
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
    from rich.console import Console
    from rich.progress import Progress

    from proxy.loop.dataset import StoreDatasetBuilder
    from proxy.loop.simulate import decide_again, first_traffic, walk_triggers

    begun = await first_traffic(store, int(since * 1e6), int(now * 1e6))
    retrains = []
    if begun is not None:
        builder = StoreDatasetBuilder(store, config.generator_config, Path("unused")) if scan else None
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("hours", total=now - begun)
            async for retrain in walk_triggers(
                store, config, begun, now, builder=builder, scan=scan,
                on_hour=lambda at: progress.update(task, completed=at - begun),
            ):  # fmt: skip
                retrains.append(asdict(retrain))  # noqa: PERF401 – an asynchronous comprehension would hide the walk
    seen, others = await decide_again(store, config, since)
    return {
        "since": begun,
        "until": now,
        "retrains": retrains,
        "decisions": seen,
        "different": [asdict(other) for other in others],
    }


def _print(document: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    if document["since"] is None:
        out.print("nothing is stored from that time")
        return
    days = (document["until"] - document["since"]) / 86_400
    out.print(f"{len(document['retrains'])} retrains in {days:.1f} days of traffic")
    table = Table("when", "trigger", "new samples", "kept", "why", box=None, header_style="bold")
    for row in document["retrains"]:
        kept = "–" if row["kept"] is None else f"{row['kept']:,}"
        table.add_row(_time(row["at"]), row["trigger"], f"{row['new_quality_samples']:,}", kept, row["reason"])
    if document["retrains"]:
        out.print(table)
    out.print(f"{len(document['different'])} of {document['decisions']} journalled decisions would have been others")
    for row in document["different"]:
        out.print(f"  {_time(row['at'])}  {row['was']} → {row['would_be']}: {row['reasons'][0]}", markup=False)


def _time(at: float) -> str:
    from proxy.web.documents import iso

    return iso(int(at * 1e6))[:16].replace("T", " ")
