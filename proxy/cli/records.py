"""`ratchet records`: list, show, export and delete what was recorded. Works with or without a running server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from policies import wording
from policies.records import Outcome
from policies.scoring import scorer_label
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config, say
from proxy.cli.printable import json_printable, plain
from proxy.cli.stores import key_ring, with_store
from proxy.private import open_private
from proxy.wire.extract.shapes import KINDS

if TYPE_CHECKING:
    from proxy.ids import KeyRing
    from proxy.store.store import Store
    from proxy.store.tables.values import RecordFilter, RecordRow, RecordView

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List, show, export and delete records.")
_PAGE = 500
_PREFIX = re.compile("[0-9a-f]{4,31}")
_CANDIDATES = 4

Since = Annotated[str | None, typer.Option(help="From: 2h (ago), 2026-01-31, 2026-01-31T12:00.", show_default=False)]
Until = Annotated[str | None, typer.Option(help="Up to this time, exclusive; written as --since.", show_default=False)]
Conversation = Annotated[str | None, typer.Option(help="Id of a conversation, as sent.", show_default=False)]
User = Annotated[str | None, typer.Option(help="Sticky key of a user, as the client sent it.", show_default=False)]
ArmName = Annotated[str | None, typer.Option("--arm", help="champion, challenger or control.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Name of the model that answered.", show_default=False)]
Status = Annotated[str | None, typer.Option(help="HTTP status, 404 or 5xx.", show_default=False)]
OutcomeName = Annotated[
    str | None,
    typer.Option("--outcome", help=f"{', '.join(outcome.label for outcome in Outcome)}.", show_default=False),
]
KindName = Annotated[
    str | None, typer.Option("--kind", help=f"{', '.join(KINDS)}; -task: all but task.", show_default=False)
]
MinQuality = Annotated[str | None, typer.Option(help="Lowest quality score, 0 to 1.", show_default=False)]
MaxQuality = Annotated[str | None, typer.Option(help="Highest quality score, 0 to 1.", show_default=False)]
Votes = Annotated[str | None, typer.Option("--feedback", help="positive, negative, any or none.", show_default=False)]
Tag = Annotated[str | None, typer.Option(help="A tag as name=value, x-plan=free.", show_default=False)]
Text = Annotated[str | None, typer.Option(help="Text in the query or the answer.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number.")]


@app.command("list")
def list_records(
    config: ConfigOption = None, data_dir: DataDirOption = None, since: Since = None, until: Until = None,
    user: User = None, conversation: Conversation = None, arm: ArmName = None, model: Model = None,
    status: Status = None, outcome: OutcomeName = None, kind: KindName = None, min_quality: MinQuality = None,
    max_quality: MaxQuality = None, feedback: Votes = None, tag: Tag = None, text: Text = None, limit: Limit = 20,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """List records, newest first."""
    loaded = read_config(config, data_dir)
    ring = key_ring(loaded)
    given = {
        "since": since, "until": until, "user": user, "conversation": conversation, "arm": arm, "model": model,
        "status": status, "outcome": outcome, "kind": kind, "min_quality": min_quality, "max_quality": max_quality,
        "feedback": feedback, "tag": tag, "text": text,
    }  # fmt: skip

    async def work(store: Store) -> list[dict[str, Any]]:
        criteria = await _filter(store, ring, given)
        return [_row_document(row, ring) async for row in _rows(store, criteria, limit)]

    rows = with_store(loaded, work)
    if json:
        print_json(rows)
    else:
        _print_table(rows)


@app.command("show")
def show_record(
    record: Annotated[
        str,
        typer.Argument(
            help="UUID, signed id (of both the first 4 characters or more), or an id of provider or client."
        ),
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show one record: request, answer, votes, scores, and where it was routed."""
    loaded = read_config(config, data_dir)
    ring = key_ring(loaded)

    async def work(store: Store) -> dict[str, Any] | None:
        return await _full_document(store, ring, record)

    document = with_store(loaded, work)
    if document is None:
        fail(Exit.NOT_FOUND, f"there is no record {record}; it may not be stored yet, or retention has deleted it")
    if json:
        print_json(document)
    else:
        _print_record(document)


@app.command("export")
def export_records(
    file: Annotated[Path | None, typer.Argument(help="File to write. Default: stdout.", show_default=False)] = None,
    config: ConfigOption = None, data_dir: DataDirOption = None, since: Since = None, until: Until = None,
    user: User = None, conversation: Conversation = None, arm: ArmName = None, model: Model = None,
    outcome: OutcomeName = None, kind: KindName = None, min_quality: MinQuality = None, feedback: Votes = None,
    tag: Tag = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Maximum number.")] = None,
    full: Annotated[bool, typer.Option("--full", help="With raw bodies, headers, votes and scores.")] = False,
) -> None:  # fmt: skip
    """Export records as JSON lines, newest first."""
    loaded = read_config(config, data_dir)
    ring = key_ring(loaded)
    given = {"since": since, "until": until, "user": user, "conversation": conversation, "arm": arm, "model": model,
             "outcome": outcome, "kind": kind, "min_quality": min_quality, "feedback": feedback,
             "tag": tag}  # fmt: skip

    async def work(store: Store) -> int:
        return await _export(store, ring, await _filter(store, ring, given), file, limit, full=full)

    count = with_store(loaded, work)
    if file is not None:
        say(f"{count} records written to {file}", err=True)


