"""Thumbs given in Open WebUI arrive, change and go here as they do there; over a real socket, into a real store."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from prometheus_client.registry import CollectorRegistry
from starlette.applications import Starlette

from proxy.app.open_webui import OpenWebUILink
from proxy.app.troubles import Troubles
from proxy.clock import ManualClock
from proxy.config.load import parse_config
from proxy.errors import ConfigError
from proxy.ingest import IngestMetrics
from proxy.metrics.traffic import TrafficMetrics
from proxy.store.store import Store
from proxy.store.tables.schema import feedback, outside_votes
from proxy.store.tables.values import Applied, IngestBatch, NewRecord, NewVote
from proxy.web.open_webui.api import OpenWebUI, OpenWebUIError
from proxy.web.open_webui.bell import open_webui_bell
from proxy.web.open_webui.poller import OpenWebUIPoller
from proxy.web.open_webui.reading import fid_of, said_in
from tests.harness.install import Install
from tests.harness.open_webui import KEY, OpenWebUIServer
from tests.harness.webserver import serving

MESSAGE, OTHER = "5e55a6e0-0000-4000-8000-0000000000d1", "5e55a6e0-0000-4000-8000-0000000000d2"


@dataclass
class Scene:
    """One Open WebUI, one store with two answers in it, and what fetches."""

    server: OpenWebUIServer
    url: str
    install: Install
    store: Store
    records: Sequence[NewRecord]
    api: OpenWebUI
    counted: list[Applied]

    def poller(self, **changes: Any) -> OpenWebUIPoller:
        """As a controller has it that has just been started."""
        settings: dict[str, Any] = {"max_age_days": 90.0, "counted": self.counted.append} | changes
        return OpenWebUIPoller(self.api, self.url, self.store, self.install.clock, **settings)

    @property
    def now_s(self) -> int:
        return int(self.install.clock.now())

    async def thumbs(self) -> list[float | None]:
        views = [await self.store.records.get(record.id) for record in self.records]
        return [view and view.row.feedback for view in views]

    async def rows(self, table: sa.Table) -> list[Any]:
        async with self.store._db.read() as connection:
            return list((await connection.execute(sa.select(table))).all())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    install, server = Install(tmp_path), OpenWebUIServer()
    records = [install.record(aliases=[MESSAGE]), install.record(user="bob", aliases=[OTHER])]
    await install.fill(records)
    async with contextlib.AsyncExitStack() as stack:
        store = await install.open_store()
        stack.push_async_callback(store.close)
        url = await stack.enter_async_context(server.running())
        api = await stack.enter_async_context(OpenWebUI(url, KEY))
        yield Scene(server, url, install, store, records, api, [])


async def test_a_thumb_counts_for_its_message_with_who_gave_it_and_why(scene: Scene) -> None:
    details = {
        "reason": "not_factually_correct",
        "comment": "It is Bern.",
        "tags": ["geography"],
        "details": {"rating": 3},
    }
    scene.server.give("f1", scene.now_s, -1, message=MESSAGE, **details)
    assert await scene.poller().look() is False
    assert await scene.thumbs() == [-1.0, None]
    view = await scene.store.records.get(scene.records[0].id)
    assert view is not None
    [vote] = view.votes
    assert (vote.source, vote.comment) == ("ada", "not_factually_correct: It is Bern.")
    assert vote.tags == {"points_of_10": "3", "topics": "geography"}
    assert [len(applied.votes) for applied in scene.counted] == [1]
    assert all("whole chat" not in str(row) for row in await scene.rows(feedback)), "the snapshot is dropped"


async def test_a_changed_vote_replaces_the_first_also_within_one_second(scene: Scene) -> None:
    poller = scene.poller()
    for rating in (1, -1, 1):
        scene.server.give("f1", scene.now_s, rating, message=MESSAGE)
        await poller.look()
        assert await scene.thumbs() == [float(rating), None]
        scene.install.clock.advance(0.0 if rating == 1 else 5.0)
    assert len(await scene.rows(outside_votes)) == 1


async def test_what_the_same_person_said_by_another_tool_stays_when_the_vote_is_taken_back(scene: Scene) -> None:
    """Also where the vote was stored by a version that gave it no id of its own, which then has none later, either."""

    async def other(fid: str, external: int | None) -> None:
        vote = NewVote(fid=fid, record_id=None, alias=OTHER, source="ada", feedback=-1, external=external)
        await scene.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=(vote,)))

    poller = scene.poller()
    await other(f"{(scene.now_s - 99) * 1000:012x}" + "7" + "0" * 19, 7)
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    await poller.look()
    assert await scene.thumbs() == [1.0, 1.0]
    async with scene.store._db.write() as connection:  # as an older version has stored it
        mine = feedback.c.feedback == 1, feedback.c.record_id == scene.records[0].id
        await connection.execute(sa.update(feedback).where(*mine).values(external=None))
    scene.install.clock.advance(5.0)
    scene.server.give("f1", scene.now_s, -1, message=MESSAGE)
    await poller.look()
    assert await scene.thumbs() == [-1.0, 1.0]
    for gone in ("f1", "f2"):
        del scene.server.votes[gone]
        await poller.look()
    assert await scene.thumbs() == [None, -1.0]


async def test_a_comment_goes_when_it_is_removed_there_or_its_vote_is(scene: Scene) -> None:
    poller = scene.poller()

    async def comments() -> list[str]:
        return [row.comment for row in await scene.rows(feedback) if row.comment]

    for words, kept in (("It is Bern.", ["It is Bern."]), ("Bern.", ["Bern."]), ("", []), ("Oh.", ["Oh."])):
        scene.server.give("f1", scene.now_s, -1, message=MESSAGE, comment=words)
        await poller.look()
        assert await comments() == kept
        scene.install.clock.advance(5.0)
    scene.server.votes.clear()
    await poller.look()
    assert await comments() == []


async def test_a_vote_that_is_gone_is_taken_back_and_others_stay(scene: Scene) -> None:
    poller = scene.poller()
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, "1", message=OTHER, user="bob")
    await poller.look()
    assert await scene.thumbs() == [1.0, 1.0]
    del scene.server.votes["f1"]
    await poller.look()
    assert await scene.thumbs() == [None, 1.0]
    scene.install.clock.advance(2.0)
    scene.server.give("f3", scene.now_s, -1, message=MESSAGE)
    await poller.look()
    assert await scene.thumbs() == [-1.0, 1.0]


async def test_what_is_known_is_asked_for_once_and_what_has_just_changed_once_more(scene: Scene) -> None:
    poller = scene.poller()
    scene.server.give("f1", scene.now_s - 60, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    for _ in range(4):
        await poller.look()
    asked = [path.rpartition("/")[2] for path in scene.server.asked]
    assert (asked.count("f1"), asked.count("f2"), asked.count("ids")) == (1, 2, 4)
    assert len(await scene.rows(feedback)) == 2


async def test_a_controller_that_is_killed_before_it_has_noted_what_it_stored_counts_nothing_twice(
    scene: Scene,
) -> None:
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await scene.poller().look()
    async with scene.store._db.write() as connection:
        await connection.execute(sa.delete(outside_votes))  # as after a kill between the two
    await scene.poller().look()
    assert len(await scene.rows(feedback)) == 1
    assert await scene.thumbs() == [1.0, None]


async def test_what_is_deleted_after_a_kill_right_behind_its_storing_is_taken_back(scene: Scene) -> None:
    """Whoever hears what was stored is the first thing behind the transaction: there the controller ends."""

    def killed(applied: Applied) -> None:
        raise RuntimeError("killed")

    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    with pytest.raises(RuntimeError, match="killed"):
        await scene.poller(counted=killed).look()
    assert await scene.thumbs() == [1.0, None]
    scene.server.votes.clear()
    await scene.poller().look()
    assert await scene.thumbs() == [None, None]
    assert await scene.rows(outside_votes) == []


async def test_the_same_holds_for_what_is_taken_back(scene: Scene) -> None:
    poller = scene.poller()
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await poller.look()
    [note] = [dict(row._mapping) for row in await scene.rows(outside_votes)]
    scene.server.votes.clear()
    await poller.look()
    async with scene.store._db.write() as connection:
        await connection.execute(sa.insert(outside_votes).values(note))
    await scene.poller().look()
    assert [row.retracted for row in await scene.rows(feedback)] == [False, True]
    assert await scene.rows(outside_votes) == []


async def test_a_vote_before_its_record_waits_and_one_that_was_taken_back_meanwhile_does_not_count(
    scene: Scene,
) -> None:
    poller = scene.poller()
    late, never = (f"5e55a6e0-0000-4000-8000-0000000000{n}" for n in ("e1", "e2"))
    scene.server.give("f1", scene.now_s, 1, message=late)
    scene.server.give("f2", scene.now_s, 1, message=never)
    await poller.look()
    del scene.server.votes["f2"]
    await poller.look()
    records = [scene.install.record(aliases=[late]), scene.install.record(aliases=[never])]
    await scene.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records)))
    views = [await scene.store.records.get(record.id) for record in records]
    assert [view and view.row.feedback for view in views] == [1.0, None]


async def test_much_is_fetched_in_several_looks_and_what_is_old_not_at_all(scene: Scene) -> None:
    for n in range(230):
        scene.server.give(f"f{n:03}", scene.now_s - 300 + n, 1, message=f"message-{n:03}")
    scene.server.give("long-ago", scene.now_s - 91 * 86_400, 1, message=MESSAGE)
    poller = scene.poller()
    assert await poller.look() is True
    assert len(await scene.rows(outside_votes)) == 200
    assert await poller.look() is False
    assert {row.id for row in await scene.rows(outside_votes)} == {f"f{n:03}" for n in range(230)}


async def test_what_names_no_answer_or_says_nothing_is_no_vote_and_is_not_asked_for_again(scene: Scene) -> None:
    scene.server.give("arena", scene.now_s - 9, 1, message=None)
    scene.server.give("empty", scene.now_s - 8, None, message=MESSAGE)
    scene.server.votes["odd"] = {"id": "odd", "user_id": 7, "data": [], "meta": None, "updated_at": scene.now_s - 7,
                                 "created_at": "x"}  # fmt: skip
    scene.server.give("last", scene.now_s, 1, message=OTHER)
    poller = scene.poller()
    await poller.look()
    await poller.look()
    assert await scene.thumbs() == [None, 1.0]
    assert [path.rpartition("/")[2] for path in scene.server.asked].count("arena") == 1


async def test_a_vote_that_is_there_and_not_in_the_list_stays(scene: Scene) -> None:
    poller = scene.poller()
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    await poller.look()
    scene.server.unlisted = {"f1"}
    assert await poller.look() is False
    assert await scene.thumbs() == [1.0, 1.0]
    assert "1 of its votes are there and not in its list" in poller.remark
    del scene.server.votes["f1"]
    await poller.look()
    assert await scene.thumbs() == [None, 1.0]
    await poller.look()
    assert poller.remark == ""


@pytest.mark.parametrize("left", [0, 9])
async def test_a_list_that_has_shrunk_takes_nothing_back_until_it_has_been_so_for_a_day(
    scene: Scene, left: int
) -> None:
    for n in range(30):
        message = (MESSAGE, OTHER, *(f"message-{m:03}" for m in range(28)))[n]
        scene.server.give(f"f{n:03}", scene.now_s - n, 1, message=message)
    poller = scene.poller()
    await poller.look()
    kept = dict(list(scene.server.votes.items())[-left:]) if left else {}
    whole, scene.server.votes = scene.server.votes, kept
    for hours in (0, 12, 11):
        scene.install.clock.advance(hours * 3600.0)
        assert await poller.look() is False
        assert await scene.thumbs() == [1.0, 1.0]
        assert f"lacks {30 - left} of 30 known votes: has it lost its database?" in poller.remark
    asked = [path.rpartition("/")[2] for path in scene.server.asked]
    assert asked.count("f000") <= 2, "nor is it asked for them"
    scene.server.votes = whole
    await poller.look()
    scene.server.votes = kept
    scene.install.clock.advance(7200.0)
    await poller.look()
    assert await scene.thumbs() == [1.0, 1.0], "the day begins anew"
    scene.install.clock.advance(86_400.0)
    await poller.look()
    assert await scene.thumbs() == [None, None]
    assert poller.remark == ""
    assert len(await scene.rows(outside_votes)) == left


async def test_a_vote_that_cannot_be_read_keeps_no_other_one_waiting(scene: Scene) -> None:
    for n in range(8):
        scene.server.give(f"bad{n}", scene.now_s - 90 + n, 1, message=f"message-{n:03}")
    scene.server.unreadable = {f"bad{n}" for n in range(8)}
    scene.server.give("f1", scene.now_s - 5, 1, message=MESSAGE)
    poller = scene.poller()
    await poller.look()
    assert "status 500; so it was for 5 of the votes" in poller.remark
    await poller.look()
    assert await scene.thumbs() == [1.0, None]
    scene.server.unreadable = set()
    await poller.look()
    assert len(await scene.rows(outside_votes)) == 9
    assert poller.remark == ""


async def test_one_that_cannot_be_asked_for_keeps_no_other_one_from_being_taken_back(scene: Scene) -> None:
    poller = scene.poller()
    for n, message in enumerate((MESSAGE, OTHER, "message-003")):
        scene.server.give(f"f{n}", scene.now_s, 1, message=message)
    await poller.look()
    scene.server.unreadable = {"f0"}
    del scene.server.votes["f0"], scene.server.votes["f1"]
    assert await poller.look() is False
    assert await scene.thumbs() == [1.0, None]
    assert "status 500; so it was for a vote that its list lacks" in poller.remark
    scene.server.unreadable = set()
    await poller.look()
    assert await scene.thumbs() == [None, None]


async def test_of_an_old_vote_of_which_nothing_is_kept_nothing_is_remembered(scene: Scene) -> None:
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    poller = scene.poller()
    await poller.look()
    async with scene.store._db.write() as connection:  # as retention does
        await connection.execute(sa.delete(feedback).where(feedback.c.record_id == scene.records[0].id))
    scene.install.clock.advance(89 * 86_400.0)
    await poller.look()
    assert {row.id for row in await scene.rows(outside_votes)} == {"f1", "f2"}
    scene.install.clock.advance(2 * 86_400.0)
    await poller.look()
    assert {row.id for row in await scene.rows(outside_votes)} == {"f2"}
    assert len(await scene.rows(feedback)) == 1, "it is not fetched again"


async def test_of_a_deleted_user_no_name_of_an_answer_stays_and_no_vote_comes_again(scene: Scene) -> None:
    scene.server.give("f1", scene.now_s - 60, 1, message=MESSAGE, comment="secret words")
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    poller = scene.poller()
    await poller.look()
    assert scene.records[0].user_hash is not None
    await scene.store.deletion.delete_user(scene.records[0].user_hash)
    assert {row.id: row.alias for row in await scene.rows(outside_votes)} == {"f1": None, "f2": OTHER}
    await poller.look()
    assert len(await scene.rows(feedback)) == 1


async def test_what_is_odd_is_a_trouble_that_ends_and_slows_nothing(scene: Scene, tmp_path: Path) -> None:
    settings = {"url": scene.url, "key": KEY}
    config = parse_config({"champion": {"url": "http://model.example.com"}, "feedback": {"open_webui": settings}})
    registry, troubles = CollectorRegistry(), Troubles(scene.install.clock)
    link = OpenWebUILink(config, tmp_path / "bell", scene.install.clock, troubles, TrafficMetrics(registry),
                         IngestMetrics(registry), leading=lambda: True)  # fmt: skip
    poller = scene.poller()
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    scene.server.give("f2", scene.now_s, 1, message=OTHER)
    assert await link._look(poller, 60.0) == 60.0
    whole, scene.server.votes = scene.server.votes, {}
    assert await link._look(poller, 60.0) == 60.0
    assert "lacks 2 of 2 known votes" in troubles.of("open_webui")
    scene.server.votes = whole
    assert await link._look(poller, 60.0) == 60.0
    assert troubles.of("open_webui") == ""


@pytest.mark.parametrize(
    "listed", ['[1, 2]', '[{"id": 3}]', '[{"id": "f1", "updated_at": "2026-11-30"}]', "{}", '"no"'],
    ids=["numbers", "no id", "no time", "an object", "a text"],
)  # fmt: skip
async def test_a_list_of_something_else_is_said_and_takes_nothing_back(scene: Scene, listed: str) -> None:
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await scene.poller().look()
    scene.server.listed = listed
    with pytest.raises(OpenWebUIError):
        await scene.poller().look()
    assert await scene.thumbs() == [1.0, None]


async def test_the_key_follows_no_redirection(scene: Scene) -> None:
    elsewhere = OpenWebUIServer()
    async with elsewhere.running() as other:
        scene.server.moved_to = other
        with pytest.raises(OpenWebUIError, match="status 307"):
            await scene.api.votes()
    assert elsewhere.asked == []


async def test_an_id_that_is_no_part_of_an_address_is_passed_over(scene: Scene) -> None:
    for odd in ("..", "a/../../users", "nul\0", "x" * 300):
        scene.server.give(odd, scene.now_s, 1, message=OTHER)
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await scene.poller().look()
    assert await scene.thumbs() == [1.0, None]


async def test_a_rating_that_is_emptied_takes_the_thumb_back(scene: Scene) -> None:
    poller = scene.poller()
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await poller.look()
    scene.server.give("f1", scene.now_s + 1, None, message=MESSAGE)
    await poller.look()
    assert await scene.thumbs() == [None, None]


async def test_words_are_cleaned_as_those_of_every_vote(scene: Scene) -> None:
    async def blank(texts: Sequence[str]) -> list[str]:
        return [text.replace("Bern", "[redacted]") for text in texts]

    scene.server.give("f1", scene.now_s, 1, message=MESSAGE, comment="It is Bern.")
    await scene.poller(redact=blank).look()
    assert [row.comment for row in await scene.rows(feedback)] == ["It is [redacted]."]


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        ("keys are off", "ENABLE_API_KEYS=true"),
        ("not an admin", "has to be an administrator's"),
        ("of another make", "not JSON: is feedback.open_webui.url"),
        ("down", "status 502"),
    ],
)
async def test_what_is_wrong_is_one_sentence_with_its_remedy(scene: Scene, trouble: str, remedy: str) -> None:
    scene.server.give("f1", scene.now_s, 1, message=MESSAGE)
    await scene.poller().look()
    scene.server.trouble = trouble
    with pytest.raises(OpenWebUIError, match=remedy) as raised:
        await scene.poller().look()
    assert KEY not in str(raised.value)
    assert await scene.thumbs() == [1.0, None], "trouble takes nothing back"


async def test_times_in_other_units_are_times(scene: Scene) -> None:
    for n, factor in enumerate((1, 1_000, 1_000_000_000)):
        scene.server.give(f"f{n}", scene.now_s * factor, 1, message=MESSAGE)
    assert {*(await scene.api.votes()).values()} == {scene.now_s}


async def test_nobody_at_the_address_is_said_as_well() -> None:
    async with OpenWebUI("http://127.0.0.1:9", KEY) as nobody:
        with pytest.raises(OpenWebUIError, match="cannot be reached"):
            await nobody.votes()


def test_of_two_versions_the_later_one_sorts_behind() -> None:
    fids = []
    for at_s, said in ((100, {"feedback": 1}), (100, {"feedback": -1}), (100, {"feedback": 1}), (101, {"feedback": 1})):
        fids.append(fid_of("s", "f1", said, at_s, before=fids[-1] if fids else None))
    assert fids == sorted(fids)
    assert len({*fids}) == 4
    assert fid_of("s", "f1", {"feedback": 1}, 101, before=fids[-1]) == fids[-1], "the same again"
    assert fid_of("s", "f2", {"feedback": 1}, 101, before=None) != fids[-1]


def test_a_vote_of_any_json_is_read() -> None:
    for odd in (
        {},
        {"data": {"rating": True}},
        {"data": {"rating": "up", "comment": 3, "tags": "x", "details": 5}},
        {"meta": []},
    ):
        assert said_in(odd)["feedback"] is None


async def test_the_bell_always_answers_and_rings_once_a_second() -> None:
    clock, rung = ManualClock(), []
    app = Starlette(routes=[open_webui_bell(lambda: rung.append(1), clock, wanted=True)])
    async with serving(app) as url, aiohttp.ClientSession(url) as client:
        for body in (b'{"event": "feedback.created"}', b"", b"no JSON \xff", b"x" * (2 << 20)):
            async with client.post("/-/openwebui", data=io.BytesIO(body)) as answer:
                assert answer.status == 200
        assert len(rung) == 1
        clock.advance(1.0)
        async with client.post("/-/openwebui", json={"event": "chat.created"}) as answer:
            assert answer.status == 200
    assert len(rung) == 2


def test_an_address_needs_a_key_and_a_key_an_address() -> None:
    document = {"champion": {"url": "http://model.example.com"}}
    for given, missing in (("url", "key"), ("key", "url")):
        table = {given: "http://open-webui:8080" if given == "url" else KEY}
        with pytest.raises(ConfigError, match=rf"feedback\.open_webui\.{missing}: not set"):
            parse_config(document | {"feedback": {"open_webui": table}})
