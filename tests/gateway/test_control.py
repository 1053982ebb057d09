"""After a promotion some users stay on the old champion: the same bytes, the same users, and evidence only of what it
took."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.assignment import assign, is_held_back
from policies.records import Arm, StickySource
from proxy.config.serving import BreakerConfig
from proxy.gateway.backend import Router
from proxy.routes import RouteTable, Target, read_routes, write_routes
from tests.gateway.playbook import NotePool, Talk
from tests.gateway.test_arms import post
from tests.gateway.test_rewriting import ASKED, BODY, BRIEF, PACKED
from tests.gateway.test_shadow import opened, shadow
from tests.gateway.test_shadow import post as question
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

SALT = "00ff" * 8
NOWHERE = "http://127.0.0.1:1"


def watched(control: str | Target, share: float = 0.3) -> dict[str, Any]:
    """What a promotion changes in a table."""
    target = control if isinstance(control, Target) else Target(model_id=9, name="former", url=control)
    return {"control": target, "control_share": share, "salt": SALT, "experiment_id": 7, "epoch": 4}


def user_of(arm: Arm, share: float = 0.3) -> bytes:
    """A header that names a user of that side."""
    held = arm is Arm.CONTROL
    users = (b"user-%d" % n for n in range(1000))
    return b"X-User-Id: %b\r\n" % next(user for user in users if is_held_back(bytes.fromhex(SALT), user, share) == held)


@asynccontextmanager
async def watching(
    directory: Path, new: str, old: str | Target, share: float = 0.3, **options: Any
) -> AsyncIterator[Door]:
    async with open_gateway(directory, new, **options) as door:
        door.route(**watched(old, share))
        yield door


async def test_held_back_users_keep_the_old_champion_byte_for_byte_and_no_other_user_has_it(
    upstream: Upstream, tmp_path: Path
) -> None:
    body = b'{ "messages":[],\n "temperature":1.0, "x":"\\u00e9"}'
    async with serve_upstream() as old, watching(tmp_path, upstream.url, old.url) as door:
        for n in range(40):
            before = len(old.seen)
            await door.ask(post(body, b"X-User-Id: user-%d\r\nX-Thing:  1\r\n" % n))
            assert (len(old.seen) > before) == is_held_back(bytes.fromhex(SALT), b"user-%d" % n, 0.3)
        assert 0 < len(old.seen) < 40
        assert {seen.payload for seen in old.seen + upstream.seen} == {body}
        lines = [
            [line for line in seen.lines if not line.startswith((b"Host", b"X-User-Id"))]
            for seen in (upstream.seen[0], old.seen[0])
        ]
        assert lines[0] == lines[1]
        for frame in door.frames():
            by_old = frame.meta["mn"] == "former"
            assert frame.meta["arm"] == frame.meta["srv"] == (Arm.CONTROL if by_old else Arm.CHAMPION)
            assert (frame.meta["exp"], frame.meta["ep"]) == (7, 4)
            assert frame.meta["mid"] == (9 if by_old else 1)


async def test_the_same_users_are_held_back_after_a_worker_was_restarted(upstream: Upstream, tmp_path: Path) -> None:
    arms: list[list[int]] = []
    async with serve_upstream() as old:
        for _ in range(2):
            async with watching(tmp_path, upstream.url, old.url) as door:
                before = len(door.frames())
                for n in range(20):
                    await door.ask(post(b'{"user":"user-%d"}' % n))
                arms.append([frame.meta["arm"] for frame in door.frames()[before:]])
    assert arms[0] == arms[1]
    assert set(arms[0]) == {Arm.CHAMPION, Arm.CONTROL}


async def test_the_arm_is_named_and_can_be_forced_with_the_admin_token(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(gateway={"expose_arm": True})
    async with (
        serve_upstream() as old,
        watching(tmp_path, upstream.url, old.url, settings=settings, admin_token="letmein") as door,
    ):
        for arm in (Arm.CHAMPION, Arm.CONTROL):
            head, _ = await door.ask(post(b"{}", user_of(arm)))
            assert b"x-ratchet-arm: %b\r\n" % arm.label.encode() in head
        force = b"X-Ratchet-Arm: control\r\n" + user_of(Arm.CHAMPION)
        await door.ask(post(b"{}", force))
        await door.ask(post(b"{}", force + b"X-Ratchet-Admin-Token: letmein\r\n"))
        metas = [(await door.frame(n)).meta for n in (3, 4)]
    assert [(meta["arm"], meta["exp"]) for meta in metas] == [(0, 7), (2, None)]


async def test_a_promoted_rewrite_is_not_for_those_held_back(upstream: Upstream, tmp_path: Path) -> None:
    packed = b"Content-Encoding: gzip\r\n"
    async with serve_upstream() as old, watching(tmp_path, upstream.url, old.url) as door:
        door.route(champion=Target(model_id=1, name="new", url=upstream.url, rewrite=BRIEF))
        for arm in (Arm.CONTROL, Arm.CHAMPION):
            await door.ask(post(BODY, user_of(arm)))
            await door.ask(post(PACKED, user_of(arm) + packed))
        metas = [(await door.frame(n)).meta for n in (1, 2, 3, 4)]
    assert [seen.payload for seen in old.seen] == [BODY, PACKED]
    assert [seen.payload for seen in upstream.seen] == [ASKED, PACKED]
    assert [meta["arm"] for meta in metas] == [2, 2, 0, 0]
    assert [meta["exp"] for meta in metas] == [7, None, 7, None], "what cannot be rewritten is evidence in no arm"
    assert ["rw" in meta for meta in metas] == [False, False, True, False]


async def test_an_old_champion_that_is_gone_costs_nobody_an_answer_and_is_no_evidence(
    upstream: Upstream, tmp_path: Path
) -> None:
    breaker = BreakerConfig(consecutive_failures=2, open_seconds=600.0)
    settings = config(gateway={"breaker": breaker})
    async with watching(tmp_path, upstream.url, NOWHERE, settings=settings) as door:
        for _ in range(4):
            assert (await door.ask(post(b"{}", user_of(Arm.CONTROL))))[0].startswith(b"HTTP/1.1 200 ")
        await door.ask(post(b"{}", user_of(Arm.CHAMPION)))
        metas = [(await door.frame(n)).meta for n in range(1, 6)]
        assert door.count('answers_total{arm="control"}') == 2
        assert door.count("breaker_open") == 1
    assert [meta["fb"] for meta in metas] == ["connect", "connect", "breaker", "breaker", None]
    assert [(meta["arm"], meta["srv"], meta["exp"]) for meta in metas] == [(2, 0, None)] * 4 + [(0, 0, 7)]


async def test_an_outage_of_both_models_is_a_failure_of_both(tmp_path: Path) -> None:
    """Behind one server both are away together: counted for the new one alone it would read as its harm."""
    breaker = BreakerConfig(consecutive_failures=2, open_seconds=600.0)
    settings = config(gateway={"breaker": breaker})
    async with watching(tmp_path, NOWHERE, NOWHERE, settings=settings) as door:
        for _ in range(3):
            assert (await door.ask(post(b"{}", user_of(Arm.CONTROL))))[0].startswith(b"HTTP/1.1 502 ")
        await door.ask(post(b"{}", user_of(Arm.CHAMPION)))
        metas = [(await door.frame(n)).meta for n in range(1, 5)]
    assert [meta["fb"] for meta in metas] == ["connect", "connect", "breaker", None]
    assert [(meta["arm"], meta["srv"], meta["exp"]) for meta in metas] == [(2, 0, 7)] * 3 + [(0, 0, 7)]


@pytest.mark.parametrize(("status", "cause"), [(b"503 Busy", "status"), (b"", "connect")])
async def test_what_the_old_champion_took_and_failed_is_its_evidence_as_in_a_test(
    upstream: Upstream, tmp_path: Path, status: bytes, cause: str
) -> None:
    """Else a server that fails one in ten under both would have failed nobody on the old one's side."""

    async def script(_: Seen, line: Line) -> None:
        if status:
            await line.send(reply(b"no", status=status))
        else:
            line.close()

    async with serve_upstream() as old, watching(tmp_path, upstream.url, old.url) as door:
        old.on("/v1/chat/completions", script)
        assert (await door.ask(post(b"{}", user_of(Arm.CONTROL))))[0].startswith(b"HTTP/1.1 200 ")
        meta = (await door.frame()).meta
    assert (meta["arm"], meta["srv"], meta["exp"], meta["fb"]) == (2, 0, 7, cause)


