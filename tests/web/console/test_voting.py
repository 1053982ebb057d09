"""Votes, corrections and tags that a person gives on a record's page, and takes back."""

import dataclasses
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, Route, expect

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.app.own_votes import OwnVotes
from proxy.ids import RecordIds
from proxy.store.store import Store
from proxy.store.tables.schema import models
from proxy.store.tables.values import VoteView
from proxy.web.console.said import Said, before_the_last, given_tags, said_by, votes_for
from tests.harness.axe import barriers, unfold
from tests.harness.chromium import open_window, watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import Answer, request

FORM = {"content-type": "application/x-www-form-urlencoded", "x-ratchet-csrf": "1"}
RECORD = "0" * 32


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("voting"), hours=2)) as admin:
        yield admin


def give(admin: Admin, record: str, **fields: str) -> Answer:
    admin.stage.clock.advance(1)
    body = urlencode({"who": "ann", **fields}).encode()
    return request(admin.url, f"/records/{record}/votes", method="POST", body=body, headers=FORM)


def became(admin: Admin, record: str, kept: Answer) -> str:
    """What the page says of a vote once it is stored."""
    admin.ingest()
    seen = re.search(r"votes\?seen=([0-9a-f]{32})", kept.body.decode())
    assert seen is not None
    return request(admin.url, f"/records/{record}/votes?seen={seen[1]}").body.decode()


def unvoted(admin: Admin) -> str:
    """A record that nobody has voted on, and another at each call."""
    rows = request(admin.url, "/api/records?feedback=none&outcome=ok&limit=200").json()["records"]
    return str(next(row["id"] for row in rows if not votes_of(admin, row["id"])))


def votes_of(admin: Admin, record: str) -> list[dict[str, Any]]:
    return list(request(admin.url, f"/api/records/{record}").json()["votes"])


def record_of(admin: Admin, record: str) -> dict[str, Any]:
    return dict(request(admin.url, f"/api/records/{record}").json())


def test_a_vote_counts_once_it_is_stored_and_says_so_until_then(admin: Admin) -> None:
    record = unvoted(admin)
    answer = give(admin, record, act="up")
    assert answer.status == 200
    assert b"It counts as soon as the store has it" in answer.body
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert record_of(admin, record)["feedback"] is None
    seen = re.search(rb"votes\?seen=([0-9a-f]{32})", answer.body)
    assert seen is not None
    there = f"/records/{record}/votes?seen={seen[1].decode()}"
    assert b'data-command="pending"' in request(admin.url, there).body
    admin.stage.clock.advance(60)
    assert "not counted for 60 s: the store is behind" in request(admin.url, there).body.decode()
    admin.ingest()
    shown = request(admin.url, there).body
    assert b"pending" not in shown
    assert b"Counted." in shown
    vote = votes_of(admin, record)[-1]
    assert (vote["source"], vote["feedback"], vote["counts"], vote["token"]) == ("console:ann", 1, True, True)
    assert record_of(admin, record)["feedback"] == 1


def test_on_what_was_no_answer_no_thumb_is_offered_in_the_list_and_none_is_said_to_count(admin: Admin) -> None:
    rows = request(admin.url, "/api/records?outcome=upstream_error").json()["records"]
    record = rows[0]["id"]
    listed = request(admin.url, "/records?outcome=upstream_error").body.decode()
    assert f"/records/{record}/votes?row" in listed
    assert f'id="up-{record}"' not in listed
    assert f'id="up-{unvoted(admin)}"' in request(admin.url, "/records?feedback=none&outcome=ok").body.decode()
    assert b"thumbs and corrections do not count" in request(admin.url, f"/records/{record}").body
    for fields, said in (
        ({"act": "up"}, "Stored. It does not count: the client got no answer here."),
        ({"act": "say", "correction": "Aisle 3."}, "Stored. It does not count: the client got no answer here."),
        ({"act": "say", "comment": "The key was wrong."}, ">Stored.<"),
        ({"act": "tag", "tag": "key"}, ">Stored.<"),
    ):
        kept = give(admin, record, **fields)
        assert b"It is shown as soon as" in kept.body
        assert said in became(admin, record, kept)
    assert not any(vote["counts"] for vote in votes_of(admin, record))
    assert f'id="undo-{record}"' in request(
        admin.url, "/records?outcome=upstream_error", headers={"cookie": "ratchet_who=ann"}
    ).body.decode()  # fmt: skip


