"""Where settings come from, which source wins, and what the quick start's own file gives."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Config, LoopConfig, fingerprint, load_config, parse_as, parse_config, public_document
from proxy.config.load import load_document
from proxy.errors import ConfigError

QUICK_START = """{
  "check_interval_seconds": 3600,
  "trigger_config": {"min_new_samples": 1000, "schedule_interval_hours": 168},
  "generator_config": {"min_quality_score": 0.7, "min_user_feedback": 1},
  "ab_test_config": {"initial_challenger_traffic": 0.1, "promotion_threshold": 0.05}
}"""


def test_nothing_given_is_the_defaults() -> None:
    assert load_config() == Config()


def test_the_quick_starts_config_json_works_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(QUICK_START)
    config = load_config(file)
    assert config.generator_config.min_user_feedback == 1
    assert config.ab_test_config.initial_challenger_traffic == 0.1
    assert config.check_interval_seconds == 3600.0


def test_the_library_reads_the_same_tables() -> None:
    settings = parse_as(LoopConfig, json.loads(QUICK_START) | {"db_path": "usage.db"})
    assert settings.db_path == "usage.db"
    assert settings.trigger_config.min_new_samples == 1000


def test_toml_and_json_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[server]\nport = 9000\n[sticky]\nheaders = ["x-tenant"]\n')
    (tmp_path / "a.json").write_text('{"server": {"port": 9000}, "sticky": {"headers": ["x-tenant"]}}')
    assert load_config(tmp_path / "a.toml") == load_config(tmp_path / "a.json")


def test_a_byte_order_mark_of_an_editor_is_no_part_of_settings_or_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\r\n", encoding="utf-8-sig")
    for name, text in (("a.toml", "[server]\nport = 9000\n"), ("a.json", '{"server": {"port": 9000}}')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        config = load_config(tmp_path / name, environ={"RATCHET_ADMIN__TOKEN_FILE": str(tmp_path / "token")})
        assert (config.server.port, config.admin.token) == (9000, "abc")


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[server]\nport = 1\nworkers = 1\nhost = "::1"\n')
    config = load_config(
        file,
        {"server.port": 3, "server.workers": None},
        {"RATCHET_SERVER__PORT": "2", "RATCHET_SERVER__WORKERS": "2"},
    )
    assert (config.server.port, config.server.workers, config.server.host) == (3, 2, "::1")


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("RATCHET_CHECK_INTERVAL_SECONDS", "60", "check_interval_seconds", 60.0),
        ("RATCHET_ENABLE_AB_TESTING", "off", "enable_ab_testing", False),
        ("RATCHET_STICKY__HEADERS", "x-a, x-b", "sticky.headers", ("x-a", "x-b")),
        ("RATCHET_STICKY__HEADERS", '["x-a"]', "sticky.headers", ("x-a",)),
        ("RATCHET_GATEWAY__FALLBACK_STATUSES", "404, 422", "gateway.fallback_statuses", (404, 422)),
        ("RATCHET_GATEWAY__FALLBACK_STATUSES", "[]", "gateway.fallback_statuses", ()),
        ("RATCHET_TRAINER__OPTIONS", '{"gpu": "1"}', "trainer.options", {"gpu": "1"}),
        ("RATCHET_GENERATOR_CONFIG__MIN_QUALITY_SCORE", "none", "generator_config.min_quality_score", None),
        ("RATCHET_STORE__RETENTION__BODIES_DAYS", "7", "store.retention.bodies_days", 7.0),
        ("RATCHET_CHAMPION__NAME", "1e3", "champion.name", "1e3"),
    ],
)
def test_environment_text_takes_the_type_of_its_key(name: str, text: str, path: str, value: object) -> None:
    config: object = load_config(environ={name: text})
    for part in path.split("."):
        config = getattr(config, part)
    assert config == value


def test_other_ratchet_variables_are_left_alone_but_misspelt_settings_are_not() -> None:
    assert load_config(environ={"RATCHET_FULL": "1"}) == Config()
    with pytest.raises(ConfigError, match=r"RATCHET_SEVER__PORT.*did you mean RATCHET_SERVER__PORT\?"):
        load_config(environ={"RATCHET_SEVER__PORT": "1"})


def test_a_bad_environment_value_names_its_variable() -> None:
    with pytest.raises(ConfigError, match=r"server\.port: .*\(from RATCHET_SERVER__PORT\)"):
        load_config(environ={"RATCHET_SERVER__PORT": "http"})


def test_secrets_come_from_files_without_their_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    config = load_config(environ={"RATCHET_ADMIN__TOKEN_FILE": str(tmp_path / "token")})
    assert config.admin.token == "s3cret"
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("content", "also", "message"),
    [
        (None, {}, r"admin\.token_file: .*cannot be read"),
        ("", {}, r"admin\.token_file: .*is empty"),
        ("x", {"RATCHET_ADMIN__TOKEN": "y"}, r"admin\.token_file: is set, and so is admin\.token"),
    ],
)
def test_a_secret_file_that_can_not_be_used_is_named(
    tmp_path: Path, content: str | None, also: dict[str, str], message: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(environ={"RATCHET_ADMIN__TOKEN_FILE": str(file), **also})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "server.port = ", "not valid TOML"),
        ("c.json", "{", "not valid JSON"),
        ("c.json", '{"server": {"port": 1, "port": 2}}', "'port' appears twice"),
        ("c.json", "[1]", "holds a list"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load_config(tmp_path / "nowhere.toml")


def test_the_fingerprint_follows_settings_but_does_not_reveal_secrets() -> None:
    base = parse_config({"admin": {"token": "one"}})
    assert fingerprint(base) == fingerprint(parse_config({"admin": {"token": "two"}}))
    assert fingerprint(base) != fingerprint(parse_config({}))
    assert fingerprint(base) != fingerprint(replace(base, check_interval_seconds=1.0))
    assert public_document(base)["admin"]["token"] == "***"


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({"trainer": {"kind": "command", "command": ["train", "--api-key", "S3CRET", "--out", "x"]}}, '"--out", "x"'),
        ({"trainer": {"kind": "command", "command": ["env", "HF_TOKEN=S3CRET", "train"]}}, '"HF_TOKEN=***"'),
        ({"trainer": {"kind": "command", "command": ["sh", "-c", "train --token S3CRET -n 3"]}}, "-n 3"),
        ({"deployer": {"kind": "command", "command": ["serve", "--api-key=S3CRET"]}}, '"--api-key=***"'),
        ({"deployer": {"options": {"api_key": "S3CRET", "probe": "true"}}}, '"probe": "true"'),
        ({"trainer": {"options": {"runtime_env": '{"env_vars": {"HF_TOKEN": "S3CRET", "N": "1"}}'}}}, "env_vars"),
        ({"store": {"archive": {"url": "s3://AK:S3CRET@bucket/x"}}}, "s3://***@bucket/x"),
        ({"store": {"archive": {"url": "s3://bucket/x?secret=S3CRET&region=eu"}}}, "secret=***&region=eu"),
        ({"judge": {"options": {"authorization": "Bearer S3CRET", "max_tokens": "500"}}}, '"max_tokens": "500"'),
    ],
)
def test_a_secret_that_stands_in_another_setting_is_masked_where_it_stands(table: dict[str, Any], shown: str) -> None:
    text = json.dumps(public_document(parse_config(table)))
    assert "S3CRET" not in text
    assert shown in text


@pytest.mark.parametrize(
    "table",
    [
        {"trainer": {"kind": "http", "url": "https://host/x?token=S3CRET"}},
        {"judge": {"kind": "openai", "url": "http://host/v1?api_key=S3CRET", "model": "x"}},
        {"trainer": {"kind": "ray", "options": {"runtime_env": {"HF_TOKEN": "S3CRET"}}}},
        {"trainer": {"kind": "command", "command": "train --api-key S3CRET"}},
    ],
)
def test_a_refusal_tells_no_secret_of_what_it_refuses(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(table)
    assert "S3CRET" not in str(refused.value)


def test_words_that_only_look_like_secrets_are_shown() -> None:
    command = ["train", "--max-tokens", "512", "--tokenizer", "gpt2", "--token", "--verbose", "--key-file", "/run/key"]
    shown = public_document(parse_config({"trainer": {"kind": "command", "command": command}}))
    assert list(shown["trainer"]["command"]) == command


def test_the_public_document_can_be_read_back() -> None:
    config = parse_config({"server": {"port": 9000}, "generator_config": {"min_quality_score": None}})
    assert parse_config(json.loads(json.dumps(public_document(config)))) == config


def test_a_configuration_travels_to_another_process() -> None:
    config = parse_config({"admin": {"token": "one"}})
    assert pickle.loads(pickle.dumps(config)) == config


OLD, NEW = "max_challenger_share", "max_own_share"


def of_data(table: dict[str, float], **environ: str) -> float:
    variables = {f"RATCHET_GENERATOR_CONFIG__{name}": text for name, text in environ.items()}
    return load_document({"generator_config": dict(table)}, {}, variables).generator_config.max_own_share


def test_a_setting_is_read_under_the_name_that_it_had(tmp_path: Path) -> None:
    assert of_data({OLD: 0.2}) == of_data({NEW: 0.2}) == of_data({}, MAX_CHALLENGER_SHARE="0.2") == 0.2
    assert of_data({OLD: 0.2}, MAX_OWN_SHARE="0.3") == of_data({NEW: 0.2}, MAX_CHALLENGER_SHARE="0.3") == 0.3
    assert parse_as(LoopConfig, {"generator_config": {OLD: 0.2}}).generator_config.max_own_share == 0.2
    for name, text in (("a.toml", "[generator_config]\nmax_challenger_share = 0.2\n"),
                       ("a.json", '{"generator_config": {"max_challenger_share": 0.2}}')):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert load_config(tmp_path / name).generator_config.max_own_share == 0.2
    assert load_config(None, {f"generator_config.{OLD}": 0.4}).generator_config.max_own_share == 0.4


@pytest.mark.parametrize(
    ("table", "environ", "says"),
    [
        ({OLD: 0.2, NEW: 0.2}, {}, "max_challenger_share: is now called max_own_share, and both are given"),
        (
            {},
            {"MAX_CHALLENGER_SHARE": "0.2", "MAX_OWN_SHARE": "0.2"},
            "is the same setting as RATCHET_GENERATOR_CONFIG__",
        ),
        ({OLD: 2.0}, {}, "generator_config.max_own_share: 2 is too large"),
    ],
)
def test_both_names_at_once_are_a_mistake(table: dict[str, float], environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        of_data(table, **environ)