@pytest.mark.parametrize("both", [False, True])
async def test_a_refusal_of_the_old_champion_is_judged_by_what_the_new_one_says(
    upstream: Upstream, tmp_path: Path, both: bool
) -> None:
    async def script(_: Seen, line: Line) -> None:
        await line.send(reply(b"no", status=b"404 Not Found"))

    async with serve_upstream() as old, watching(tmp_path, upstream.url, old.url) as door:
        for server in (old, upstream) if both else (old,):
            server.on("/v1/chat/completions", script)
        head, _ = await door.ask(post(b"{}", user_of(Arm.CONTROL)))
        meta = (await door.frame()).meta
        assert door.count(f'fallbacks_total{{cause="{"both_refused" if both else "status"}"}}') == 1
    assert head.startswith(b"HTTP/1.1 404 " if both else b"HTTP/1.1 200 ")
    assert (meta["arm"], meta["srv"], meta["exp"], meta["cs"]) == (2, 0, 7, 404)
    assert meta["fb"] == (None if both else "status")


async def test_a_control_that_cannot_be_followed_leaves_everybody_with_the_champion_and_is_no_evidence(
    upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former = Target(model_id=9, name="former", url="http://models", credential="not here")
    async with watching(tmp_path, upstream.url, former) as door:
        for arm in (Arm.CONTROL, Arm.CHAMPION):
            await door.ask(post(b"{}", user_of(arm)))
        metas = [(await door.frame(n)).meta for n in (1, 2)]
    assert [(meta["arm"], meta["srv"], meta["exp"]) for meta in metas] == [(0, 0, None)] * 2
    assert "former gets no users here" in caplog.text


async def test_what_a_held_back_user_asked_is_not_copied(tmp_path: Path) -> None:
    async with serve_upstream() as old, opened(tmp_path) as copies:
        copies.door.route(**watched(old.url) | shadow(f"http://127.0.0.1:{copies.other.port}"))
        await copies.ask(question(headers=user_of(Arm.CONTROL)))
        assert copies.other.seen == []
        await copies.ask(question(headers=user_of(Arm.CHAMPION)))
        assert len(copies.other.seen) == 1


OLD, NEW = (Target(model_id=n, name=name, url=f"http://127.0.0.1:{8000 + n}") for n, name in ((1, "old"), (2, "new")))


def arm_of(table: RouteTable, key: bytes) -> tuple[Arm, str]:
    """The side, and the model, of a user."""
    talk = Talk(b"GET / HTTP/1.1\r\nHost: x")
    routes = Router(config(), lambda address: NotePool(address, talk), lambda *_: None).resolve(table)
    backend = routes.backend_for((key, StickySource.HEADER))
    assert routes.backend_for((key, StickySource.HEADER)) is backend  # who is remembered
    assert routes.backend_for((key, StickySource.RANDOM)) is backend
    return backend.arm, backend.target.name


@given(
    st.binary(max_size=40),
    st.lists(st.floats(0.001, 0.999), min_size=1, max_size=4, unique=True).map(sorted),
    st.floats(0, 0.5),
)
def test_users_only_ever_move_to_the_new_model_until_everybody_has_it(
    key: bytes, shares: list[float], holdback: float
) -> None:
    tests = [
        RouteTable(version=1, champion=OLD, challenger=NEW, share=share, salt=SALT, experiment_id=1) for share in shares
    ]
    held = min(holdback, 1.0 - shares[-1])
    watch = RouteTable(version=2, champion=NEW, control=OLD, control_share=held, salt=SALT, experiment_id=1)
    found = [arm_of(table, key) for table in (*tests, watch, RouteTable(version=3, champion=NEW))]
    models = [model for _, model in found]
    assert models == sorted(models, reverse=True), "from the old one to the new one, and never back"
    assert models[-1] == "new"
    for share, (arm, model) in zip(shares, found, strict=False):
        assert (arm, model) == (
            (Arm.CHALLENGER, "new") if assign(bytes.fromhex(SALT), key, share) else (Arm.CHAMPION, "old")
        )
    assert found[-2] in ((Arm.CHAMPION, "new"), (Arm.CONTROL, "old"))


def test_a_table_of_a_version_without_control_is_read_and_one_without_control_is_written_as_it_was(
    tmp_path: Path,
) -> None:
    """An older worker that reads a table with a control refuses it, and goes on with its last one."""
    file = tmp_path / "routes.json"
    test = RouteTable(version=1, champion=OLD, challenger=NEW, share=0.5, salt=SALT, experiment_id=1)
    write_routes(file, test)
    assert not {"control", "control_share"} & json.loads(file.read_bytes()).keys()
    assert read_routes(file) == test
    watch = RouteTable(version=2, champion=NEW, **watched(OLD))
    write_routes(file, watch)
    assert read_routes(file) == watch


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control_share": 1.5}, r"control_share: 1\.5 is not a share of users"),
        ({"challenger": {"model_id": 2, "name": "new", "url": "http://new"}}, "control: there is a challenger, too"),
        ({"control": {"name": "former"}}, "model_id"),
        ({"control": "former"}, "control"),
    ],
)
def test_a_table_whose_control_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file = tmp_path / "routes.json"
    write_routes(file, RouteTable(version=2, champion=NEW, **watched(OLD)))
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))
    with pytest.raises(ValueError, match=said):
        read_routes(file)
