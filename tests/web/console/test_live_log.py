"""The log of a run while it trains: it grows on the page, and ends with the run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect

from proxy.store.store import Store
from proxy.store.tables.schema import runs
from proxy.web.console.runs import log_from
from tests.harness.axe import barriers
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import request

RUN = "run-1"
AT_END = """() => {
  const log = document.querySelector("[data-log] pre");
  return log.scrollTop + log.clientHeight + 1 >= log.scrollHeight;
}"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / RUN).mkdir()
    return tmp_path / RUN / "train.log"


def test_a_log_is_read_on_where_the_last_look_ended(tmp_path: Path, log: Path) -> None:
    assert log_from(tmp_path, RUN, 0) is None
    log.write_bytes(b"one\ntwo\nthr")
    first = log_from(tmp_path, RUN, 0, whole=False)
    assert first == {"text": "one\ntwo\n", "next": 8, "gap": False}
    assert log_from(tmp_path, RUN, 8, whole=False) == {"text": "", "next": 8, "gap": False}
    assert log_from(tmp_path, RUN, 8) == {"text": "thr", "next": 11, "gap": False}
    log.write_bytes(b"anew\n")
    assert log_from(tmp_path, RUN, 11, whole=False) == {"text": "anew\n", "next": 5, "gap": False}


def test_a_part_of_it_is_bounded_and_says_that_it_is_a_part(tmp_path: Path, log: Path) -> None:
    log.write_bytes(b"".join(b"line %06d\n" % n for n in range(20_000)))
    found = log_from(tmp_path, RUN, 0, whole=False)
    assert found is not None
    assert found["gap"]
    assert len(found["text"]) <= 32_768
    assert found["text"].startswith("line ")
    assert found["text"].endswith("line 019999\n")
    assert found["next"] == log.stat().st_size
    log.write_bytes(b"x" * 100_000)
    found = log_from(tmp_path, RUN, 0, whole=False)
    assert found is not None
    assert found["text"], "a line without an end is shown, too"


def test_no_path_leads_out_of_the_runs_folder(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("secret")
    for name in ("..", ".", "../x", "a/b", ""):
        assert log_from(tmp_path, name, 0) is None


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("training"), hours=12)) as admin:
        yield admin


def ends(admin: Admin, run: str, at_us: int | None) -> None:
    """Say when the run has ended; None: it is under way."""

    async def change(store: Store) -> None:
        async with store._db.write() as connection:
            await connection.execute(sa.update(runs).where(runs.c.id == run).values(ended_us=at_us))

    admin.do(change)


@pytest.mark.slow
def test_the_page_follows_a_log_until_the_run_ends(admin: Admin, browser: Browser) -> None:
    run = admin.do(lambda store: store.runs.list(1))[0]
    file = admin.stage.root / "training" / run.id / "train.log"
    ends(admin, run.id, None)
    with watched_page(browser, width=390) as page:
        page.goto(f"{admin.url}/runs/{run.id}")
        shown = page.locator(f"#log-of-{run.id} pre")
        expect(shown).to_contain_text("step  390")
        with file.open("a") as out:
            out.write("step  400  loss 0.2714\n")
        expect(shown).to_contain_text("step  400")
        assert shown.inner_text().count("step  390") == 1
        page.wait_for_function(AT_END)
        with file.open("a") as out:
            out.write("user\u202etxt.exe\n")
        expect(shown).to_contain_text("user\\u202etxt.exe")
        page.get_by_label("Follow it").uncheck()
        page.evaluate("e => { e.scrollTop = 0; }", shown.element_handle())
        with file.open("a") as out:
            out.write("step  410  loss 0.2701\n")
        expect(shown).to_contain_text("step  410")
        page.wait_for_function("() => document.querySelector('[data-log] pre').scrollTop === 0")
        assert barriers(page) == []
        file.write_text("another try\n")
        expect(shown).to_have_text("… the log has begun anew\nanother try")
        ends(admin, run.id, run.ended_us)
        expect(page.locator("[data-log-state]")).to_have_text("The run has ended: this is all of it.")
    answer = request(admin.url, f"/runs/{run.id}/log?from=0").json()
    assert (answer["there"], answer["ended"]) == (True, True)
    assert request(admin.url, "/runs/none/log").status == 404
    assert request(admin.url, f"/runs/{run.id}/log?from=-1").status == 400
    os.rename(file, f"{file}.gone")
    assert request(admin.url, f"/runs/{run.id}/log").json()["there"] is False
