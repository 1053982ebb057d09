"""How numbers, times, words, charts and tables look to the reader, computed from the page in a real browser."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from policies import wording
from policies.glossary import TERMS
from tests.harness.axe import barriers, unfold
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin
from tests.harness.serve import request

pytestmark = pytest.mark.slow

MOST_BYTES = 200_000
"""Of a page with all that it loads."""
FORMATS: dict[str, Callable[[float], str]] = {
    "share": wording.percent,
    "change": wording.signed_percent,
    "seconds": wording.took,
    "score": wording.score,
}
AWKWARD = (0.0, 1.0, 1 / 33_000, 3e-6, 0.0034, 0.003, 0.0099999, 0.5, 0.9994, 1 - 1e-7, 0.0512)
LONG = (0.0, 1e-5, 0.0009996, 0.0853, 0.9996, 1.239, 99.97, 130.0, 12_600.0, 200_000.0)
SEES_PLOTS = """
let made;
Object.defineProperty(window, "uPlot", {configurable: true, get: () => made, set: (plot) => {
  window.plots = [];
  made = function (...all) { const one = new plot(...all); window.plots.push(one); return one; };
  Object.assign(made, plot);
}})"""
CUT = """[...document.querySelectorAll("main .scroll")]
.filter(box => box.scrollWidth > box.clientWidth + 1 && !box.closest("figure")).map(box => box.textContent)"""
NAMELESS = """[...document.querySelectorAll("main section td")]
.filter(cell => cell.textContent.trim() && cell.colSpan < 2 && !cell.dataset.label).map(cell => cell.outerHTML)"""
OF_EACH_ARM = re.compile(r"^[<\d].* % \(n = [\d,]+\) · in all .* % \(n = [\d,]+ requests\)$")


@pytest.fixture(scope="module")
def berlin(browser: Browser) -> Iterator[Page]:
    """A reader who is not in Greenwich, on a phone."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, timezone_id="Europe/Berlin")
    yield context.new_page()
    context.close()


def figure(x: list[float], values: list[float | None], unit: str, **more: Any) -> dict[str, Any]:
    """A chart of one arm, as the server sends it."""
    line = {"label": "champion", "role": "champion", "values": values, "n": [1234] * len(x), "of": "requests"}
    return {"x": x, "step": 0, "series": [line], "unit": unit, "axis": "made up", "lines": [], "summary": "S."} | more


def show(page: Page, admin: Admin, charts: dict[str, Any]) -> None:
    """The page Traffic, with these charts instead of its own; the others are empty."""
    names = ("requests", "errors", "refused", "latency", "tokens", "quality", "votes")
    nothing = figure([], [], "count", series=[])
    body = json.dumps({name: charts.get(name, nothing) for name in names})

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="application/json")

    page.route("**/traffic/data*", answer)
    try:
        page.goto(f"{admin.url}/traffic")
        for name in charts:
            expect(page.locator(f"#chart-{name} figcaption")).to_contain_text("S.")
    finally:
        page.unroute("**/traffic/data*")


def cells(page: Page, name: str, many: int) -> list[str]:
    """The values in a chart's table, oldest first."""
    page.locator(f"#chart-{name} summary").click()
    found = page.locator(f"#chart-{name} tbody tr td:nth-child(2)")
    expect(found).to_have_count(many)
    texts = found.all_inner_texts()
    return [text.partition(" (n")[0] for text in reversed(texts)]


def test_charts_write_numbers_as_sentences_do(admin: Admin, page: Page) -> None:
    values = {"errors": ("share", AWKWARD), "refused": ("change", AWKWARD), "latency": ("seconds", LONG),
              "quality": ("score", AWKWARD)}  # fmt: skip
    charts = {
        name: figure([1.7e9 + 600 * i for i in range(len(given))], list(given), unit)
        for name, (unit, given) in values.items()
    }
    show(page, admin, charts)
    for name, (unit, given) in values.items():
        assert cells(page, name, len(given)) == [FORMATS[unit](value) for value in given], unit
    expect(page.locator("#chart-errors .legend .value")).to_contain_text("5.1 % (n = 1,234) · in all ")


def test_a_single_instant_and_seconds_have_an_axis_of_minutes(admin: Admin, page: Page) -> None:
    few = {"errors": figure([1.7e9], [0.25], "share"), "latency": figure([1.7e9, 1.7e9 + 2], [0.5, 0.7], "seconds")}
    page.add_init_script(SEES_PLOTS)
    show(page, admin, few)
    plots = page.evaluate("plots.map(u => [u.scales.x.min, u.scales.x.max, u.scales.y.min, u.scales.y.max])")
    assert len(plots) == 2, "an empty chart draws nothing"
    for least, most, low, high in plots:
        assert most - least == 600
        assert low == 0
        assert high <= 1
    expect(page.locator("#chart-quality figcaption")).to_contain_text("Nothing to draw yet.")
    expect(page.locator("#chart-quality .plot")).to_be_hidden()


def test_the_band_of_the_gain_stays_within_what_is_possible(admin: Admin) -> None:
    lift = request(admin.url, "/experiment/1/data").json()["lift"]
    for line in lift["series"]:
        assert all(value is None or -1 <= value <= 10 for value in line["values"])
        assert len(line["n"]) == len(lift["x"])