def test_only_what_a_number_has_is_said_to_count(admin: Admin) -> None:
    record = unvoted(admin)
    for fields, said in (
        ({"act": "say", "comment": "Too long."}, ">Stored.<"),
        ({"act": "tag", "tag": "topic=length"}, ">Stored.<"),
        ({"act": "down"}, "Counted."),
        ({"act": "say", "correction": "Aisle 3."}, "Counted."),
        ({"act": "undo"}, "Counted."),
    ):
        assert said in became(admin, record, give(admin, record, **fields))


def test_undo_takes_a_vote_back_and_restores_what_was_said_before(admin: Admin) -> None:
    record = unvoted(admin)
    for act, mean in (("up", 1), ("down", -1), ("undo", 1), ("undo", -1)):
        assert give(admin, record, act=act).status == 200
        admin.ingest()
        assert record_of(admin, record)["feedback"] == mean
    fresh = unvoted(admin)
    give(admin, fresh, act="down")
    admin.ingest()
    give(admin, fresh, act="undo")
    admin.ingest()
    assert record_of(admin, fresh)["feedback"] is None
    assert [vote["retracted"] for vote in votes_of(admin, fresh)] == [False, True]


def test_undo_takes_back_the_latest_vote_though_it_is_on_its_way_and_from_another_tab(admin: Admin) -> None:
    record = unvoted(admin)
    give(admin, record, act="up")
    admin.ingest()
    give(admin, record, act="down")
    other = request(admin.url, f"/records/{record}", headers={"cookie": "ratchet_who=ann"}).body.decode()
    assert 'id="vote-down" name="act" value="down" aria-pressed="true"' in other, "another tab knows of it"
    assert "Kept. It counts as soon as" in other
    assert give(admin, record, act="undo").status == 200
    assert record_of(admin, record)["feedback"] == 1, "neither is stored"
    admin.ingest()
    assert record_of(admin, record)["feedback"] == 1
    assert give(admin, record, act="undo").status == 200, "undo can be undone"
    admin.ingest()
    assert record_of(admin, record)["feedback"] == -1
    give(admin, record, act="up", who="bob")
    assert b"so nothing can be undone" in give(admin, record, act="undo", who="cleo").body


def test_what_another_process_wrote_and_the_store_has_not_got_bars_an_undo(admin: Admin) -> None:
    record = unvoted(admin)
    give(admin, record, act="up")
    admin.ingest()
    early = give(admin, record, act="undo", pending="f" * 32)
    assert early.status == 422
    assert "on its way still" in early.body.decode()


def test_two_votes_at_once_are_taken_one_after_the_other(admin: Admin) -> None:
    record = unvoted(admin)
    give(admin, record, act="up")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: give(admin, record, act="undo").status, range(4)))
    admin.ingest()
    assert answers == [200] * 4
    assert record_of(admin, record)["feedback"] == 1, "each undo has undone the one before it"


def test_a_comment_is_undone_as_a_vote_is_and_goes_with_one_that_is_taken_back(admin: Admin) -> None:
    record = unvoted(admin)

    def comments() -> list[str]:
        return [vote["comment"] for vote in votes_of(admin, record) if vote["comment"]]

    for act, words, thumb, left in (
        ("up", "", 1, []),
        ("say", "Hm.", 1, ["Hm."]),
        ("undo", "", 1, []),
        ("say", "On the whole.", 1, ["On the whole."]),
        ("say", "All in all.", 1, ["All in all."]),
        ("down", "", -1, []),
        ("say", "No.", -1, ["No."]),
        ("undo", "", -1, []),
    ):
        assert give(admin, record, act=act, comment=words).status == 200
        admin.ingest()
        assert (record_of(admin, record)["feedback"], comments()) == (thumb, left), (act, words)
    fresh = unvoted(admin)
    give(admin, fresh, act="say", comment="Hm.")
    admin.ingest()
    headers = {"cookie": "ratchet_who=ann"}
    assert b"Undo my last" in request(admin.url, f"/records/{fresh}", headers=headers).body
    give(admin, fresh, act="undo")
    admin.ingest()
    assert b"Hm." not in request(admin.url, f"/records/{fresh}").body
    assert give(admin, fresh, act="undo").status == 422, "nothing is left to undo"


