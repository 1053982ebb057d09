"""`ratchet data`: what the loop trains on, to be looked at, compared and exported; and finished days as Parquet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from policies.formats import FormatType
from policies.wording import many, size
from proxy.cli.check_data import check
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config, say
from proxy.cli.datasets import print_dataset, print_difference, print_lines
from proxy.cli.stores import with_archive, with_store

if TYPE_CHECKING:
    from proxy.config.model import Config
    from proxy.store.archive import ArchiveSource
    from proxy.store.store import Store
    from proxy.web.datasets import DatasetReader

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Show, compare and export training data; archive finished days.")


_NAMES: Final = ("ratchet", "chat")
"""What a preview in NVIDIA's format calls client and workload."""


ExportType = Literal[FormatType, "nvidia"]
"""What `export` writes: any format of a training file, and NVIDIA's, which is for export alone."""


From = Annotated[
    str | None,
    typer.Option(
        "--from", help="Read an archive (URL or folder, see `data archive`) instead of the store.", show_default=False
    ),
]


FormatOption = Annotated[
    ExportType | None,
    typer.Option(
        "--format",
        help="Line format; nvidia writes whole requests and answers for NVIDIA's data flywheel.",
        show_default="generator_config.format_type",
    ),
]
RunName = Annotated[str, typer.Argument(help="Id of a run, or the folder of an export.")]
Examples = Annotated[
    int | None,
    typer.Option(
        min=0, max=20, help="Examples shown for each reason to drop records.", show_default="3; 20 with --json"
    ),
]


