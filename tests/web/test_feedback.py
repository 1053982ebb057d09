"""POST /-/feedback over a real socket, into a real spool."""

import contextlib
import errno
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson
import pytest
from starlette.applications import Starlette

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.clock import ManualClock
from proxy.config import Config, FeedbackConfig, parse_config
from proxy.config.serving import SpoolConfig
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters, read_counters
from proxy.spool import SpoolWriter
from proxy.spool.frames import KIND_FEEDBACK, iter_frames
from proxy.web.ballot_box import Redact
from proxy.web.public import FEEDBACK_COUNTERS, create_public_app
from tests.harness.webserver import serving


@dataclass
class Side:
    """The side app of one worker, and what it left behind."""

    directory: Path
    config: Config = field(default_factory=Config)
    spool_bytes: int = 1 << 20
    clock: ManualClock = field(default_factory=ManualClock)
    redact: Redact | None = None
    fsync: Literal["interval", "always"] = "interval"

    def __post_init__(self) -> None:
        self.ring = KeyRing.load_or_create(self.directory / "keys.json")
        self.ids = RecordIds(self.ring)

    def app(self) -> tuple[Starlette, Callable[[], Awaitable[None]]]:
        """The app, and what closes its files."""
        limits = SpoolConfig(max_bytes=self.spool_bytes, segment_bytes=self.spool_bytes, fsync=self.fsync)
        spool = SpoolWriter(self.directory / "spool", limits)
        counters = SharedCounters(self.directory / "worker.stats", FEEDBACK_COUNTERS)
        app = create_public_app(
            self.config, spool, self.ids, counters, self.clock, redact=self.redact, ambiguous=self.ambiguous
        )

        async def close() -> None:
            spool.close()
            counters.close()

        return app, close

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        app, close = self.app()
        try:
            async with serving(app) as url, aiohttp.ClientSession(url) as client:
                yield client
        finally:
            await close()

    async def ambiguous(self, aliases: Sequence[str]) -> frozenset[str]:
        return frozenset(aliases) & {"request-shared"}

    def record_id(self, age_days: float = 0.0) -> str:
        return RecordIds(self.ring).mint(self.clock.now() - age_days * 86_400).text

    def votes(self) -> list[dict[str, Any]]:
        found = []
        for segment in sorted((self.directory / "spool").rglob("*.seg")):
            for frame, _ in iter_frames(segment.read_bytes()):
                assert frame.kind == KIND_FEEDBACK
                found += frame.meta["votes"]
        return found

    def count(self, name: str) -> float:
        return read_counters(self.directory / "worker.stats")[name]


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