@app.command("delete")
def delete_records(
    user: Annotated[str, typer.Option("--user", help="Sticky key of the user, as the client sent it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    archive: Annotated[
        list[str] | None,
        typer.Option("--archive", help="An archive besides store.archive.url; may be repeated.", show_default=False),
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the other hosts.")] = 60.0,
    json: JsonOption = False,
) -> None:
    """Delete all data of one user, and list where it was, how much, what remains, and which models were trained on it.

    Removes records, bodies, votes and statistics, also from the archive, spools and training folders on every host. It
    is safe to repeat. Exit code 1: a place could not be reached; the table says which.
    """
    from proxy.cli.deletion import UserDeletion, print_deletion

    loaded = read_config(config, data_dir)
    ring = key_ring(loaded)
    if not yes:
        typer.confirm(f"Delete all data of the user {user!r}? This cannot be undone.", abort=True)
    deletion = UserDeletion(config=loaded, ring=ring, user=user, wait_s=wait, archives=archive or ())
    document = with_store(loaded, deletion.run)
    if json:
        print_json(document)
    else:
        print_deletion(document)
    if not document["complete"]:
        raise typer.Exit(int(Exit.FAILED))


async def _filter(store: Store, ring: KeyRing, given: dict[str, str | None]) -> RecordFilter:
    from proxy.clock import SystemClock
    from proxy.web.documents import parse_filter

    params = {name: text for name, text in given.items() if text is not None}
    models = {model.name: model.id for model in await store.models.list()} if "model" in params else {}
    try:
        return parse_filter(params, ring, models, SystemClock().now())
    except ValueError as exc:
        fail(Exit.USAGE, f"--{str(exc).replace('_', '-', 1)}")


async def _rows(store: Store, criteria: RecordFilter, limit: int | None) -> AsyncIterator[RecordRow]:
    """Newest first, page by page."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        page = await store.records.list(criteria, cursor=cursor, limit=_PAGE if left is None else min(_PAGE, left))
        for row in page.rows:
            yield row
        cursor = page.cursor
        left = None if left is None else left - len(page.rows)
        if cursor is None:
            return


async def _export(
    store: Store, ring: KeyRing, criteria: RecordFilter, file: Path | None, limit: int | None, *, full: bool
) -> int:
    import sys

    import orjson
    from rich.progress import Progress

    count = 0
    target = sys.stdout.buffer if file is None else open_private(file, "wb")
    try:
        with Progress(console=console(err=True), transient=True) as progress:
            task = progress.add_task("records", total=limit)
            async for row in _rows(store, criteria, limit):
                document = (await _full_document(store, ring, row.id)) if full else _row_document(row, ring)
                line = orjson.dumps(document)
                target.write((line if file is not None else json_printable(line.decode()).encode()) + b"\n")
                count += 1
                progress.update(task, advance=1)
    finally:
        target.flush() if file is None else target.close()
    return count


def _row_document(row: RecordRow, ring: KeyRing) -> dict[str, Any]:
    from proxy.ids import RecordIds
    from proxy.web.documents import row_document

    return row_document(row, RecordIds(ring))


async def _full_document(store: Store, ring: KeyRing, name: str) -> dict[str, Any] | None:
    from proxy.ids import RecordIds
    from proxy.web.records import find_record, full_document

    ids = RecordIds(ring)
    view = await find_record(store, ids, name) or await _find_beginning(store, name)
    return None if view is None else await full_document(store, ids, view)


async def _find_beginning(store: Store, name: str) -> RecordView | None:
    """The one record whose UUID begins so, or else its signed id, as the client has it."""
    from proxy.ids import ids_beginning

    begin = name.rstrip("…")
    digits = begin.replace("-", "").lower()
    uuids = (digits.ljust(32, "0"), digits.ljust(32, "f")) if _PREFIX.fullmatch(digits) else None
    for ends in (uuids, ids_beginning(begin)):
        found = [] if ends is None else await store.records.ids_between(*ends, _CANDIDATES + 1)
        if len(found) > 1:
            rest = ", and more" if len(found) > _CANDIDATES else ""
            fail(Exit.USAGE, f"several record ids begin with {name}: {', '.join(found[:_CANDIDATES])}{rest}; "
                 "give more digits")  # fmt: skip
        if found:
            return await store.records.get(found[0])
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of the list. Where a terminal is narrow, those of the highest `rank` give way first."""

    name: str
    rank: int
    text: Callable[[dict[str, Any]], str]
    right: bool = False
    least: int | None = None
    """So narrow it may become, its end left out; None: it is whole or not there at all."""

    def width(self, rows: Sequence[dict[str, Any]]) -> int:
        """Cells that it needs at least."""
        from rich.cells import cell_len

        whole = max((cell_len(text) for text in (self.name, *map(self.text, rows))), default=0)
        return whole if self.least is None else min(whole, self.least)


_COLUMNS: Final = (
    _Column(name="id", rank=0, text=lambda row: row["id"]),
    _Column(name="time", rank=0, text=lambda row: row["created_at"][:19].replace("T", " ")),
    _Column(name="model", rank=3, text=lambda row: _text(row["model"]), least=8),
    _Column(name="arm", rank=4, text=lambda row: row["arm"]),
    _Column(name="kind", rank=7, text=lambda row: row["kind"]),
    _Column(name="status", rank=1, text=lambda row: _ending(row), right=True),
    _Column(name="ms", rank=8, text=lambda row: wording.many(row["duration_ms"]), right=True),
    _Column(name="tokens", rank=9, text=lambda row: _text(row["completion_tokens"]), right=True),
    _Column(name="quality", rank=6, text=lambda row: _known(row["quality"], wording.score), right=True),
    _Column(name="votes", rank=5, text=lambda row: _known(row["feedback"], wording.signed), right=True),
    _Column(name="query", rank=2, text=lambda row: " ".join((row["query"] or "").split())[:200], least=10),
)
_GAP: Final = 2


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    out = console()
    if not rows:
        out.print("no records match")
        return
    shown, hidden = _fitting(rows, out.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    narrow = sum(column.width(rows) + _GAP for column in shown) > out.width + _GAP
    for column in shown:
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            min_width=None if narrow else column.width(rows),
            no_wrap=column.least is None and not narrow,
            overflow="fold",  # in two lines, where the terminal is narrower than an id and a time
        )
    for row in rows:
        cells = [plain(column.text(row)) for column in shown]
        for column, cell in zip(shown, cells, strict=True):
            if column.least is not None:
                cell.no_wrap, cell.overflow = True, "ellipsis"
        table.add_row(*cells)
    out.print(table)
    if hidden:
        names = ", ".join(column.name for column in hidden)
        out.print(f"no room for: {names}; use a wider terminal, or --json", style="dim")


def _fitting(rows: Sequence[dict[str, Any]], width: int) -> tuple[list[_Column], list[_Column]]:
    """The columns that fit beside an id and a time that are whole, and the others."""
    taken, room = set[str](), width + _GAP
    for column in sorted(_COLUMNS, key=lambda column: column.rank):
        needed = column.width(rows) + _GAP
        if column.rank == 0 or needed <= room:
            taken.add(column.name)
            room -= needed
    return [c for c in _COLUMNS if c.name in taken], [c for c in _COLUMNS if c.name not in taken]


def _ending(row: dict[str, Any]) -> str:
    """The status, with what it does not say: `200 upstream_error`, `404 refused`, `200 unread`."""
    rest = [row["outcome"]] if row["outcome"] != "ok" else []
    rest += ["unread"] if "unread" in row["flags"] else []
    return " ".join([str(row["status"]), *rest])


def _print_record(document: dict[str, Any]) -> None:
    from rich.panel import Panel
    from rich.pretty import Pretty

    out = console()
    aside = ("query", "response", "exchange", "votes", "scores", "judgements")
    facts = {name: value for name, value in document.items() if name not in aside and value is not None}
    out.print(Panel(Pretty(facts, expand_all=True), title=plain(f"Record {document['id']}"), title_align="left"))
    if "unread" in document["flags"]:
        out.print(
            "Part of this exchange could not be parsed: the text may be shorter than what the client got.",
            style="yellow",
        )
    for name in ("query", "response"):
        if document[name] is not None:
            out.print(Panel(plain(document[name]), title=name, title_align="left"))
    exchange = document["exchange"]
    if exchange is None:
        out.print("Retention has deleted the request and the answer.")
    elif document["response"] is None or exchange["rewritten"] is not None:
        title = plain(f"request {exchange['target']}")
        out.print(Panel(plain(exchange["request"]), title=title, title_align="left"))
        if exchange["rewritten"] is not None:
            asked = plain(f"as {document['model']} was asked")
            out.print(Panel(plain(exchange["rewritten"]), title=asked, title_align="left"))
    for sentence in exchange["not_rewritten"] if exchange is not None else ():
        out.print(f"Not rewritten: {sentence}.", style="yellow")
    if exchange is not None and document["response"] is None:
        out.print(Panel(plain(exchange["response"]), title="answer", title_align="left"))
    if document["scores"]:
        scores = {scorer_label(scorer): score for scorer, score in document["scores"].items()}
        out.print(Panel(Pretty(scores), title="scores", title_align="left"))
    for said in document["judgements"]:
        score = "no score" if said["score"] is None else wording.score(said["score"])
        words = plain(f"{score}: {said['reason'] or 'without a reason'}")
        title = plain(f"what the judge said ({scorer_label(said['scorer'])}, {said['asked_at'][:19]} UTC)")
        out.print(Panel(words, title=title, title_align="left"))
    for vote in document["votes"]:
        said = {name: value for name, value in vote.items() if value not in (None, {}, False)}
        out.print(Panel(Pretty(said, expand_all=True), title=plain(f"vote of {vote['source']}"), title_align="left"))


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _known(value: float | None, say: Callable[[float], str]) -> str:
    return "–" if value is None else say(value)
