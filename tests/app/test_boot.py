"""The first route table comes from the configuration; later ones are the loop's, but for the champion's address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.app.boot import publish_first_routes
from proxy.app.paths import DataDir
from proxy.app.sharing import first_keys
from proxy.config.model import Config
from proxy.config.serving import ChampionConfig
from proxy.routes import RouteTable, Target, read_routes, write_routes


def config(**champion: str) -> Config:
    return Config(champion=ChampionConfig(**({"url": "http://one"} | champion)))


def test_a_new_install_sends_everything_to_the_configured_champion(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    table = publish_first_routes(path, config(api_key="secret"))
    assert table == read_routes(path)
    assert table.champion == Target(model_id=0, name="champion", url="http://one", credential="champion")
    assert b"secret" not in path.read_bytes()


def test_a_table_that_fits_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    publish_first_routes(path, config())
    before = path.stat().st_mtime_ns
    assert publish_first_routes(path, config()).version == 1
    assert path.stat().st_mtime_ns == before


def test_a_new_address_of_the_same_champion_is_followed_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    challenger = Target(model_id=8, name="tuned", url="http://two")
    champion = Target(model_id=7, name="champion", url="http://one")
    table = RouteTable(version=5, champion=champion, challenger=challenger, share=0.1, salt="ab", experiment_id=3)
    write_routes(path, table)
    moved = publish_first_routes(path, config(url="http://elsewhere"))
    assert moved == replace(table, version=6, champion=replace(champion, url="http://elsewhere"))


def test_a_promoted_champion_is_not_overruled_by_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    table = RouteTable(version=9, champion=Target(model_id=8, name="tuned", url="http://two"))
    write_routes(path, table)
    assert publish_first_routes(path, config()) == table == read_routes(path)


def test_a_damaged_table_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    path.write_text('{"version": 3')
    assert publish_first_routes(path, config()).champion.url == "http://one"
    assert read_routes(path).version == 1


def test_keys_that_are_lost_are_not_replaced_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = DataDir(tmp_path)
    first_keys(config(), data)
    publish_first_routes(data.routes, config())
    first_keys(config(), data)
    assert not caplog.records
    data.keys.unlink()
    first_keys(config(), data)
    assert f"{data.keys} was missing" in caplog.text
    assert data.keys.exists()


def test_a_data_directory_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^server\.data_dir: .*file/data cannot be created"):
        DataDir(tmp_path / "file" / "data").create()