async def post(client: aiohttp.ClientSession, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/-/feedback", json=body, headers=named) as response:
        return response.status, await response.json()


async def test_a_vote_is_in_the_spool_before_it_is_accepted(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    async with side.running() as client:
        status, answer = await post(client, {"record_id": minted.text, "feedback": 1, "source": "user-42"})
        [vote] = side.votes()
    assert (status, answer) == (202, {"accepted": 1, "feedback_id": vote["fid"]})
    assert vote == {
        "fid": vote["fid"], "id": minted.hex, "alias": None, "feedback": 1, "source": "user-42",
        "tr": BallotTrust.THUMB,
    }  # fmt: skip
    assert side.count("feedback_votes_total") == 1


async def test_a_retraction_says_null_and_a_comment_says_nothing_about_the_thumb(side: Side) -> None:
    async with side.running() as client:
        await post(client, {"record_id": side.record_id(), "feedback": None})
        await post(client, {"record_id": side.record_id(), "comment": "slow", "tags": {"page": "7"}})
    retraction, comment = side.votes()
    assert retraction["feedback"] is None
    assert "feedback" not in comment
    assert comment["tags"] == {"page": "7"}


async def test_a_list_is_one_frame_with_growing_ids(side: Side) -> None:
    body = [{"record_id": side.record_id(), "feedback": 1} for _ in range(1000)]
    async with side.running() as client:
        status, answer = await post(client, body)
    assert (status, answer["accepted"], len(set(answer["feedback_ids"]))) == (202, 1000, 1000)
    assert [vote["fid"] for vote in side.votes()] == sorted(answer["feedback_ids"])


async def test_a_beacons_text_plain_is_read_as_json(side: Side) -> None:
    body = orjson.dumps({"record_id": side.record_id(), "feedback": -1})
    async with (
        side.running() as client,
        client.post("/-/feedback", data=body, headers={"content-type": "text/plain;charset=UTF-8"}) as response,
    ):
        assert response.status == 202
    assert side.votes()[0]["feedback"] == -1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1"])
async def test_no_json_is_a_400(side: Side, body: bytes) -> None:
    async with side.running() as client, client.post("/-/feedback", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["field"] == "body"


@pytest.mark.parametrize(
    ("spelled", "comment"),
    [
        (b'\xef\xbb\xbf{"record_id":"%b","feedback":1,"comment":"so good"}', "so good"),
        (b'{"record_id":"%b","feedback":1,"comment":"so good \\ud83d"}', "so good \ufffd"),
        (b'{"record_id":"%b","feedback":1,"comment":"\\ud83d\\ude42"}', "\U0001f642"),
        (b'{"record_id":"%b","feedback":1,"comment":"\xed\xa0\xbd"}', "\ufffd"),
        (b'{"record_id":"%b","feedback":1,"comment":"caf\xe9"}', "caf\xe9"),
        (b'{"record_id":"%b","feedback":1.0,"comment":"two\nlines\tof it"}', "two\nlines\tof it"),
    ],
)
@pytest.mark.parametrize("encoding", [None, "utf-16", "utf-16-le"])
async def test_a_vote_is_never_lost_for_the_spelling_of_its_comment(
    side: Side, spelled: bytes, comment: str, encoding: str | None
) -> None:
    body = spelled % side.record_id().encode()
    if encoding is not None:
        try:
            body = body.decode("utf-8-sig").encode(encoding)
        except UnicodeDecodeError:
            pytest.skip("these bytes are no text that could be written otherwise")
    async with side.running() as client, client.post("/-/feedback", data=body) as response:
        assert response.status == 202
    (vote,) = side.votes()
    assert (vote["feedback"], vote["comment"]) == (1, comment)


async def test_a_charset_in_the_content_type_is_honoured(side: Side) -> None:
    body = f'{{"record_id":"{side.record_id()}","feedback":-1,"comment":"\u0436"}}'.encode("cp1251")
    headers = {"content-type": "text/plain; charset=windows-1251"}
    async with side.running() as client, client.post("/-/feedback", data=body, headers=headers) as response:
        assert response.status == 202
    assert side.votes()[0]["comment"] == "\u0436"


async def test_one_bad_vote_refuses_the_list_and_names_the_field(side: Side) -> None:
    body = [{"record_id": side.record_id(), "feedback": 1}, {"record_id": side.record_id(), "feedback": 5}]
    async with side.running() as client:
        status, answer = await post(client, body)
    assert (status, answer["error"]["field"]) == (400, "[1].feedback")
    assert side.votes() == []
    assert side.count('feedback_refused_total{reason="bad"}') == 1


async def test_forged_and_foreign_ids_are_refused(side: Side, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    foreign = Side(tmp_path / "other").record_id()
    genuine = side.record_id()
    forged = genuine[:-1] + ("0" if genuine[-1] != "0" else "1")
    async with side.running() as client:
        for name in (foreign, forged, "chatcmpl-123"):
            status, answer = await post(client, {"record_id": name, "feedback": 1})
            assert (status, answer["error"]["field"]) == (403, "record_id")
    assert side.votes() == []
    assert side.count('feedback_refused_total{reason="forged"}') == 3


async def test_a_providers_id_needs_the_token(tmp_path: Path) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(token="s3cret")))
    body = {"record_id": "chatcmpl-123", "feedback": 1}
    async with side.running() as client:
        status, answer = await post(client, body)
        assert (status, "feedback.token" in answer["error"]["message"]) == (403, True)
        assert (await post(client, body, authorization="Bearer wrong"))[0] == 403
        assert (await post(client, body, authorization="Bearer s3cret"))[0] == 202
    [vote] = side.votes()
    assert (vote["id"], vote["alias"]) == (None, "chatcmpl-123")


WHOLE = {"feedback": -1, "comment": "no", "correction": "Rome", "quality_score": 0.1}


@pytest.mark.parametrize(
    ("anonymous", "trust", "idle"),
    [
        (("thumb",), BallotTrust.THUMB, ["correction", "quality_score"]),
        (("thumb", "score", "correction"), BallotTrust.THUMB | BallotTrust.SCORE | BallotTrust.CORRECTION, []),
        (("correction",), BallotTrust.CORRECTION, ["feedback", "quality_score"]),
        ((), BallotTrust.NONE, ["correction", "feedback", "quality_score"]),
    ],
)
@pytest.mark.parametrize("token", [None, "s3cret"])
async def test_what_counts_without_the_token_is_a_setting_and_the_rest_is_kept(
    tmp_path: Path, anonymous: tuple[Any, ...], trust: BallotTrust, idle: list[str], token: str | None
) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(anonymous=anonymous, token=token)))
    body = {"record_id": side.record_id(), **WHOLE}
    async with side.running() as client:
        status, answer = await post(client, body, authorization="Bearer wrong")
        batch = await post(client, [body, {**body, "feedback": None}])
    first, second, third = side.votes()
    assert status == 202
    assert sorted(answer.get("not_counted", [])) == idle
    assert ("why" in answer) == bool(idle)
    assert "".join(batch[1].get("not_counted", [])).count("[1].") == len([name for name in idle if name != "feedback"])
    assert {name: first[name] for name in WHOLE} == WHOLE
    assert [vote["tr"] for vote in (first, second, third)] == [trust] * 3


