"""`ratchet data`: what the loop would train on, without the loop; and finished days as Parquet, in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from policies.formats import FormatType
from proxy.cli.check_data import check
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.stores import with_archive, with_store

if TYPE_CHECKING:
    from proxy.config.model import Config
    from proxy.store.archive import ArchiveSource
    from proxy.store.store import Store

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Preview and export training data; archive finished days.")


ExportType = Literal[FormatType, "nvidia"]
"""What `export` writes: any format of a training file, and NVIDIA's, which is for export alone."""


From = Annotated[
    str | None,
    typer.Option(
        "--from", help="Read an archive (URL or folder, see `data archive`) instead of the store.", show_default=False
    ),
]


@app.command("preview")
def preview(
    scan: Annotated[int, typer.Option(min=1, help="Newest records to look at.")] = 2000,
    show: Annotated[int, typer.Option(min=0, help="Lines to print.")] = 3,
    archive: From = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show what of the newest records would be trained on, what would be dropped and why. Writes nothing."""
    loaded = read_config(config, data_dir)

    async def work(source: Store | ArchiveSource) -> dict[str, Any]:
        from dataclasses import asdict

        from proxy.clock import SystemClock
        from proxy.loop.dataset import StoreDatasetBuilder

        builder = StoreDatasetBuilder(source, loaded.generator_config, Path(loaded.server.data_dir) / "training")
        return asdict(await builder.preview(until_s=SystemClock().now(), scan=scan, show=show))

    document = with_store(loaded, work) if archive is None else with_archive(archive, work)
    if json:
        print_json(document)
        return
    _print_counts(document["seen"], document["kept"], document["dropped"])
    for line in document["lines"]:
        console().print_json(data=line)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write data.jsonl, holdout.jsonl and manifest.json.")],
    format: Annotated[
        ExportType | None,
        typer.Option(
            "--format",
            help="Line format; nvidia writes whole requests and answers for NVIDIA's data flywheel.",
            show_default="generator_config.format_type",
        ),
    ] = None,
    archive: From = None,
    client_id: Annotated[str, typer.Option(help="nvidia: names the application.")] = "ratchet",
    workload_id: Annotated[str, typer.Option(help="nvidia: the task of records without a tag workload_id.")] = "chat",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Build the training files that the loop would build now, with their manifest."""
    loaded = read_config(config, data_dir)
    if format is not None and format != "nvidia":
        loaded = replace(loaded, generator_config=replace(loaded.generator_config, format_type=format))
    folder = folder.expanduser().absolute()
    if (folder / "manifest.json").exists():
        fail(Exit.USAGE, f"{folder}: holds an export already; give another folder")
    names = (client_id, workload_id) if format == "nvidia" else None

    async def work(source: Store | ArchiveSource) -> dict[str, Any]:
        return await _build(source, loaded, folder, names)

    manifest = with_store(loaded, work) if archive is None else with_archive(archive, work)
    if json:
        print_json(manifest)
        return
    kept = manifest["samples"] + manifest["holdout_samples"] - manifest["rehearsal_samples"]
    _print_counts(manifest["seen"], kept, manifest["dropped"])
    typer.echo(
        f"{manifest['samples']} lines ({manifest['rehearsal_samples']} of them rehearsal) in {manifest['data_path']}"
    )
    if manifest["holdout_path"]:
        typer.echo(f"{manifest['holdout_samples']} lines held out in {manifest['holdout_path']}")


app.command("check")(check)


@app.command("archive")
def archive_days(
    url: Annotated[str, typer.Argument(help="Folder, or URL that fsspec knows: s3://bucket/ratchet, gs://…, abfs://…")],
    settle_hours: Annotated[
        float, typer.Option(min=0, help="A day is finished so long after its end (UTC): spools must have been read.")
    ] = 1.0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Bring an archive of Parquet files up to date: every finished day, with what came in late.

    Users deleted since are taken out of it. Run it daily, before retention drops what is not archived.
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
    total, size = sum(day["records"] for day in days), sum(day["bytes"] for day in days)
    typer.echo(
        f"{len(changed)} of {len(days)} days written; {total:,} records, {size / 1e6:,.1f} MB in {url}"
        + (f"; {forgotten:,} records of deleted users taken out" if forgotten else "")
    )


async def _archive(store: Store, url: str, settle_s: float) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from proxy.cli.stores import open_place
    from proxy.clock import SystemClock
    from proxy.store.archive import ArchivedDay, Archiver

    place = open_place(url)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("archiving", total=None)

        def show(day: ArchivedDay) -> None:
            progress.update(task, description=f"{day.date} {day.state}, {day.records:,} records")

        return [asdict(day) for day in await Archiver(store, place, SystemClock(), settle_s=settle_s).run(show)]


async def _build(
    source: Store | ArchiveSource, config: Config, folder: Path, names: tuple[str, str] | None
) -> dict[str, Any]:
    """Build the files in `folder`; `names`: client id and workload id for NVIDIA's format."""
    from dataclasses import asdict

    from rich.console import Console
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
    with Progress(*Progress.get_default_columns(), *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("building", total=(await source.size()).records, kept=0)
        builder = StoreDatasetBuilder(
            source,
            flywheel_config(config.generator_config) if nvidia else config.generator_config,
            folder.parent,
            on_progress=lambda seen: progress.update(task, completed=seen.seen, kept=seen.kept),
            line_format=nvidia,
        )
        until_s = SystemClock().now()
        request = DatasetRequest(run_id=folder.name, until_s=until_s, config_fingerprint=fingerprint(config))
        return asdict(await builder.build(request))


def _print_counts(seen: int, kept: int, dropped: dict[str, int]) -> None:
    from rich.table import Table

    table = Table("", "records", box=None, header_style="bold")
    table.columns[1].justify = "right"
    table.add_row("seen", f"{seen:,}")
    for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
        table.add_row(f"dropped: {reason.replace('_', ' ')}", f"{count:,}")
    table.add_row("kept", f"{kept:,}")
    console().print(table)