def test_a_correction_is_kept_under_another_thumb_and_goes_with_its_undo(admin: Admin) -> None:
    record = unvoted(admin)
    give(admin, record, act="down")
    admin.ingest()
    give(admin, record, act="say", correction="The part is called B-7.", comment="checked in the list")
    admin.ingest()
    vote = votes_of(admin, record)[-1]
    assert (vote["correction"], vote["comment"]) == ("The part is called B-7.", "checked in the list")
    give(admin, record, act="undo")
    admin.ingest()
    assert record_of(admin, record)["feedback"] == -1, "the thumb stays"
    assert [v["correction"] for v in votes_of(admin, record) if v["counts"]] == [None]


def test_a_tag_is_found_and_can_be_taken_away(admin: Admin) -> None:
    record = unvoted(admin)
    for tag in ("topic=returns", "odd"):
        assert give(admin, record, act="tag", tag=tag).status == 200
        admin.ingest()

    def found(tag: str) -> list[str]:
        return [row["id"] for row in request(admin.url, f"/api/records?tag={tag}").json()["records"]]

    assert found("topic=returns") == found("tag=odd") == [record]
    shown = request(admin.url, f"/records/{record}").body.decode()
    assert "tag topic=returns" in shown
    assert "does not count" not in shown, "a tag is no vote"
    assert give(admin, record, untag="topic").status == 200
    admin.ingest()
    assert "tag topic taken away" in request(admin.url, f"/records/{record}").body.decode()
    assert found("topic=returns") == []
    assert found("tag=odd") == [record]
    give(admin, record, act="tag", tag="topic=parts", who="bob")
    admin.ingest()
    assert found("topic=parts") == [record]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"act": "say"}, "Write what the answer should have been, or a comment."),
        ({"act": "tag", "tag": "a="}, "Write a tag as name=value or as one word"),
        ({"act": "tag", "tag": "x" * 201}, "at most 200 characters"),
        ({"act": "undo", "who": "nobody"}, "so nothing can be undone"),
        ({"untag": "none"}, "That would change nothing."),
        ({"act": "say", "comment": "x" * 10_001}, "The comment has 10,001 characters; the limit is 10,000."),
        ({}, "Vote, say what it should have been"),
    ],
)
def test_what_means_nothing_is_refused_with_a_sentence(admin: Admin, fields: dict[str, str], sentence: str) -> None:
    answer = give(admin, unvoted(admin), **fields)
    assert answer.status == 422
    assert sentence in answer.body.decode()
    assert answer.headers["hx-retarget"] == "#vote-answer"