async def test_a_name_of_several_people_gets_no_vote(tmp_path: Path) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(token="s3cret")))
    shared, other = ({"record_id": f"request-{name}", "feedback": 1} for name in ("shared", "7"))
    async with side.running() as client:
        for body, field in ((shared, "record_id"), ([other, shared], "[1].record_id")):
            status, answer = await post(client, body, authorization="Bearer s3cret")
            assert (status, answer["error"]["field"]) == (409, field)
        assert (await post(client, shared))[0] == 403, "who has no token is told nothing of names"
        assert (await post(client, other, authorization="Bearer s3cret"))[0] == 202
    assert [vote["alias"] for vote in side.votes()] == ["request-7"]
    assert side.count('feedback_refused_total{reason="ambiguous"}') == 2


async def test_the_token_is_believed_in_all(tmp_path: Path) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(anonymous=(), token="s3cret")))
    async with side.running() as client:
        status, answer = await post(client, {"record_id": side.record_id(), **WHOLE}, authorization="bearer s3cret")
    assert (status, "not_counted" in answer) == (202, False)
    assert side.votes()[0]["tr"] == FULL_TRUST


@pytest.mark.parametrize(
    ("anonymous", "says", "field"),
    [
        (("thumb",), {"quality_score": 1}, "quality_score"),
        (("thumb",), {"correction": "Rome"}, "correction"),
        ((), {"feedback": 1}, "feedback"),
        ((), {"rating": True}, "feedback"),
    ],
)
async def test_a_vote_of_which_nothing_would_count_is_refused_with_what_it_needs(
    tmp_path: Path, anonymous: tuple[Any, ...], says: dict[str, Any], field: str
) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(anonymous=anonymous, token="s3cret")))
    body = {"record_id": side.record_id(), **says}
    async with side.running() as client:
        status, answer = await post(client, body)
        assert (status, answer["error"]["field"]) == (403, field)
        assert "Authorization: Bearer <feedback.token>" in answer["error"]["message"]
        assert (await post(client, body, authorization="Bearer s3cret"))[0] == 202
        assert (await post(client, {"record_id": side.record_id(), "feedback": None}))[0] == 202, "taking back is free"


async def test_a_rotated_key_still_accepts_votes_for_older_records(side: Side, tmp_path: Path) -> None:
    older = side.record_id()
    KeyRing.load_or_create(tmp_path / "keys.json").rotate()
    async with Side(tmp_path).running() as client:
        assert (await post(client, {"record_id": older, "feedback": 1}))[0] == 202


async def test_a_vote_for_a_record_beyond_the_age_limit_is_gone(side: Side) -> None:
    async with side.running() as client:
        assert (await post(client, {"record_id": side.record_id(age_days=89.9), "feedback": 1}))[0] == 202
        status, answer = await post(client, {"record_id": side.record_id(age_days=90.1), "feedback": 1})
    assert (status, answer["error"]["code"]) == (410, "too_old")


