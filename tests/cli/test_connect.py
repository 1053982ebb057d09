"""`ratchet check-config --connect`: one line for each server that is named, and an exit code; TLS files are opened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from proxy.cli.app import app
from tests.harness.authority import Authority, serving_tls_in_thread
from tests.harness.judge_server import JudgeServer
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import need
from tests.harness.webserver import serving_in_thread

TOKEN = "Bearer the-token"


class Services:
    """A model, an API server of Kubernetes, a Ray dashboard and a hosted API behind one port."""

    def __init__(self) -> None:
        self.allowed = True
        self.reviews: list[Any] = []
        self.app = Starlette(routes=[
            Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self.review, methods=["POST"]),
            Route("/{path:path}", self.answer, methods=["GET", "POST"]),
        ])  # fmt: skip

    async def review(self, request: Request) -> Response:
        self.reviews.append((await request.json())["spec"]["resourceAttributes"])
        if request.headers.get("authorization") != TOKEN:
            return JSONResponse({"message": "Unauthorized"}, 401)
        return JSONResponse({"status": {"allowed": self.allowed}}, 201)

    async def answer(self, request: Request) -> Response:
        guarded = ("/v1/fine_tuning", "/v1/traces", "/api/v1/evaluations")
        if request.url.path.startswith(guarded) and request.headers.get("authorization") != TOKEN:
            return JSONResponse({"error": "who are you?"}, 401)
        if request.url.path.endswith("/all/ids"):
            return JSONResponse([])
        return JSONResponse({"object": "list", "data": []})


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    with serving_in_thread(services.app) as base:
        yield base


def connect(folder: Path, settings: dict[str, Any]) -> tuple[int, dict[str, tuple[bool, str]]]:
    """The exit code, and what is said of each setting."""
    file = folder / "ratchet.json"
    file.write_text(json.dumps({"server": {"data_dir": str(folder / "data")}} | settings))
    result = CliRunner().invoke(app, ["check-config", str(file), "--connect", "--json"])
    assert result.exit_code in (0, 4), result.output
    document = json.loads(result.stdout)
    assert document["ok"] is (result.exit_code == 0)
    return result.exit_code, {one["setting"]: (one["ok"], one["said"]) for one in document["connections"]}


def test_what_is_there_works_and_nothing_is_made(tmp_path: Path, url: str) -> None:
    with JudgeServer(lambda asked: 0.75) as judge:
        settings = {
            "champion": {"url": url},
            "judge": {"kind": "openai", "url": judge.url, "model": "j"},
            "deployer": {"kind": "static", "url": url},
        }
        code, said = connect(tmp_path, settings)
        assert len(judge.asked) == 1
    assert (code, said["champion.url"]) == (0, (True, f"{url} answers"))
    assert said["judge.url"] == (True, "j judges (one question was asked: 0.75)")
    assert said["store.url"][1].endswith("ratchet.db, which the first start makes: tables can be made and written")
    assert said[f"deployer.url {url}"] == (True, f"{url}/health answers 200")
    assert not (tmp_path / "data").exists()


def test_what_is_not_there_has_a_line_each_and_exit_code_4(tmp_path: Path, unused_tcp_port: int) -> None:
    gone = f"http://127.0.0.1:{unused_tcp_port}"
    settings = {
        "champion": {"url": gone},
        "judge": {"kind": "openai", "url": gone, "model": "j", "attempts": 1},
        "trainer": {"kind": "http", "url": gone},
        "deployer": {"kind": "vllm_lora", "url": gone},
        "store": {"url": f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none"},
    }
    code, said = connect(tmp_path, settings)
    assert code == 4
    assert said.keys() == {"champion.url", "store.url", "judge.url", "trainer.url", f"deployer.url {gone}"}
    assert not any(ok for ok, _ in said.values()), said
    assert "connection refused" in said["champion.url"][1]
    file = tmp_path / "ratchet.json"
    text = CliRunner().invoke(app, ["check-config", str(file), "--connect"], env={"COLUMNS": "300"}).output
    assert text.count(": FAILS, ") == 5, text


def test_the_databases_rights_are_tried(tmp_path: Path) -> None:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        assert connect(tmp_path, {"store": {"url": server.url()}})[1]["store.url"][1].startswith("PostgreSQL ")
        run(server, "CREATE ROLE plain LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        plain = server.url().replace(f"//{urlsplit(server.url()).username}@", "//plain@")
        code, said = connect(tmp_path, {"store": {"url": plain}})
        assert (code, said["store.url"][0]) == (4, False)
        assert "denies permission" in said["store.url"][1]
        missing = connect(tmp_path, {"store": {"url": server.url("nowhere")}})[1]["store.url"]
        assert "the database does not exist" in missing[1]
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert run(server, tables).strip().endswith("0"), "nothing stays behind"


def run(server: PostgresServer, *statements: str) -> str:
    given = [word for sql in statements for word in ("-c", sql)]
    done = subprocess.run(["psql", server.url(), "-X", "-qAt", *given], check=True, capture_output=True, timeout=60)
    return done.stdout.decode()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = connect(tmp_path, {"server": {"data_dir": str(tmp_path / "file" / "data")}})
    assert (code, f"{tmp_path / 'file'} is not writable for this user" in said["store.url"][1]) == (4, True)


@pytest.mark.parametrize("right", [True, False])
def test_what_a_trainer_lacks_is_named(right: bool, tmp_path: Path, url: str, services: Services) -> None:
    token, manifest = tmp_path / "token", tmp_path / "job.json"
    token.write_text("the-token" if right else "another")
    manifest.write_text(json.dumps({"kind": "Job", "metadata": {"name": "x"}, "spec": {}}))
    kube = {"kind": "kubernetes", "url": url, "token_file": str(token), "options": {"manifest": str(manifest)}}
    code, said = connect(tmp_path, {"trainer": kube})
    assert (code, said["trainer.url"][0]) == ((0, True) if right else (4, False)), said
    assert services.reviews == [{"namespace": "default", "verb": "create", "group": "batch", "resource": "jobs"}]
    openai = {"kind": "openai", "url": f"{url}/v1", "token_file": str(token), "options": {"model": "m"}}
    code, said = connect(tmp_path, {"trainer": openai})
    assert (code, said["trainer.url"][0]) == ((0, True) if right else (4, False)), said
    if right:
        services.allowed = False
        assert "may not make Jobs in the namespace default" in connect(tmp_path, {"trainer": kube})[1]["trainer.url"][1]
        ray = {"kind": "ray", "url": url, "command": ["python", "train.py"]}
        assert connect(tmp_path, {"trainer": ray})[1]["trainer.url"] == (True, f"{url}/api/version answers 200")


@pytest.mark.parametrize("right", [True, False])
def test_open_webui_and_the_collector_are_asked(right: bool, tmp_path: Path, url: str) -> None:
    key, code = ("the-token", 0) if right else ("another", 4)
    settings = {
        "feedback": {"open_webui": {"url": url, "key": key}},
        "telemetry": {"otlp_endpoint": url, "otlp_headers": f"authorization=Bearer%20{key}"},
    }
    found, said = connect(tmp_path, settings)
    assert found == code, said
    assert said["feedback.open_webui.url"][0] is said["telemetry.otlp_endpoint"][0] is right
    if right:
        assert said["feedback.open_webui.url"][1] == f"{url} lets us read its votes (0 so far)"
        assert said["telemetry.otlp_endpoint"][1] == f"{url}/v1/traces answers 200"


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ({"kind": "openai"}, "trainer.options.model is not set"),
        ({"kind": "kubernetes", "url": "http://127.0.0.1:1"}, "trainer.options.manifest is not set"),
        ({"kind": "ray", "url": "http://127.0.0.1:1"}, "trainer.command is empty"),
    ],
)
def test_what_can_be_told_without_asking_is_told_without_asking(
    trainer: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "ratchet.json"
    file.write_text(json.dumps({"trainer": trainer}))
    result = CliRunner().invoke(app, ["check-config", str(file)])
    assert (result.exit_code, said in result.output) == (3, True), result.output


def test_a_private_authority_is_trusted_here_too(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    with serving_tls_in_thread(authority) as model:
        callees = {
            "telemetry": {"otlp_endpoint": model.url},
            "feedback": {"open_webui": {"url": model.url, "key": "k"}},
            "notify": {"urls": [model.url]},
        }
        trusted = {"champion": {"url": model.url, "ca_file": str(authority.ca_file)}, **callees}
        found = connect(tmp_path, trusted)[1]
        assert found["champion.url"][0]
        assert found["telemetry.otlp_endpoint"][0]
        assert "no list of votes" in found["feedback.open_webui.url"][1], "it was asked, and is none"
        told = CliRunner().invoke(app, ["notify", "--test", "--config", str(tmp_path / "ratchet.json")])
        assert told.exit_code == 0, told.output
        for words in (["feedback", "chatcmpl-1", "good", "--url"], ["status", "--admin-url"]):
            refusal = CliRunner().invoke(app, [*words, model.url], env={"COLUMNS": "300"})
            assert (refusal.exit_code, "its certificate is not trusted" in refusal.output) == (4, True), refusal.output
            assert "no server answers" not in refusal.output
        refused = connect(tmp_path, {"champion": {"url": model.url}, **callees})[1]
        for setting in ("champion.url", "telemetry.otlp_endpoint", "feedback.open_webui.url"):
            assert (refused[setting][0], "champion.ca_file" in refused[setting][1]) == (False, True), refused[setting]
    named = CliRunner().invoke(app, ["check-config", "--set", f"champion.ca_file={tmp_path / 'none.pem'}"])
    assert (named.exit_code, "none.pem cannot be used (No such file" in named.output) == (3, True)


def test_a_certificate_that_has_ended_is_refused_and_one_that_ends_soon_is_a_note(tmp_path: Path) -> None:
    for days, code, said in ((0, 3, "renew it"), (2, 0, "renew it before that"), (90, 0, "")):
        (folder := tmp_path / str(days)).mkdir()
        made = Authority.make(folder, days=days)
        files = {"server.tls_cert_file": made.cert_file, "server.tls_key_file": made.key_file}
        words = [word for name, file in files.items() for word in ("--set", f"{name}={file}")]
        result = CliRunner().invoke(app, ["check-config", *words], env={"COLUMNS": "300"})
        assert result.exit_code == code, result.output
        assert said in result.output
        assert said != "" or "renew" not in result.output


def test_a_key_with_a_passphrase_is_refused_and_nobody_asked(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, and wait."""
    made, encrypted = Authority.make(tmp_path), tmp_path / "encrypted.key"
    write = ["openssl", "pkey", "-in", made.key_file, "-aes256", "-passout", "pass:x", "-out", encrypted]
    subprocess.run(write, check=True, capture_output=True)
    files = {"server.tls_cert_file": made.cert_file, "server.tls_key_file": encrypted}
    words = [word for name, file in files.items() for word in ("--set", f"{name}={file}")]
    result = CliRunner().invoke(app, ["check-config", *words], env={"COLUMNS": "300"})
    assert (result.exit_code, f"server.tls_key_file: {encrypted} is encrypted" in result.output) == (3, True)


def test_a_settings_file_with_a_secret_that_others_can_read_is_a_note(tmp_path: Path) -> None:
    file = tmp_path / "ratchet.toml"
    file.write_text('[admin]\ntoken = "0123456789abcdef"\n')
    for mode, said in ((0o644, True), (0o600, False)):
        file.chmod(mode)
        notes = json.loads(CliRunner().invoke(app, ["check-config", str(file), "--json"]).stdout)["notes"]
        assert any(f"chmod 600 {file} (it holds admin.token)" in note for note in notes) is said
    file.write_text("[server]\nport = 9000\n")
    file.chmod(0o644)
    assert "chmod" not in CliRunner().invoke(app, ["check-config", str(file)]).output