@app.command("preview")
def preview(
    scan: Annotated[int, typer.Option(min=1, help="Newest records to look at.")] = 2000,
    show: Annotated[int, typer.Option(min=0, help="Lines to print, the newest.")] = 3,
    examples: Examples = None,
    format: FormatOption = None,
    archive: From = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a training would get of the newest records, as conversations; what would be dropped, and why.

    Changes nothing. Rehearsal samples are left out.
    """
    loaded = _in_format(read_config(config, data_dir), format)
    loaded = replace(loaded, generator_config=replace(loaded.generator_config, include_existing_data=False))
    names = _NAMES if format == "nvidia" else None
    n = (20 if json else 3) if examples is None else examples

    async def work(source: Store | ArchiveSource) -> dict[str, Any]:
        return await _preview(source, loaded, names, scan=scan, show=show, examples=n)

    document = with_store(loaded, work) if archive is None else with_archive(archive, work)
    if json:
        print_json(document)
        return
    print_dataset(document["dataset"])
    print_lines(document["conversations"])


@app.command("show")
def show_dataset(
    run: RunName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="Lines to print.")] = 3,
    start: Annotated[
        int | None, typer.Option("--from", min=1, help="Number of the first line.", show_default="the newest")
    ] = None,
    holdout: Annotated[bool, typer.Option("--holdout", help="Show the held-out lines.")] = False,
    examples: Examples = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show the dataset of a run: counts, reasons with examples, whose answers, and lines as conversations."""
    loaded = read_config(config, data_dir)
    n = (20 if json else 3) if examples is None else examples
    split = "holdout" if holdout else "train"

    async def work(store: Store) -> dict[str, Any]:
        reader, name = _reader(loaded, store, run)
        document = await reader.document(name, examples=n)
        return {**document, "split": split, "lines": await reader.stretch(name, split, start, lines)}

    document = _found(loaded, work)
    if json:
        print_json(document)
        return
    print_dataset(document)
    if document["lines"] is None:
        say(f"its {split} file has been removed; lineage.csv and the counts above say what was in it")
    else:
        print_lines(document["lines"])


@app.command("diff")
def diff(
    run: RunName,
    former: Annotated[
        str | None,
        typer.Argument(help="The dataset to compare with: a run, or a folder.", show_default="the dataset before it"),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the dataset of a run with another: records new and gone, counts, reasons, settings that changed."""
    loaded = read_config(config, data_dir)

    async def work(store: Store) -> dict[str, Any]:
        reader, name = _reader(loaded, store, run)
        other = None if former is None else _reader(loaded, store, former)
        return await reader.difference(name, *(() if other is None else (other[1], other[0])))

    document = _found(loaded, work)
    if json:
        print_json(document)
    else:
        print_difference(document)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write data.jsonl, holdout.jsonl and manifest.json.")],
    format: FormatOption = None,
    archive: From = None,
    client_id: Annotated[str, typer.Option(help="nvidia: names the application.")] = "ratchet",
    workload_id: Annotated[str, typer.Option(help="nvidia: the task of records without a tag workload_id.")] = "chat",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Build the training files that the loop would build now, with their manifest."""
    loaded = _in_format(read_config(config, data_dir), format)
    folder = folder.expanduser().absolute()
    if (folder / "manifest.json").exists():
        fail(Exit.USAGE, f"{folder}: already holds an export; choose another folder")
    names = (client_id, workload_id) if format == "nvidia" else None

    async def work(source: Store | ArchiveSource) -> dict[str, Any]:
        manifest = await _build(source, loaded, folder, names)
        reader, name = _reader(loaded, None, str(folder))
        return {"manifest": manifest, "dataset": await reader.document(name, examples=0)}

    built = with_store(loaded, work) if archive is None else with_archive(archive, work)
    manifest = built["manifest"]
    if json:
        print_json(manifest)
        return
    print_dataset(built["dataset"])
    for name in ("data_path", "holdout_path"):
        if manifest[name]:
            say(f"in {manifest[name]}")


app.command("check")(check)


@app.command("archive")
def archive_days(
    url: Annotated[str, typer.Argument(help="Folder, or URL for fsspec: s3://bucket/ratchet, gs://…, abfs://…")],
    settle_hours: Annotated[
        float,
        typer.Option(
            min=0,
            help="Hours after its end (UTC) at which a day counts as finished; all spools must be stored by then.",
        ),
    ] = 1.0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Bring an archive of Parquet files up to date: every finished day, including late records and votes.

    Deleted users are removed from it. Run it daily, before retention deletes what is not archived.
    """
    loaded = read_config(config, data_dir)

    async def work(store: Store) -> list[dict[str, Any]]:
        return await _archive(store, url, settle_hours * 3600)

    days = with_store(loaded, work)
    if json:
        print_json(days)
        return
    changed = [day for day in days if day["state"] != "unchanged"]
    forgotten = sum(day["forgotten"] for day in days)
    total, many_bytes = sum(day["records"] for day in days), sum(day["bytes"] for day in days)
    say(
        f"{len(changed)} of {len(days)} days written; {many(total)} records, {size(many_bytes)} in {url}"
        + (f"; {many(forgotten)} records of deleted users removed" if forgotten else "")
    )


async def _archive(store: Store, url: str, settle_s: float) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from rich.progress import Progress

    from proxy.cli.stores import open_place
    from proxy.clock import SystemClock
    from proxy.store.archive import ArchivedDay, Archiver

    place = open_place(url)
    with Progress(console=console(err=True), transient=True) as progress:
        task = progress.add_task("archiving", total=None)

        def show(day: ArchivedDay) -> None:
            progress.update(task, description=f"{day.date} {day.state}, {many(day.records)} records")

        return [asdict(day) for day in await Archiver(store, place, SystemClock(), settle_s=settle_s).run(show)]


async def _build(
    source: Store | ArchiveSource,
    config: Config,
    folder: Path,
    names: tuple[str, str] | None,
    *,
    limit: int | None = None,
) -> dict[str, Any]:
    """Build the files in `folder`; `names`: client id and workload id for NVIDIA's format."""
    from dataclasses import asdict

    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from proxy.clock import SystemClock
    from proxy.config import fingerprint
    from proxy.loop.dataset import StoreDatasetBuilder, flywheel, flywheel_config
    from proxy.loop.ports import DatasetRequest

    columns = (
        TextColumn("{task.completed:,} of about {task.total:,} records seen, {task.fields[kept]:,} kept"),
        TimeElapsedColumn(),
    )
    nvidia = flywheel(client_id=names[0], workload_id=names[1]) if names else None
    with Progress(*Progress.get_default_columns(), *columns, console=console(err=True), transient=True) as progress:
        task = progress.add_task("building", total=(await source.samples.size()).records, kept=0)
        builder = StoreDatasetBuilder(
            source.samples,
            flywheel_config(config.generator_config) if nvidia else config.generator_config,
            folder.parent,
            on_progress=lambda seen: progress.update(task, completed=seen.seen, kept=seen.kept),
            line_format=nvidia,
        )
        until_s = SystemClock().now()
        request = DatasetRequest(run_id=folder.name, until_s=until_s, config_fingerprint=fingerprint(config))
        return asdict(await builder.build(request, limit=limit))


async def _preview(
    source: Store | ArchiveSource,
    config: Config,
    names: tuple[str, str] | None,
    *,
    scan: int,
    show: int,
    examples: int,
) -> dict[str, Any]:
    """A build of the newest records in a place of its own, read as any other dataset is."""
    from tempfile import TemporaryDirectory

    from proxy.store.store import Store
    from proxy.web.datasets import DatasetReader

    with TemporaryDirectory(prefix="ratchet-preview-") as place:
        folder = Path(place) / "preview"
        await _build(source, config, folder, names, limit=scan)
        reader = DatasetReader(folder.parent, source if isinstance(source, Store) else None)
        dataset = await reader.document(folder.name, examples=examples)
        newest = (await reader.stretch(folder.name, "train", None, show) or [])[::-1]
        bodies = await reader.bodies(folder.name, [line["number"] for line in newest])
    return {
        "seen": dataset["seen"],
        "kept": dataset["samples"] + dataset["holdout_samples"] - dataset["rehearsal_samples"],
        "dropped": {reason["reason"]: reason["count"] for reason in dataset["dropped"]},
        "lines": bodies,
        "conversations": newest,
        "dataset": dataset,
    }


def _reader(config: Config, store: Store | None, run: str) -> tuple[DatasetReader, str]:
    """A reader of the dataset that a person calls `run`, and its name there."""
    from proxy.web.datasets import DatasetReader

    folder = Path(run).expanduser()
    if (folder / "manifest.json").is_file():
        folder = folder.resolve()
        return DatasetReader(folder.parent, store, chosen=True), folder.name
    return DatasetReader(config.training_dir, store), run


def _found(config: Config, work: Callable[[Store], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What `work` says; ends the command where there is no such dataset."""
    try:
        return with_store(config, work)
    except LookupError as exc:
        fail(Exit.NOT_FOUND, str(exc))


def _in_format(config: Config, format: ExportType | None) -> Config:
    if format is None or format == "nvidia":
        return config
    chosen = replace(config.generator_config, format_type=format)
    return replace(config, generator_config=chosen)