async def test_too_many_votes_are_told_when_to_come_back(tmp_path: Path) -> None:
    config = Config(feedback=FeedbackConfig(rate_per_second=2, max_batch=2))
    side = Side(tmp_path, config=config)
    vote = {"record_id": side.record_id(), "feedback": 1}
    async with side.running() as client:
        assert (await post(client, [vote, vote], x_forwarded_for="10.0.0.1"))[0] == 202
        async with client.post("/-/feedback", json=vote, headers={"x-forwarded-for": "10.0.0.1"}) as response:
            assert (response.status, response.headers["retry-after"]) == (429, "1")
        assert (await post(client, vote, x_forwarded_for="10.0.0.2"))[0] == 202
        side.clock.advance(1.0)
        assert (await post(client, vote, x_forwarded_for="10.0.0.1"))[0] == 202


async def test_the_holder_of_the_token_is_not_held_back(tmp_path: Path) -> None:
    side = Side(tmp_path, config=Config(feedback=FeedbackConfig(rate_per_second=1, max_batch=1, token="t")))
    vote = {"record_id": side.record_id(), "feedback": 1}
    async with side.running() as client:
        answers = [await post(client, vote, authorization="Bearer t") for _ in range(5)]
    assert [status for status, _ in answers] == [202] * 5


async def test_a_full_spool_says_come_back_instead_of_losing_the_vote(tmp_path: Path) -> None:
    side = Side(tmp_path, spool_bytes=100)
    vote = {"record_id": side.record_id(), "feedback": 1}
    async with side.running() as client, client.post("/-/feedback", json=vote) as response:
        assert (response.status, "retry-after" in response.headers) == (503, True)
    assert side.count("feedback_votes_total") == 0


async def test_an_endless_body_is_cut_off(side: Side) -> None:
    async with side.running() as client, client.post("/-/feedback", data=io.BytesIO(b"[" * (5 << 20))) as response:
        assert response.status == 413


