"""The archive on a real store and a real folder: late news, deleted users, retention, crashes, and reading back."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="the archive needs the extra `archive`")

import pyarrow.parquet as pq

from policies.records import Arm, Outcome, StickySource
from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.store.archive import Archiver, ArchiveSource, ArchiveStore
from proxy.store.archive.table import from_row, schema, to_row
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag, RecordRow, RecordView
from tests.harness.exchanges import exchange, vote
from tests.harness.tables import sqlite_with_tables

DAY_US = 86_400_000_000
FIRST = 20_000
"""A day: 2024-10-04."""


@pytest.fixture
def clock() -> ManualClock:
    """Two hours after the end of the second day."""
    return ManualClock((FIRST + 2) * 86_400 + 7200.0)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=clock)
    await opened.models.add("champion")
    yield opened
    await opened.close()


@pytest.fixture
def place(tmp_path: Path) -> ArchiveStore:
    return ArchiveStore(str(tmp_path / "archive"))


@pytest.fixture
def archiver(store: Store, place: ArchiveStore, clock: ManualClock) -> Archiver:
    return Archiver(store, place, clock)


positions: Iterator[int] = iter(range(1, 10_000))


def logged(day: int, n: int, **changes: object) -> NewRecord:
    """Exchange `n` of a day counted from FIRST; every third user is the same."""
    at_us = (FIRST + day) * DAY_US + n * 1_000_000
    return exchange(at_us, random.Random(day * 10_000 + n), **{"user_hash": n % 3, "quality": 0.9} | changes)


async def put(store: Store, *news: NewRecord | NewVote) -> None:
    records = tuple(new for new in news if isinstance(new, NewRecord))
    votes = tuple(new for new in news if isinstance(new, NewVote))
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=next(positions), records=records, votes=votes))


async def everything(source: Store | ArchiveSource, **bounds: object) -> list[RecordView]:
    return [view async for view in source.records.iter(**bounds)]  # type: ignore[arg-type]


def files(tmp_path: Path, day: int = 0) -> list[str]:
    [folder] = sorted((tmp_path / "archive").glob("date=*"))[day : day + 1]
    return sorted(path.name for path in folder.iterdir())


async def test_what_is_archived_reads_back_as_it_was_stored(
    store: Store, archiver: Archiver, place: ArchiveStore
) -> None:
    records = [logged(day, n) for day in (0, 1) for n in range(450)]
    odd = logged(1, 500, outcome=Outcome.TIMEOUT, status=504, user_hash=None, key_source=StickySource.RANDOM,
                 arm=Arm.CHALLENGER, flags=RecordFlag.FALLBACK | RecordFlag.NO_TRAIN, body=None)  # fmt: skip
    coin = random.Random(1)
    said = vote(records[3].id, FIRST * DAY_US, coin, feedback=-1, correction="Better.", tags={"page": "7"})
    await put(store, *records, odd, said, vote(records[3].id, FIRST * DAY_US + 9, coin, source="b", feedback=1))
    days = await archiver.run()
    assert [(day.date, day.state, day.records) for day in days] == [
        ("2024-10-04", "written", 450),
        ("2024-10-05", "written", 451),
    ]
    stored = await everything(store)
    assert await everything(ArchiveSource(place)) == stored
    assert await everything(ArchiveSource(place), newest_first=True) == stored[::-1]
    inner = {"after_id": stored[10].row.id, "before_id": stored[700].row.id}
    assert await everything(ArchiveSource(place), **inner) == stored[11:700]
    assert (await ArchiveSource(place).samples.size()).records == 901


async def test_samples_are_those_of_the_store(store: Store, archiver: Archiver, place: ArchiveStore) -> None:
    liked, low, silent = logged(0, 1), logged(0, 2, quality=0.2), logged(0, 3, flags=RecordFlag.NO_TRAIN)
    coin = random.Random(1)
    said = vote(liked.id, FIRST * DAY_US, coin, feedback=1, correction="What a person would have said.")
    await put(store, liked, low, silent, said)
    await archiver.run()
    for filters in ({}, {"min_quality": 0.5}, {"min_feedback": 1.0}, {"newest_first": True}):
        expected = [sample async for sample in store.samples.iter(**filters)]  # type: ignore[arg-type]
        assert [s async for s in ArchiveSource(place).samples.iter(**filters)] == expected  # type: ignore[arg-type]
        assert expected


async def test_what_people_judged_is_known_without_the_store(
    store: Store, archiver: Archiver, place: ArchiveStore
) -> None:
    liked, bad, corrected = logged(0, 1), logged(0, 2, flags=RecordFlag.NO_TRAIN), logged(0, 3)
    coin = random.Random(1)
    votes = (
        vote(liked.id, FIRST * DAY_US, coin, feedback=1),
        vote(bad.id, FIRST * DAY_US, coin, feedback=-1),
        vote(corrected.id, FIRST * DAY_US, coin, feedback=0, correction="Better."),
    )
    await put(store, liked, bad, corrected, logged(0, 4, body=None), *votes)
    await archiver.run()
    expected = [sample async for sample in store.samples.judged()]
    assert [sample.record_id for sample in expected] == [corrected.id, bad.id]
    assert [sample async for sample in ArchiveSource(place).samples.judged()] == expected


async def test_the_day_that_is_not_over_waits(store: Store, archiver: Archiver, clock: ManualClock) -> None:
    await put(store, logged(1, 1), logged(2, 1))
    assert [day.date for day in await archiver.run()] == ["2024-10-05"]
    clock.advance(86_400 - 7200 + 3599)
    assert [day.state for day in await archiver.run()] == ["unchanged"]
    clock.advance(1)
    assert [day.state for day in await archiver.run()] == ["unchanged", "written"]


async def test_a_second_pass_changes_nothing(store: Store, archiver: Archiver, tmp_path: Path) -> None:
    await put(store, *(logged(0, n) for n in range(5)))
    await archiver.run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.*")}
    assert [day.state for day in await archiver.run()] == ["unchanged"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.*")} == before


async def test_late_records_and_votes_are_added(
    store: Store, archiver: Archiver, place: ArchiveStore, clock: ManualClock, tmp_path: Path
) -> None:
    records = [logged(0, n) for n in range(5)]
    await put(store, *records)
    await archiver.run()
    for news in (logged(0, 99), vote(records[1].id, (FIRST + 1) * DAY_US, random.Random(3), feedback=-1)):
        clock.advance(60)
        await put(store, news)
        assert [day.state for day in await archiver.run()] == ["rewritten"]
        assert await everything(ArchiveSource(place)) == await everything(store)
    assert len(files(tmp_path)) == 2  # the manifest, and the newest writing alone


async def test_what_retention_dropped_stays_in_the_archive(
    store: Store, archiver: Archiver, place: ArchiveStore, clock: ManualClock
) -> None:
    records = [logged(0, n) for n in range(6)]
    await put(store, *records)
    await archiver.run()
    whole = await everything(store)
    clock.advance(86_400)
    await store.retention.prune(RetentionConfig(bodies_days=1, records_days=0))
    assert all(view.body is None for view in await everything(store))
    await put(store, vote(records[2].id, (FIRST + 2) * DAY_US, random.Random(3), feedback=1))
    assert [day.state for day in await archiver.run()] == ["rewritten"]
    [voted] = [view for view in await everything(store) if view.votes]
    kept = await everything(ArchiveSource(place))
    assert [view.body for view in kept] == [view.body for view in whole]
    assert (kept[2].votes, kept[2].row.feedback) == (voted.votes, 1.0)

    await store.retention.prune(RetentionConfig(bodies_days=1, records_days=1))
    assert await everything(store) == []
    assert [day.state for day in await archiver.run()] == ["unchanged"]
    clock.advance(60)
    late = logged(0, 77)
    await put(store, late)  # fewer than there were, yet noticed
    assert [(day.state, day.records) for day in await archiver.run()] == [("rewritten", 7)]
    assert [view.row.id for view in await everything(ArchiveSource(place))] == [
        record.id for record in [*records, late]
    ]


async def test_a_deleted_user_leaves_the_archive(
    store: Store, archiver: Archiver, place: ArchiveStore, clock: ManualClock, tmp_path: Path
) -> None:
    await put(store, *(logged(0, n) for n in range(6)), logged(1, 1, user_hash=7))
    await archiver.run()
    old = files(tmp_path)
    await store.deletion.delete_user(1)
    clock.advance(60)
    days = await archiver.run()
    assert [(day.state, day.records, day.forgotten) for day in days] == [("rewritten", 4, 2), ("unchanged", 1, 0)]
    assert {view.row.user_hash for view in await everything(ArchiveSource(place))} == {0, 2, 7}
    assert not set(files(tmp_path)) & set(old) - {"manifest.json"}
    assert [day.state for day in await archiver.run()] == ["unchanged", "unchanged"]


async def test_a_user_who_comes_back_is_archived_again(
    store: Store, archiver: Archiver, place: ArchiveStore, clock: ManualClock
) -> None:
    await put(store, logged(0, 1))
    await store.deletion.delete_user(1)
    clock.advance(86_400)
    await put(store, logged(2, 7300, user_hash=1))
    await archiver.run()
    clock.advance(86_400)
    await archiver.run()
    assert [view.row.user_hash for view in await everything(ArchiveSource(place))] == [1]


async def test_files_without_a_manifest_do_not_count(
    store: Store, archiver: Archiver, place: ArchiveStore, tmp_path: Path
) -> None:
    """What a pass that was killed before its last step leaves behind."""
    await put(store, logged(0, 1))
    stray = tmp_path / "archive/date=2024-10-04/1-1-00000.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half a file")
    assert await everything(ArchiveSource(place)) == []
    await archiver.run()
    assert not stray.exists()
    assert len(await everything(ArchiveSource(place))) == 1


async def test_a_large_day_becomes_several_files(
    store: Store, place: ArchiveStore, clock: ManualClock, tmp_path: Path
) -> None:
    await put(store, *(logged(0, n) for n in range(900)))
    await Archiver(store, place, clock, part_bytes=1 << 18).run()
    manifest = json.loads((tmp_path / "archive/date=2024-10-04/manifest.json").read_text())
    assert len(manifest["files"]) > 1
    assert sum(file["records"] for file in manifest["files"]) == 900
    ids = [view.row.id for view in await everything(store)]
    assert [view.row.id for view in await everything(ArchiveSource(place))] == ids
    assert [view.row.id for view in await everything(ArchiveSource(place), newest_first=True)] == ids[::-1]
    for file in manifest["files"]:
        table = pq.read_table(tmp_path / "archive/date=2024-10-04" / file["name"], columns=["id"], partitioning=None)
        assert (table.num_rows, table["id"][0].as_py(), table["id"][-1].as_py()) == (
            file["records"],
            file["first_id"],
            file["last_id"],
        )


async def test_one_pass_at_a_time(store: Store, archiver: Archiver, clock: ManualClock) -> None:
    lease = await store.leases.acquire("archive", "another-host-1", ttl_s=60)
    assert lease is not None
    with pytest.raises(TemporaryError, match="another-host-1"):
        await archiver.run()
    await store.leases.release(lease)
    assert await archiver.run() == []


async def test_a_later_format_is_refused(store: Store, archiver: Archiver, tmp_path: Path, place: ArchiveStore) -> None:
    await put(store, logged(0, 1))
    await archiver.run()
    path = tmp_path / "archive/date=2024-10-04/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(PermanentError, match="format 2"):
        await everything(ArchiveSource(place))


async def test_any_fsspec_url_will_do(store: Store, clock: ManualClock) -> None:
    place = ArchiveStore("memory://bucket/ratchet")
    await put(store, *(logged(0, n) for n in range(5)))
    await Archiver(store, place, clock).run()
    clock.advance(60)
    await put(store, logged(0, 50))
    assert [day.state for day in await Archiver(store, place, clock).run()] == ["rewritten"]
    assert await everything(ArchiveSource(place)) == await everything(store)
    with pytest.raises(PermanentError, match="nowhere"):
        ArchiveStore("nowhere://bucket")


FIRST_COLUMNS = [
    "id", "created_at", "user_hash", "key_source", "arm", "served_by", "model_id", "model_name", "experiment_id",
    "epoch", "config_id", "kind", "method", "target", "status", "outcome", "duration_us", "upstream_us", "ttfb_us",
    "own_us", "request_bytes", "response_bytes", "prompt_tokens", "completion_tokens", "quality", "quality_source",
    "feedback", "no_train", "streamed", "fallback", "truncated_request", "truncated_response", "redacted", "sample",
    "query", "response_text", "messages", "request", "response", "request_headers", "response_headers",
    "request_sha256", "response_sha256", "error", "tags", "scores", "votes",
]  # fmt: skip
"""Those of version 0.1."""
LATER_COLUMNS = [
    "ttft_us", "conversation", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cluster", "unread",
    "resent", "claimed", "vote_trust",
]  # fmt: skip
"""In the order in which they came."""


def test_every_column_keeps_its_place_and_later_ones_stand_behind() -> None:
    places = FIRST_COLUMNS + LATER_COLUMNS
    assert schema().names[: len(places)] == places
    flags = {flag.name.lower() for flag in RecordFlag if flag.name}
    assert flags <= set(schema().names)


async def test_votes_of_other_systems_replace_and_go_in_the_archive_as_in_the_store(
    store: Store, archiver: Archiver, place: ArchiveStore
) -> None:
    """Each is known by the id that its system gave it, whoever sent it."""
    replaced, gone = logged(0, 1), logged(0, 2)
    coin = random.Random(1)
    versions = [
        vote(replaced.id, FIRST * DAY_US, coin, source="ann", correction="First.", external=7),
        vote(replaced.id, FIRST * DAY_US + 9000, coin, source="bob", correction=None, feedback=1, external=7),
        vote(gone.id, FIRST * DAY_US, coin, source="ann", correction="Never mind.", external=8),
        vote(gone.id, FIRST * DAY_US + 9000, coin, source="bob", feedback=None, retracted=True, external=8),
    ]
    await put(store, replaced, gone, *versions)
    await archiver.run()
    stored = await everything(store)
    assert await everything(ArchiveSource(place)) == stored
    assert [vote.external for view in stored for vote in view.votes] == [7, 7, 8, 8]
    for source in (store, ArchiveSource(place)):
        assert [sample.correction async for sample in source.samples.iter()] == [None, None]


async def test_files_of_an_older_version_are_still_read(
    store: Store, archiver: Archiver, place: ArchiveStore, tmp_path: Path
) -> None:
    """Its columns are these; what it did not know is unknown, beside days that have it."""
    known: dict[str, Any] = {"ttft_us": 5, "conversation": 7, "cache_read_tokens": 1, "cache_write_tokens": 2,
                             "reasoning_tokens": 3, "cluster": 11}  # fmt: skip
    await put(store, *(logged(day, n, flags=RecordFlag.RESENT, **known) for day in (0, 1) for n in range(5)))
    await archiver.run()
    [name] = [name for name in files(tmp_path) if name.endswith(".parquet")]
    path = tmp_path / "archive/date=2024-10-04" / name
    pq.write_table(pq.read_table(path, partitioning=None).select(FIRST_COLUMNS), path)
    stored = await everything(store)
    old, new = stored[:5], stored[5:]
    unknown: dict[str, Any] = dict.fromkeys(known)
    forgotten = [
        replace(view, row=replace(view.row, **unknown, flags=view.row.flags & ~RecordFlag.RESENT)) for view in old
    ]
    assert await everything(ArchiveSource(place)) == forgotten + new
    assert all(getattr(view.row, field) == value for view in new for field, value in known.items())


ROW_FIELDS = {field.name for field in fields(RecordRow)}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.dictionaries(TEXT, TEXT, max_size=3)


@given(
    request=st.binary(max_size=50), response=st.binary(max_size=50), query=st.none() | TEXT, text=st.none() | TEXT,
    words=WORDS, messages=st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3),
    quality=st.none() | st.floats(0, 1), flags=st.integers(0, 1023).map(RecordFlag),
    tokens=st.none() | st.integers(0, 9), first_us=st.none() | st.integers(0, 2**40),
    outcome=st.sampled_from(Outcome), source=st.sampled_from(StickySource),
    user=st.none() | st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
def test_any_record_survives_a_row(
    request: bytes, response: bytes, query: str | None, text: str | None, words: dict[str, str],
    messages: list[dict[str, str]], quality: float | None, flags: RecordFlag, tokens: int | None, first_us: int | None,
    outcome: Outcome, source: StickySource, user: int | None,
) -> None:  # fmt: skip
    import pyarrow as pa

    record = exchange(FIRST * DAY_US, random.Random(1))
    assert record.body is not None
    payload = replace(record.body, request=request, response=response, query=query, response_text=text, tags=words,
                      request_headers=words, messages=tuple(messages))  # fmt: skip
    taken = {field.name: getattr(record, field.name) for field in fields(NewRecord) if field.name in ROW_FIELDS}
    given_values = {"quality": quality, "flags": flags, "prompt_tokens": tokens, "outcome": outcome,
                    "key_source": source, "user_hash": user, "query": query, "response_text": text,
                    "ttft_us": first_us, "conversation": user, "cache_read_tokens": tokens,
                    "cache_write_tokens": tokens, "reasoning_tokens": tokens, "cluster": user,
                    "answer_chars": tokens, "behaviour": tokens, "tags": words or None}  # fmt: skip
    row = RecordRow(created_us=FIRST * DAY_US, model_name=None, feedback=None, judged=None, **taken | given_values)
    view = RecordView(row=row, body=payload, votes=(), scores={"heuristic": 0.5})
    [back] = pa.RecordBatch.from_pylist([to_row(view)], schema=schema()).to_pylist()
    assert from_row(back) == view