def test_a_name_that_is_redacted_is_refused_for_it_would_be_several_peoples(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stage = ConsoleStage(tmp_path_factory.mktemp("redacted"), hours=1)
    redaction = replace(stage.config.capture.redaction, patterns=(r"[a-z]+@[a-z.]+",))
    config = replace(stage.config, capture=replace(stage.config.capture, redaction=redaction))
    stage.votes = OwnVotes(config, stage.root / "spool", RecordIds(stage.world.keys), stage.clock)
    with Admin(stage) as admin:
        record = unvoted(admin)
        refused = give(admin, record, act="up", who="ann@example.com")
        assert refused.status == 422
        assert b"capture.redaction covers this name" in refused.body
        assert give(admin, record, act="up", who="ann").status == 200
        admin.ingest()
        assert [vote["source"] for vote in votes_of(admin, record)] == ["console:ann"]


def test_a_vote_that_was_not_kept_says_so_where_it_was_given(admin: Admin) -> None:
    record = unvoted(admin)
    admin.stage.failing = True
    try:
        answer = give(admin, record, act="up")
    finally:
        admin.stage.failing = False
    assert answer.status == 503
    assert answer.headers["hx-retarget"] == "#vote-answer"
    assert b"Not kept: the store cannot be reached" in answer.body


@pytest.mark.slow
def test_a_controller_that_does_not_answer_is_told_beside_the_buttons(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    page = browser.new_page()
    try:
        page.goto(f"{admin.url}/records/{record}")
        page.context.set_offline(True)
        page.locator("#vote-up").click()
        expect(page.locator("#vote-answer")).to_contain_text("No answer came")
        page.context.set_offline(False)
        page.goto(f"{admin.url}/records")
        row = page.locator(".rowvote").first
        admin.stage.failing = True
        row.get_by_role("button", name="Bad").click()
        expect(row.locator(".said")).to_contain_text("Not kept: the store cannot be reached")
        page.context.set_offline(True)
        row.get_by_role("button", name="Bad").click()
        expect(row.locator(".said")).to_contain_text("No answer came")
    finally:
        admin.stage.failing = False
        page.close()


def test_nobody_elses_page_can_vote_and_no_markup_gets_through(admin: Admin) -> None:
    record = unvoted(admin)
    body = urlencode({"act": "up", "who": "mallory"}).encode()
    for headers in (
        {"content-type": FORM["content-type"]},
        FORM | {"sec-fetch-site": "cross-site"},
        FORM | {"host": "rebound.example"},
    ):
        assert request(admin.url, f"/records/{record}/votes", method="POST", body=body, headers=headers).status == 403
    give(admin, record, act="say", comment="<script>alert(1)</script>", who="<b>x</b>")
    give(admin, record, act="tag", tag="<i>=<u>")
    admin.ingest()
    assert [vote["source"] for vote in votes_of(admin, record)] == ["console:<b>x</b>", "console:ann"]
    shown = request(admin.url, f"/records/{record}").body
    for markup in (b"<script>alert", b"<b>x", b"<u>"):
        assert markup not in shown
    assert give(admin, "f" * 32, act="up").status == 404
    assert request(admin.url, f"/records/{record}/votes?seen=x").status == 404


@pytest.mark.slow
def test_in_a_browser_the_numbers_follow_by_themselves(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    with watched_page(browser, width=390) as page:
        page.goto(f"{admin.url}/records/{record}")
        page.get_by_label("Who you are").and_(page.locator(".vote input")).fill("eve")
        give_here(admin, page, "Good")
        expect(page.locator("#vote-answer")).to_have_text("Counted. The numbers above have it.")
        expect(page.locator("#fact-votes")).to_have_text("+1")
        expect(page.locator("#vote-up")).to_have_attribute("aria-pressed", "true")
        give_here(admin, page, "Undo my last")
        expect(page.locator("#fact-votes")).to_have_text("–")
        expect(page.locator("#vote-up")).to_have_attribute("aria-pressed", "false")
        page.get_by_text("Correct it, or comment").click()
        page.get_by_label("It should have been").fill("Use B-7.")
        give_here(admin, page, "Keep it")
        expect(page.locator("#record-votes")).to_contain_text("Should have been: Use B-7.")
        page.get_by_text("Tag it").click()
        page.get_by_label("Tag name=value").fill("topic=parts")
        give_here(admin, page, "Tag")
        expect(page.locator("#record-votes")).to_contain_text("topic=parts console:eve")
        page.reload()
        expect(page.locator(".vote input[name=who]")).to_have_value("eve")
        unfold(page)
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_a_button_that_is_pressed_the_moment_it_is_there_leaves_no_page(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    with watched_page(browser) as page:
        page.goto(f"{admin.url}/records?feedback=none&outcome=ok")
        page.evaluate(
            """id => document.addEventListener("htmx:afterSwap", () => document.getElementById(`undo-${id}`).click(),
                                               { once: true })""",
            record,
        )
        admin.stage.clock.advance(1)
        with page.expect_response(lambda answer: "act=undo" in (answer.request.post_data or "")):
            page.locator(f"#down-{record}").click()
        expect(page.locator(f"#down-{record}")).to_have_attribute("aria-pressed", "false")
        assert page.url.endswith("/records?feedback=none&outcome=ok")
    admin.ingest()
    assert [vote["retracted"] for vote in votes_of(admin, record)] == [False, True]


@pytest.mark.slow
def test_who_looks_what_became_of_a_vote_gives_up_none(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    held: list[Route] = []
    failed: list[str] = []
    with watched_page(browser) as page:
        page.goto(f"{admin.url}/records?feedback=none&outcome=ok")
        page.locator(f"#up-{record}").click()
        expect(page.locator("[data-command=pending]")).to_have_count(1)
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.route(re.compile(r"/votes\?row$"), lambda route: held.append(route))
        page.evaluate("""() => {
            const seen = document.body.dataset;
            document.body.addEventListener("quick", () => { seen.looks = Number(seen.looks ?? 0) + 1; });
        }""")
        admin.stage.clock.advance(1)
        page.locator(f"#down-{record}").click()
        expect(page.locator("body")).to_have_attribute("data-looks", re.compile("[2-9]"))
        held[0].continue_()
        expect(page.locator(f"#down-{record}")).to_have_attribute("aria-pressed", "true")
        assert not any(url.endswith("?row") for url in failed)
    admin.ingest()
    assert record_of(admin, record)["feedback"] == -1


def test_of_two_thumbs_pressed_at_once_the_second_stands(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    with open_window(browser) as window:  # not watched: htmx logs the request that was given up
        page = window.page
        page.goto(f"{admin.url}/records?feedback=none&outcome=ok")
        admin.stage.clock.advance(1)
        press = "id => { for (const act of ['up', 'down']) document.getElementById(`${act}-${id}`).click(); }"
        page.evaluate(press, record)
        expect(page.locator(f"#down-{record}")).to_have_attribute("aria-pressed", "true")
    admin.ingest()
    assert votes_of(admin, record)[-1]["feedback"] == -1


def test_long_words_without_a_space_stay_on_a_phone(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    give(admin, record, act="say", comment="c" * 300, who="w" * 90)
    give(admin, record, act="tag", tag="t" * 150, who="w" * 90)
    admin.ingest()

    async def rename(store: Store) -> None:
        async with store._db.write() as connection:
            await connection.execute(sa.update(models).values(name=models.c.name + "-" + "m" * 150))

    admin.do(rename)
    with watched_page(browser, width=390) as page:
        for path in ("/", "/records", f"/records/{record}", "/traffic", "/experiment", "/runs"):
            page.goto(f"{admin.url}{path}")
            unfold(page)
            assert page.evaluate("document.documentElement.scrollWidth") == 390, path


@pytest.mark.slow
def test_the_enter_key_in_a_field_does_what_the_field_is_for_and_never_votes(admin: Admin, browser: Browser) -> None:
    record = unvoted(admin)
    with watched_page(browser) as page:
        page.goto(f"{admin.url}/records/{record}")
        who = page.locator("#vote-who")
        who.fill("kim")
        who.press("Enter")
        page.get_by_text("Tag it").click()
        page.get_by_label("Tag name=value").fill("topic=keys")
        admin.stage.clock.advance(1)
        page.keyboard.press("Enter")
        expect(page.locator("#record-votes")).to_contain_text("Kept. It counts as soon as")
        admin.ingest()
        expect(page.locator("#record-votes")).to_contain_text("topic=keys console:kim")
    votes = votes_of(admin, record)
    assert [(vote["source"], vote["feedback"], vote["tags"]) for vote in votes] == [
        ("console:kim", None, {"topic": "keys"})
    ]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_vote_in_the_list_leaves_the_list_and_its_filter_alone(admin: Admin, browser: Browser, width: int) -> None:
    with watched_page(browser, width=width) as page:
        page.goto(f"{admin.url}/records?feedback=none&outcome=ok")
        expect(page.locator(".thumbs").first).to_be_visible()
        record = str(page.locator("#live tbody a").first.get_attribute("href")).rpartition("/")[2]
        assert barriers(page) == []
        page.locator("#vote-who").fill("lee")
        row = page.locator(".rowvote").first
        row.get_by_role("button", name="Good").click()
        expect(row.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
        expect(row.get_by_role("button", name="Good")).to_be_focused()
        expect(page.locator("#announce")).to_have_text("Kept.")
        admin.stage.clock.advance(1)
        page.keyboard.press("-")
        expect(row.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
        admin.ingest()
        expect(row.locator(".mean")).to_have_text("−1")
        expect(page.locator("#announce")).to_have_text("Counted.")
        admin.stage.clock.advance(1)
        page.keyboard.press("u")
        expect(row.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
        admin.ingest()
        expect(row.locator(".mean")).to_have_text("+1")
        row.get_by_role("button", name="Good").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(row.get_by_role("button", name="Undo my last")).to_be_focused()
        assert page.url.endswith("/records?feedback=none&outcome=ok")
        expect(page.locator("#live tbody tr")).to_have_count(50)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.evaluate("scrollTo(0, 0)")  # the head of the page covers what is scrolled under it
        assert barriers(page) == []
    assert [v["feedback"] for v in votes_of(admin, record) if v["source"] == "console:lee"] == [1, -1, 1]
    shown = request(admin.url, "/records?outcome=ok", headers={"cookie": "ratchet_who=lee"}).body.decode()
    assert f'id="up-{record}" name="act" value="up" aria-label="Good" aria-pressed="true"' in shown


def give_here(admin: Admin, page: Page, name: str) -> None:
    """Press a button of the form; the vote that comes of it is stored once the page says that it is kept."""
    admin.stage.clock.advance(1)
    page.locator(".vote").get_by_role("button", name=name, exact=True).click()
    expect(page.locator("#record-votes")).to_contain_text("Kept. It counts as soon as")
    admin.ingest()
    expect(page.locator("#record-votes")).not_to_contain_text("Kept.")


# What a history of votes means: pure


def vote(number: int, **fields: Any) -> VoteView:
    values = {field.name: None for field in dataclasses.fields(VoteView)} | {
        "fid": f"{number:032x}",
        "source": "console:ann",
        "retracted": False,
        "tags": {},
        "created_us": number,
        "effective": True,
        "trust": FULL_TRUST,
        "whole": False,
        "copied": False,
    }
    return VoteView(**values | fields)


def test_only_ones_own_votes_are_ones_own() -> None:
    votes = [vote(1, feedback=1), vote(2, source="app", feedback=-1), vote(3, feedback=-1, trust=BallotTrust.THUMB)]
    assert said_by(votes, "console:ann") == Said(thumb=1)
    assert before_the_last(votes, "console:bob") is None
    assert before_the_last(votes, "console:ann") == Said()
    assert (
        given_tags([vote(1, tags={"a": "1"}), vote(2, tags={"a": ""}), vote(3, source="x", tags={"a": "2"})])[0].source
        == "x"
    )


SAID = st.builds(
    Said,
    thumb=st.sampled_from([None, 1, 0, -1]),
    correction=st.sampled_from([None, "a", "b"]),
    tags=st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["", "1", "2"]), max_size=3),
)


@given(states=st.lists(SAID, min_size=1, max_size=6))
def test_whatever_was_said_votes_lead_to_what_is_wanted_and_undo_leads_back(states: list[Said]) -> None:
    history: list[VoteView] = []

    def now() -> Said:
        return said_by(history, "console:ann")

    def say(wanted: Said) -> bool:
        given_now = votes_for(RECORD, "console:ann", now(), wanted)
        at = len(history) + 1
        for one in given_now:
            says = dict(one.says)
            retracted = "feedback" in says and says["feedback"] is None
            history.append(vote(len(history) + 1, **says, tags=one.tags, retracted=retracted, created_us=at))
        return bool(given_now)

    def same(one: Said, other: Said) -> bool:
        tags = [{name: value for name, value in said.tags.items() if value} for said in (one, other)]
        return (one.thumb, one.correction, tags[0]) == (other.thumb, other.correction, tags[1])

    for wanted in states:
        before = now()
        changed = say(wanted)
        assert same(now(), wanted)
        if changed:
            back = before_the_last(history, "console:ann")
            assert back is not None
            assert same(back, before)
            say(back)
            assert same(now(), before)
            say(wanted)
