"""What the dialog of an order says before it is given."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from policies.snapshot import ModelView
from proxy.status import PhaseStatus
from tests.harness.axe import barriers
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import request


@pytest.fixture(scope="module")
def testing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past until the middle of its first experiment."""
    with Admin(ConsoleStage(tmp_path_factory.mktemp("testing"), hours=13)) as admin:
        yield admin


def about(admin: Admin, verb: str) -> str:
    return " ".join(request(admin.url, f"/actions/about/{verb}").body.decode().split())


def test_a_promotion_names_both_models_what_speaks_for_it_and_what_will_happen(testing: Admin) -> None:
    status = request(testing.url, "/status").json()
    assert status["phase"]["name"] == "testing"
    shown, found = about(testing, "promote"), status["experiment"]["assessment"]
    assert f"<strong>{status['challenger']['name']}</strong> takes the place of" in shown
    assert f"<strong>{status['champion']['name']}</strong>." in shown
    assert f"{found['champion_requests']} champion, {found['challenger_requests']} challenger" in shown
    assert "Why it is not promoted by itself yet" in shown
    assert found["reasons"][-1].partition("'")[0] in shown
    assert f"who stay on {status['champion']['name']} to compare with" in shown
    assert "gets all users back if a guardrail breaks" in shown
    back = about(testing, "rollback")
    assert "gives its users back;" in back
    assert "becomes 0 at once" in back
    assert "not promoted by itself" not in back


def test_without_evidence_it_says_that_alone(testing: Admin) -> None:
    testing.stage.changed = {"experiment": None}
    try:
        assert "Not evaluated yet: nothing is known of the difference." in about(testing, "promote")
    finally:
        testing.stage.changed = {}


def test_a_return_after_the_promotion_names_the_old_champion(testing: Admin) -> None:
    phase = PhaseStatus(name="watching", reason="", since=0.0)
    testing.stage.changed = {"phase": phase, "previous": ModelView(id=1, name="the old one")}
    try:
        shown = about(testing, "rollback")
    finally:
        testing.stage.changed = {}
    assert "<strong>the old one</strong>, the old champion, takes the place of" in shown
    assert "All users get the old one at once" in shown


def test_where_models_are_no_matter_nothing_is_said(testing: Admin) -> None:
    for verb in ("pause", "trigger", "none"):
        assert request(testing.url, f"/actions/about/{verb}").status == 204
    testing.stage.changed = {"phase": PhaseStatus(name="idle", reason="")}
    try:
        assert request(testing.url, "/actions/about/promote").status == 204
    finally:
        testing.stage.changed = {}


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("dark", 390)])
def test_the_dialog_shows_it(testing: Admin, browser: Browser, scheme: str, width: int) -> None:
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        page.goto(f"{testing.url}/experiment")
        page.get_by_role("button", name="Promote").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("takes the place of")
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dialog.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Pause").click()
        expect(dialog).to_be_visible()
        expect(page.locator("#command-situation")).to_be_empty()
