"""The settings in force: where each comes from, and no secret."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from proxy.config import load_config
from proxy.config.load import origins_of
from proxy.config.model import Config
from proxy.config.parse import keys
from proxy.web.console.settings import settings
from tests.harness.axe import barriers, unfold
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import request


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("settings"), hours=0)) as admin:
        yield admin


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-very-secret\n")
    file = tmp_path / "config.toml"
    file.write_text(
        f'[champion]\nurl = "http://127.0.0.1:8000"\napi_key_file = "{tmp_path}/key"\n'
        '[store]\nurl = "postgresql://me:pass@db/ratchet"\n[server]\nport = 9000\nworkers = 2\n'
    )
    environ = {"RATCHET_SERVER__PORT": "9001", "RATCHET_ADMIN__TOKEN": "a-long-secret-token"}
    given = {"server.workers": 3, "server.host": None}
    config, origins = load_config(file, given, environ), origins_of(file, given, environ)
    found = {one.path: one for one in settings(config, origins)}
    assert len(found) == len(list(keys(Config)))
    assert (found["server.port"].value, found["server.port"].default) == ("9001", "8080")
    assert found["server.port"].origin == "RATCHET_SERVER__PORT"
    assert found["server.workers"].origin == "command line"
    assert found["server.host"].origin is None
    assert found["champion.url"].origin == str(file)
    assert found["champion.api_key"].origin == "champion.api_key_file"
    assert found["champion.api_key_file"].origin == str(file)
    shown = repr(list(found.values()))
    for secret in ("sk-very-secret", "a-long-secret-token", "me:pass"):
        assert secret not in shown


def test_the_page_has_all_of_them_and_is_linked(admin: Admin) -> None:
    body = request(admin.url, "/settings").body.decode()
    for key in keys(Config):
        assert f"<code>{key.name}</code>" in body, key.path
    assert "champion.url" in body.partition("All settings")[0]
    assert 'href="/settings"' in request(admin.url, "/").body.decode()


@pytest.mark.slow
def test_it_is_readable(admin: Admin, browser: Browser) -> None:
    with watched_page(browser, color_scheme="dark", width=390) as page:
        page.goto(f"{admin.url}/settings")
        unfold(page)
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
