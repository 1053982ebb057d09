"""check-config and the options of serve, without starting anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.app import app
from proxy.version import __version__, build


def ratchet(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200", **(env or {})})


def test_a_sound_file_passes_and_shows_what_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "ratchet.toml"
    file.write_text('[champion]\nurl = "http://127.0.0.1:8000"\napi_key = "hunter2"\n')
    result = ratchet("check-config", str(file), "--set", "server.workers=2")
    assert result.exit_code == 0
    assert all(text in result.output for text in ("champion.url", "http://127.0.0.1:8000", "server.workers"))
    assert "hunter2" not in result.output
    document = json.loads(ratchet("check-config", "--config", str(file), "--json").stdout)
    assert document["changed"] == {"champion.url": "http://127.0.0.1:8000", "champion.api_key": "***"}


def test_an_old_name_of_a_setting_is_told(tmp_path: Path) -> None:
    note = "generator_config.max_challenger_share is now called generator_config.max_own_share"
    file = tmp_path / "ratchet.toml"
    file.write_text("[generator_config]\nmax_challenger_share = 0.2\n")
    assert note in ratchet("check-config", str(file)).output
    assert note in ratchet("check-config", env={"RATCHET_GENERATOR_CONFIG__MAX_CHALLENGER_SHARE": "0.2"}).output
    file.write_text("[generator_config]\nmax_own_share = 0.2\n")
    assert "is now called" not in ratchet("check-config", str(file)).output


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RATCHET_SERVER_PORT", "RATCHET_SERVER__PORT"),
        ("RATCHET_STORE_RETENTION_MAX_AGE_HOURS", None),
        ("RATCHET_STORE_RETENTION_INTERVAL_SECONDS", "RATCHET_STORE__RETENTION__INTERVAL_SECONDS"),
        ("RATCHET_CHAMPION_UR", "RATCHET_CHAMPION__URL"),
        ("RATCHET_CHAMPOIN_URL", "RATCHET_CHAMPION__URL"),
        ("RATCHET_CHAMPION_KEY", "RATCHET_CHAMPION__API_KEY"),
        ("RATCHET_SERVER_WORKER", "RATCHET_SERVER__WORKERS"),
        ("RATCHET_CHECK_INTERVAL_SECOND", "RATCHET_CHECK_INTERVAL_SECONDS"),
        ("RATCHET_CHECK_INTERVAL_SECONDS", None),
        ("RATCHET_ADMIN_URL", None),
        ("RATCHET_CONFIG_DIR", None),
        ("RATCHET_PORT", None),
        ("RATCHET_SERVICE_HOST", None),
        ("RATCHET_SERVICE_PORT", None),
        ("RATCHET_SERVICE_PORT_ADMIN", None),
        ("RATCHET_ADMIN_PORT_8081_TCP_PORT", None),
    ],
)
def test_a_variable_that_lacks_an_underscore_or_a_letter_is_a_note(name: str, meant: str | None) -> None:
    result = ratchet("check-config", env={name: "9000"})
    assert result.exit_code == 0
    assert (f"variable {name} " in result.output) == (meant is not None)
    assert meant is None or f"did you mean {meant}?" in " ".join(result.output.split())


def test_addresses_of_services_and_variables_of_commands_are_not_taken_for_mistakes() -> None:
    """Kubernetes gives the port of a service ratchet-admin the name of a setting, but for an underscore."""
    result = ratchet("check-config", env={"RATCHET_ADMIN_PORT": "tcp://10.0.0.7:8081", "RATCHET_ADMIN_TOKEN": "t" * 16})
    assert "RATCHET_ADMIN_PORT" not in result.output
    said = " ".join(result.output.split())
    assert "RATCHET_ADMIN_TOKEN is read by commands alone, not by a server: its setting is RATCHET_ADMIN__TOKEN" in said


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = tmp_path / "some.pem"
    good.write_text("no certificate\n")
    for cert, key, named in ((tmp_path / "no.pem", good, "no.pem"), (good, tmp_path / "no.key", "no.key"),
                             (good, good, "some.pem"), (tmp_path, good, str(tmp_path))):  # fmt: skip
        result = ratchet("check-config", "--set", f"server.tls_cert_file={cert}", "--set", f"server.tls_key_file={key}")
        assert (result.exit_code, named in result.output) == (3, True), result.output


def test_every_mistake_is_printed_at_once_with_exit_code_3(tmp_path: Path) -> None:
    file = tmp_path / "ratchet.toml"
    file.write_text("[server]\nprt = 1\n[spool]\nfsync = 'no'\n")
    result = ratchet("check-config", str(file), "--set", "gateway.vai=true")
    assert result.exit_code == 3
    assert all(key in result.output for key in ("server.prt", "spool.fsync", "gateway.vai"))


def test_a_training_function_that_is_not_there_is_told_before_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_training.py").write_text(
        "raise SystemExit('only a training may run this')\ndef train_model(p): ...\n"
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "lora.py").write_text("from my_training import train_model as fit\n")
    (tmp_path / "open.py").write_text("from my_training import *\n")
    (tmp_path / "tools" / "deep").mkdir()
    (tmp_path / "tools" / "deep" / "lora.py").write_text("def fit(p): ...\n")

    def check(target: str) -> Result:
        return ratchet("check-config", "--set", "trainer.kind=callable", "--set", f"trainer.callable={target}")

    for target in ("my_training:train_model", "tools.lora:fit", "tools.deep.lora:fit", "open:anything", "json:dumps"):
        assert check(target).exit_code == 0, target
    wrong = check("my_training:train_modle")
    assert wrong.exit_code == 3
    assert "has no train_modle; did you mean train_model?" in wrong.output
    for target in ("my_trianing:train_model", "tools.nothing:fit", "tools.deep.nothing:fit", "nowhere.at.all:f"):
        assert "there is no module" in check(target).output, target


def test_a_command_that_is_not_there_is_told_before_it_is_due() -> None:
    for table in ("trainer", "deployer"):
        result = ratchet("check-config", "--set", f"{table}.kind=command", "--set", f"{table}.command=pyhton3,serve.py")
        assert result.exit_code == 3
        assert f'{table}.command: "pyhton3" is not a program that can be run' in result.output


def test_training_on_a_hosted_models_answers_is_a_note_until_its_terms_are_acknowledged() -> None:
    args = ("check-config", "--set", "champion.url=https://api.openai.com", "--set", "trainer.kind=callable",
            "--set", "trainer.callable=json:dumps")  # fmt: skip
    told = ratchet(*args)
    assert told.exit_code == 0
    assert told.output.count("terms may forbid") == 1
    assert "is valid" in told.output
    [note] = [note for note in json.loads(ratchet(*args, "--json").stdout)["notes"] if "terms" in note]
    assert "OpenAI" in note
    acknowledged = ratchet(*args, "--set", "champion.terms_acknowledged=true")
    assert (acknowledged.exit_code, "may forbid" in acknowledged.output) == (0, False)


def test_files_that_a_dataset_needs_and_that_are_not_there_are_notes(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    for path, said in ((there, 0), (tmp_path / "none", 2)):
        args = [f"generator_config.{name}={path}" for name in ("tokenizer", "existing_data_path")]
        settings = [word for arg in (*args, "generator_config.include_existing_data=true") for word in ("--set", arg)]
        notes = json.loads(ratchet("check-config", *settings, "--json").stdout)["notes"]
        assert sum(f"there is no {path}" in note for note in notes) == said


def test_what_could_be_guessed_or_read_by_others_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    secret = tmp_path / "token"
    secret.write_text("too-short\n")
    secret.chmod(0o644)
    (tmp_path / "data" / "ratchet.db").touch(mode=0o644)
    args = ("--data-dir", str(tmp_path / "data"), "--set", f"admin.token_file={secret}", "--json")
    told = ratchet("check-config", *args)
    assert told.exit_code == 0, told.output
    notes = "\n".join(json.loads(told.stdout)["notes"])
    assert "admin.token: has 9 characters" in notes
    for mode, place in (("700", tmp_path / "data"), ("600", secret), ("600", tmp_path / "data" / "ratchet.db")):
        assert f"run: chmod {mode} {place}" in notes
    (tmp_path / "data").chmod(0o700)  # then nobody reaches what is in it
    secret.chmod(0o600)
    secret.write_text("0123456789abcdef\n")
    assert not any(
        "chmod" in note or "token" in note for note in json.loads(ratchet("check-config", *args).stdout)["notes"]
    )


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ratchet.toml"
    file.write_text("[server]\nport = 9000\n")
    document = json.loads(ratchet("check-config", "--json", env={"RATCHET_CONFIG": str(file)}).stdout)
    assert document["changed"] == {"server.port": 9000}


def test_the_model_is_named_as_serve_names_it() -> None:
    document = json.loads(ratchet("check-config", "--champion", "http://model:8000", "--json").stdout)
    assert document["changed"] == {"champion.url": "http://model:8000"}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["serve"], 3, "champion.url: not set"),
        (["serve", "--champion", "localhost:8000"], 3, "champion.url: "),
        (["serve", "--champion", "http://h", "--admin-host", "0.0.0.0"], 3, "admin.host: "),
        (["serve", "--champion", "http://h", "--set", "port"], 2, "write KEY=VALUE"),
        (["serve", "--config", "/nonexistent.toml"], 3, "cannot be read"),
        (["serve", "--port", "http"], 2, "--port"),
        (["surf"], 2, "No such command"),
    ],
)
def test_serve_refuses_to_start_with_a_reason(args: list[str], code: int, message: str) -> None:
    result = ratchet(*args)
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_version() -> None:
    assert ratchet("--version").output.strip() == f"ratchet {__version__} ({build()})"


def test_the_command_line_loads_nothing_heavy_before_it_knows_the_verb() -> None:
    heavy = ("sqlalchemy", "aiohttp", "starlette", "uvicorn", "proxy.store.store", "proxy.loop", "pydantic")
    script = f"import sys, proxy.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_serve_warns_of_what_a_check_and_a_judge_will_lack(tmp_path: Path) -> None:
    """It serves all the same: here only because of a data directory that is a file it ends."""
    (tmp_path / "data").write_text("")
    (tmp_path / "golden.jsonl").write_text('{"request": {"messages": []}, "expct": {}}\n')
    settings = {
        "champion.url": "http://127.0.0.1:9", "checks.golden": "golden.jsonl",
        "judge.kind": "callable", "judge.callable": "nowhere:judge",
    }  # fmt: skip
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "proxy", "serve", "--data-dir", str(tmp_path / "data"), *given]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 3
    assert "there is no module nowhere" in said.stderr
    assert "until this is fixed nothing is judged" in said.stderr
    assert "expct: there is no such member" in said.stderr
    assert "until this is fixed every challenger waits in its check" in said.stderr