_MIB = 1 << 20
HOSTILE = {
    "longer than a stranger's votes are": (b'["' + b"a" * _MIB + b'"]', 413),
    "a crowd": (b"[" + b"[]," * (_MIB // 4) + b"1]", 413),
    "a crowd that only the tolerant read": (b"[NaN," + b"[]," * (_MIB // 4) + b"1]", 413),
    "long, and a bit broken": (b'["' + b"\xe4 " * 1000 + b"a" * (_MIB // 2) + b'"]', 400),
    "broken all over": (b'["' + b"\xe4 " * 30_000 + b'"]', 400),
}


@pytest.mark.parametrize(("body", "status"), HOSTILE.values(), ids=HOSTILE)
async def test_what_a_stranger_sends_is_soon_refused(side: Side, body: bytes, status: int) -> None:
    async with side.running() as client, client.post("/-/feedback", data=io.BytesIO(body)) as response:
        assert response.status == status


async def test_pages_of_a_configured_origin_may_vote(tmp_path: Path) -> None:
    config = parse_config({"feedback": {"cors_origins": ["https://chat.example.com"]}})
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with Side(tmp_path, config=config).running() as client:
        for origin, status in (("https://chat.example.com", 200), ("https://evil.example", 400)):
            async with client.options("/-/feedback", headers={"origin": origin, **preflight}) as response:
                assert response.status == status
                assert ("access-control-allow-origin" in response.headers) == (status == 200)


async def test_who_asks_from_elsewhere_gets_the_plain_health_but_for_the_token(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    config = parse_config({"admin": {"token": token}})
    bearer = {"authorization": f"Bearer {token}"}
    async with Side(tmp_path, config=config).running() as client:
        for headers, verbose in (
            ({}, True),
            ({"x-forwarded-for": "::1"}, True),
            ({"x-forwarded-for": "203.0.113.9"}, False),
            ({"x-forwarded-for": "203.0.113.9", **bearer}, True),
            ({"x-forwarded-for": "203.0.113.9", "authorization": "Bearer 0123456789abcdeg"}, False),
            ({"x-forwarded-for": "127.0.0.1", "x-ratchet-for-another": "1"}, False),
        ):
            async with client.get("/-/health?verbose=1", headers=headers) as response:
                assert ("version" in await response.json()) == verbose, headers


async def test_feedback_tokens_cannot_be_tried_one_after_another(tmp_path: Path) -> None:
    config = parse_config({"feedback": {"token": "0123456789abcdef"}})
    side = Side(tmp_path, config=config)
    vote = {"record_id": "chatcmpl-1", "feedback": 1}
    async with side.running() as client:
        statuses = []
        for number in range(30):
            wrong = {"authorization": f"Bearer guess-{number}"}
            async with client.post("/-/feedback", json=vote, headers=wrong) as response:
                statuses.append((response.status, response.headers.get("retry-after")))
        assert statuses == [(403, None)] * 10 + [(429, "1")] * 20
        async with client.post("/-/feedback", json=vote) as response:  # without a token nothing is tried
            assert response.status == 403
        elsewhere = {"authorization": "Bearer guess", "x-forwarded-for": "203.0.113.9"}
        async with client.post("/-/feedback", json=vote, headers=elsewhere) as response:
            assert response.status == 403
        async with client.post(
            "/-/feedback", json=vote, headers={"authorization": "Bearer 0123456789abcdef"}
        ) as response:
            assert response.status == 202
        signed = {"record_id": side.record_id(), "feedback": 1}
        async with client.post("/-/feedback", json=signed, headers={"authorization": "Bearer guess"}) as response:
            assert response.status == 202  # it needs no token, so none was tried


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e999", "NaN", "Infinity", "-Infinity", "9" * 400, "-1", "1.5"])
async def test_numbers_out_of_range_are_the_voters_mistake(side: Side, number: str) -> None:
    async with side.running() as client:
        for field in ("quality_score", "feedback", "record_id", "comment", "tags"):
            body = f'{{"record_id": "{side.record_id()}", "feedback": 1, "{field}": {number}}}'
            if field == "feedback" and number == "-1":
                continue
            async with client.post("/-/feedback", data=body) as response:
                assert 400 <= response.status < 500, (field, await response.text())


async def test_health_and_the_rest(side: Side) -> None:
    async with side.running() as client:
        async with client.get("/-/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with client.get("/-/health?verbose") as response:
            assert "version" in await response.json()
            assert response.headers["x-content-type-options"] == "nosniff"
        async with client.get("/-/nothing") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
        async with client.put("/-/feedback") as response:
            assert (response.status, {*response.headers["allow"].split(", ")}) == (405, {"GET", "HEAD", "POST"})


async def test_the_words_of_votes_are_cleaned_and_what_cannot_be_is_refused(side: Side) -> None:
    async def clean(texts: Sequence[str]) -> list[str] | None:
        return None if "hang" in texts else [text.replace("zoe", "[redacted]") for text in texts]

    side.redact = clean
    first = {"record_id": side.record_id(), "comment": "zoe!", "source": "zoe", "tags": {"zoe": "is zoe", "a": "b"}}
    async with side.running() as client:
        status, _ = await post(client, [first, {"record_id": side.record_id(), "feedback": 1}])
        assert status == 202
        status, answer = await post(client, {"record_id": side.record_id(), "feedback": 1, "correction": "hang"})
        assert (status, "cannot be redacted" in str(answer)) == (503, True)
        cleaned, plain = side.votes()
    assert (cleaned["comment"], cleaned["source"]) == ("[redacted]!", "[redacted]")
    assert cleaned["tags"] == {"[redacted]": "is [redacted]", "a": "b"}
    assert (plain["source"], "tags" in plain) == ("anonymous", False)


async def test_a_vote_that_could_not_be_synced_is_sent_again_and_counts_once(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the spool twice then, by the same source: the later one replaces the earlier one."""
    side.fsync = "always"
    real, failures = os.fdatasync, [1]

    def sync(descriptor: int) -> None:
        if failures and failures.pop():
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    vote = {"record_id": side.record_id(), "feedback": 1, "source": "user-42"}
    async with side.running() as client:
        async with client.post("/-/feedback", json=vote) as response:
            assert (response.status, response.headers["retry-after"]) == (503, "5")
        assert side.count("feedback_votes_total") == 0
        assert (await post(client, vote))[0] == 202
        assert side.count("feedback_votes_total") == 1
        first, again = side.votes()
        assert first["fid"] < again["fid"]
        assert {**first, "fid": again["fid"]} == again
