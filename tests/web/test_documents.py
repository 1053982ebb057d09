"""Filters and instants as people write them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.records import Arm, Outcome
from proxy.ids import KeyRing
from proxy.store.tables.values import RecordFilter, RecordFlag
from proxy.web.documents import FILTERS, iso, parse_filter, parse_instant, record_document, user_text
from tests.harness.install import Install

NOW = 1_769_860_800.0  # 2026-01-31T12:00:00Z


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.load_or_create(Path(tmp_path_factory.mktemp("keys")) / "keys.json")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", NOW - 90),
        ("2h", NOW - 7200),
        ("1.5d", NOW - 129_600),
        ("1769860800", NOW),
        ("2026-01-31T12:00", NOW),
        ("2026-01-31T13:00+01:00", NOW),
        ("2026-01-31", NOW - 43_200),
    ],
)
def test_instants(text: str, seconds: float) -> None:
    assert parse_instant(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "h", "-2h", "inf", "nan", "20260", "99999999999999", "9999999w", "0001-01-01"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|outside the"):
        parse_instant(text, NOW)


def test_instants_are_shown_in_utc() -> None:
    assert iso(int(NOW * 1e6) + 123_456) == "2026-01-31T12:00:00.123Z"


def test_a_users_hash_is_sixteen_digits_whatever_its_sign() -> None:
    assert user_text(-1) == "f" * 16
    assert user_text(1) == "0" * 15 + "1"
    assert user_text(None) is None


def test_every_filter_has_a_meaning(ring: KeyRing) -> None:
    texts = {
        "since": "1h", "until": "2026-01-31", "user": "ann", "conversation": "chat 7",
        "arm": "challenger", "model": "m", "experiment": "3",
        "status": "5xx", "outcome": "client-disconnect", "kind": "chat", "min_quality": "0.5", "max_quality": "1",
        "feedback": "any", "tag": "x-plan=free", "text": "cpu", "method": "POST", "config_id": "2",
    }  # fmt: skip
    assert texts.keys() == set(FILTERS)
    assert parse_filter(texts, ring, {"m": 7}, NOW) == RecordFilter(
        since_us=int((NOW - 3600) * 1e6), until_us=int((NOW - 43_200) * 1e6), user_hash=ring.user_hash(b"ann"),
        conversation=ring.user_hash(b"chat 7"), arm=Arm.CHALLENGER,
        model_id=7, experiment_id=3, status=5, outcome=Outcome.CLIENT_DISCONNECT, kind="chat",
        min_quality=0.5, max_quality=1.0, voted=True, tag=("x-plan", "free"), text="cpu",
        equal={"method": "POST", "config_id": 2},
    )  # fmt: skip


@given(name=st.sampled_from(FILTERS), text=st.text(max_size=25) | st.from_regex(r"[0-9.eE+\-]{1,25}[smhdw]?"))
def test_any_text_is_a_filter_or_refused_by_name(ring: KeyRing, name: str, text: str) -> None:
    try:
        criteria = parse_filter({name: text}, ring, {"m": 1}, NOW)
    except ValueError as exc:
        assert str(exc).startswith(f"{name}: ")  # noqa: PT017 – there is nothing else that may be raised
    else:
        instants = (criteria.since_us or 0, criteria.until_us or 0, criteria.experiment_id or 0, criteria.status or 0)
        assert all(abs(value) < 2**63 for value in instants)


REWRITE = {"system": {"replace": "Be brief."}}


@pytest.mark.parametrize(
    ("flags", "rewrite", "shown"),
    [
        (RecordFlag.REWRITTEN, REWRITE, True),
        (RecordFlag.NONE, REWRITE, False),
        (RecordFlag.REWRITTEN | RecordFlag.TRUNCATED_REQUEST, REWRITE, False),
        (RecordFlag.REWRITTEN, None, False),
        (RecordFlag.REWRITTEN, {"parameters": {"x": None}}, False),
    ],
)
async def test_a_record_shows_what_the_model_was_asked(
    tmp_path: Path, flags: RecordFlag, rewrite: Any, shown: bool
) -> None:
    install = Install(tmp_path)
    record = install.record()
    record.flags = flags
    record.body.request = b'{"messages":[{"role":"user","content":"Hi"}]}'
    await install.fill([record])
    store = await install.open_store()
    try:
        view = await store.records.get(record.id)
        model = await store.models.add("new", rewrite=rewrite)
    finally:
        await store.close()
    assert view is not None
    exchange = record_document(view, install.ids, model)["exchange"]
    assert exchange["request"] == '{"messages":[{"role":"user","content":"Hi"}]}'
    asked = '{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}'
    assert exchange["rewritten"] == (asked if shown else None)
    assert record_document(view, install.ids)["exchange"]["rewritten"] is None