def test_a_legend_tells_each_arm_without_colour_or_a_pointer(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/traffic?range=24h")
    rows = page.locator("#chart-errors .legend li")
    expect(rows).to_have_count(3)
    for row in rows.all():
        expect(row.locator(".value")).to_have_text(OF_EACH_ARM)
    lines = page.locator("#chart-errors .legend line").evaluate_all("all => all.map(line => line.outerHTML)")
    dashes = [re.findall('stroke-dasharray="([^"]*)"', line)[0] for line in lines]
    assert len(set(dashes)) == 3
    before = rows.first.inner_text()
    page.locator("#chart-errors .u-over").hover(position={"x": 20, "y": 20})
    expect(page.locator("#chart-errors .when")).to_have_text(re.compile("^at "))
    expect(rows.first).not_to_have_text(before, use_inner_text=True)
    page.mouse.move(0, 0)
    expect(rows.first).to_have_text(before, use_inner_text=True)
    expect(page.locator("#chart-requests .unit")).to_have_text("requests a minute")
    label = page.locator("#chart-errors .plot").get_attribute("aria-label") or ""
    assert "Latest: champion" in label


def test_times_are_the_readers_own_with_utc_beside(admin: Admin, berlin: Page) -> None:
    berlin.goto(f"{admin.url}/history")
    time = berlin.locator("table time").first
    expect(time).to_have_attribute("data-beside", re.compile(r"^(\d\d-\d\d )?\d\d:\d\d:\d\d UTC, .*(ago|in )"))
    utc = time.get_attribute("datetime") or ""
    shown = time.inner_text()
    hour = (int(utc[11:13]) + 1) % 24  # the story ends in winter
    assert shown[10:] == f" {hour:02}{utc[13:19]}"
    expect(berlin.locator("#zone")).to_contain_text("Europe/Berlin")
    bare = request(admin.url, "/history").body.decode()
    assert re.search(r'<time datetime="[^"]+Z">[\d-]{10} [\d:]{8} UTC</time>', bare), "without a script it is UTC"
    berlin.goto(f"{admin.url}/traffic?range=24h")
    expect(berlin.locator("#chart-errors .when")).to_have_text("times in Europe/Berlin")
    berlin.locator("#chart-errors summary").click()
    expect(berlin.locator("#chart-errors time").first).to_have_attribute("data-beside", re.compile("UTC$"))


def test_a_word_is_explained_by_key_and_by_touch(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment")
    asked = page.locator("main .what")
    words = {
        name.removeprefix("term-")
        for name in asked.evaluate_all("all => all.map(b => b.getAttribute('popovertarget'))")
    }
    known = {word.replace(" ", "-") for word in TERMS}
    assert {"e-value", "bounds", "epoch", "effective-users", "guardrail", "sample-ratio-mismatch", "stage", "gate",
            "shadow", "ramp", "watch-window", "quality"} <= words <= known  # fmt: skip
    assert len(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")) == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )
    note = page.locator("#term-e-value")
    expect(note).to_be_hidden()
    page.locator("#what-e-value-better").focus()
    page.keyboard.press("Enter")
    expect(note).to_contain_text(TERMS["e-value"].meaning)
    page.keyboard.press("Tab")
    expect(note.get_by_role("link")).to_be_focused()
    assert barriers(page) == []
    page.keyboard.press("Escape")
    expect(note).to_be_hidden()
    page.locator("#what-e-value-better").click()
    box, own = note.bounding_box(), page.locator("#what-e-value-better").bounding_box()
    assert box is not None
    assert own is not None
    assert abs(box["y"] - own["y"]) < 200, "it opens beside what was pressed"
    note.get_by_role("link").click()
    expect(page.locator("#e-value")).to_be_in_viewport()
    for word, term in TERMS.items():
        expect(page.locator("dl.words")).to_contain_text(term.meaning)
        expect(page.locator(f"#{word.replace(' ', '-')}")).to_have_count(1)


def test_on_a_phone_every_cell_says_what_it_is_and_nothing_is_cut_off(admin: Admin, berlin: Page) -> None:
    for path in ("/", "/experiment", "/experiment/1", "/traffic", "/records", "/checks", "/checks/1", "/runs",
                 "/judge", "/history"):  # fmt: skip
        berlin.goto(admin.url + path)
        berlin.wait_for_load_state()
        unfold(berlin)
        assert berlin.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert berlin.evaluate(CUT) == [], path
        assert berlin.evaluate(NAMELESS) == [], path
    berlin.goto(f"{admin.url}/experiment")
    state = "getComputedStyle(document.querySelector('#guards ~ .scroll td'), '::before').content"
    assert berlin.evaluate(state) == '"State "'


@pytest.mark.parametrize("width", [768, 1280])
def test_a_table_that_does_not_fit_its_card_becomes_a_list(admin: Admin, browser: Browser, width: int) -> None:
    with watched_page(browser, width=width) as page:
        page.goto(f"{admin.url}/checks")
        expect(page.locator("table.rows")).to_have_class(re.compile("stacked"))
        page.goto(f"{admin.url}/judge")
        page.wait_for_load_state()
        expect(page.locator("#standing ~ .scroll table")).not_to_have_class(re.compile("stacked"))


def test_a_page_with_all_that_it_loads_is_light(admin: Admin) -> None:
    for path in ("/", "/experiment", "/traffic", "/history", "/glossary", "/records"):
        html = request(admin.url, path).body
        assert not re.findall(rb'(?:href|src|action)="(?:https?:)?//', html), path
        assets = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', html.decode()))
        assert len(html) + sum(len(request(admin.url, name).body) for name in assets) <= MOST_BYTES, path
