"""Values as a person reads them."""

import random
from dataclasses import fields
from typing import Any

import jinja2
import pytest
from markupsafe import Markup

from policies.experiment import ABTestConfig, evaluate
from policies.glossary import TERMS
from policies.records import Arm, Outcome
from proxy.store.tables.values import RecordFlag, RecordRow, RecordView
from proxy.web.console.page import page_safe
from proxy.web.console.wording import FILTERS, no_sample_words
from tests.harness.arms import arm_stats, facts
from tests.harness.exchanges import exchange


@pytest.mark.parametrize(
    ("earliest", "latest", "said"),
    [
        (16.6, 31.7, "in 16.6 to 31.7 hours"),
        (5 / 3600, 7 / 3600, "in 5 to 7 seconds"),
        (0.5, 2.0, "in 30 minutes to 2.0 hours"),
        (1 / 60, 0.2, "in 1 minute to 12 minutes"),
        (3.0, 3.0, "in 3.0 hours"),
        (3.0, None, "in 3.0 hours or later"),
    ],
)
def test_a_stretch_of_time_names_its_unit_once(earliest: float, latest: float | None, said: str) -> None:
    assert FILTERS["until"](earliest, latest) == said


def test_a_guardrail_is_called_by_what_it_looks_at_and_one_of_another_version_by_its_name() -> None:
    assert [FILTERS["guardrail"](name) for name in ("latency", "positive", "tokens")] == [
        "slow answers",
        "thumbs up",
        "tokens",
    ]


def test_a_guardrail_of_a_rate_changes_by_points_and_any_other_by_parts() -> None:
    change = FILTERS["guardrail_change"]
    assert change(0.02, "errors") == change(0.02, "latency") == "+2.0 points"
    assert change(-0.02, "quality") == "−2.0 %"
    assert change(0.02, "tokens") == "+2.0 %"
    assert change(None, "errors") == "–"


def test_what_is_unknown_is_a_dash() -> None:
    for name in ("share", "change", "seconds", "duration", "bytes", "when", "count", "score"):
        assert FILTERS[name](None) == "–", name


def test_nothing_is_called_fair_before_there_are_users() -> None:
    env = jinja2.Environment(loader=jinja2.PackageLoader("proxy.web.console"), autoescape=True)
    env.filters |= FILTERS
    split: Any = env.get_template("macros.html", globals={"unknown": "–", "terms": TERMS}).module
    for users, said in ((0, "No users yet"), (5, "No proof that they differ (n = 10 users)")):
        assessment = evaluate(
            facts(arm_stats(Arm.CHAMPION, users), arm_stats(Arm.CHALLENGER, users)), ABTestConfig(), 0.0
        )
        shown = str(split.split(assessment))
        assert said in shown
        assert "✓" not in shown, "a test that found nothing has shown nothing"
        assert "– of the" not in shown


def test_every_outcome_is_a_sentence() -> None:
    said = {FILTERS["outcome"](outcome.label) for outcome in Outcome}
    assert len(said) == len(Outcome)
    assert all(text.endswith(".") for text in said)


def view(**changes: Any) -> RecordView:
    """A record as it was stored, with these facts."""
    record = exchange(1_700_000_000_000_000, random.Random(1))
    body = changes.pop("body", record.body)
    names = {field.name for field in fields(RecordRow)}
    taken = {name: getattr(record, name) for name in names if hasattr(record, name)}
    row = RecordRow(**taken | {"created_us": 0, "model_name": None, "feedback": None, "judged": None} | changes)
    return RecordView(row=row, body=body, votes=(), scores={})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flags": RecordFlag.SAMPLE}, None),
        ({"flags": RecordFlag.NO_TRAIN}, "the request opted out"),
        ({"flags": RecordFlag.UNREAD}, "could not be read"),
        ({"outcome": Outcome.UPSTREAM_ERROR, "flags": RecordFlag.UNREAD}, "no complete answer"),
        ({"outcome": Outcome.REFUSED, "status": 404}, "no complete answer"),
        ({"status": 302}, "no complete answer"),
        ({"kind": "rerank"}, "Rerank"),
        ({"kind": "task"}, "a chat UI’s own request"),
        ({"kind": "a later version's"}, "no question and answer"),
        ({"body": None}, "deleted"),
        ({}, "no question and answer"),
    ],
)
def test_a_record_says_why_it_is_no_sample(changes: dict[str, Any], reason: str | None) -> None:
    said = no_sample_words(view(**changes))
    assert said == reason if reason is None else reason in (said or "")


def test_a_users_text_turns_no_line_of_a_page_around() -> None:
    assert page_safe("pay \u202eevil\u2066 now") == "pay \\u202eevil\\u2066 now"
    hebrew = "\u05e9\u05dc\u05d5\u05dd\u200f, \u200eok"
    assert page_safe(hebrew) == hebrew, "the marks that such a text needs stay"
    assert page_safe(Markup("<b>\u202e</b>")) == Markup("<b>\u202e</b>"), "what a template made was looked at before"
    assert page_safe(3) == 3


def test_a_guardrail_that_nothing_measures_has_passed_nothing() -> None:
    shown = FILTERS["guardrail_state"]
    few = "6.3 % against 0 %, +6.3 points; 9.8 of 30 effective users"
    assert shown({"state": "pass", "estimate": None, "reason": "no data in either arm yet"}) == "not_measured"
    assert shown({"state": "pass", "estimate": 0.06, "reason": few}) == "no_proof"
    assert shown({"state": "pass", "estimate": 0.01, "reason": "within the limit of 2.0 %"}) == "pass"
    assert shown({"state": "block", "estimate": None, "reason": few}) == "block"


def test_bounds_are_of_what_is_possible() -> None:
    assert FILTERS["guardrail_change"](-1.7, "errors") == "−100.0 points"
    assert FILTERS["guardrail_change"](1.7, "errors") == "+100.0 points"
    assert FILTERS["guardrail_change"](-1.7, "quality") == "−100.0 %"
    assert FILTERS["guardrail_change"](1.7, "quality") == "+170.0 %"
    assert FILTERS["bound"](-2.0) == "−100.0 %"


def test_an_arm_without_requests_is_said_alone_of_a_kept_assessment_too() -> None:
    assert FILTERS["nothing_yet"]({"champion_requests": 3, "challenger_requests": 4}) is None
    kept = {"champion_requests": 3, "challenger_requests": 0}
    assert "no request yet" in FILTERS["nothing_yet"](kept)
    env = jinja2.Environment(loader=jinja2.PackageLoader("proxy.web.console"), autoescape=True)
    env.filters |= FILTERS
    macros: Any = env.get_template("macros.html", globals={"unknown": "–", "terms": TERMS}).module
    shown = str(macros.assessment(kept))
    assert shown.count("<p") == 1
    assert "<d" not in shown
