"""The page of private authorities: one of our own, certificates of it for the model and for Ratchet, real clients."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.harness.model_server import create_model_server
from tests.harness.model_words import answer_to
from tests.harness.pages import ROOT, blocks
from tests.harness.require import need
from tests.harness.sdk import Way
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

PAGE: Final = ROOT / "docs/how-to/private-ca.md"
SHELL: Final = [block.text for block in blocks(PAGE) if block.language == "sh"]
CLIENTS: Final = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.read_text().partition("| client |")[2], re.M))


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Its certificate is `ca.pem` in `folder`."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Authority:
        need("openssl", shutil.which("openssl") is not None)
        _openssl(folder, "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Our authority",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        return cls(folder=folder)

    def certificate(self, name: str) -> tuple[Path, Path]:
        """A certificate for this machine, and its key."""
        _openssl(self.folder, "req", "-new", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                 "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
        _openssl(self.folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                 "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(folder: Path, *argv: str) -> None:
    subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def model(authority: Authority) -> Iterator[str]:
    """URL of the model, with a certificate of the authority."""
    with serving_in_thread(create_model_server(), certificate=authority.certificate("model")) as url:
        yield url


@pytest.fixture(scope="module")
def way(authority: Authority, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Ratchet as the page has it: it trusts the authority, and has a certificate of it."""
    [shown] = [tomllib.loads(block.text) for block in blocks(PAGE) if "tls_cert_file" in block.text]
    cert, key = authority.certificate("ratchet")
    settings: dict[str, Any] = {"server": dict(zip(shown["server"], (str(cert), str(key)), strict=True))}
    ratchet = RatchetProcess(tmp_path_factory.mktemp("ratchet"), champion=model, settings=settings,
                             environ={"SSL_CERT_FILE": str(authority.folder / "ca.pem")})  # fmt: skip
    try:
        ratchet.start(ready=False)
        ratchet.await_admin()
        yield Way(direct=model, proxied=ratchet.base_url, ratchet=ratchet)
    finally:
        ratchet.stop()


def run(argv: list[str], folder: Path, **environ: str) -> str:
    done = subprocess.run(argv, cwd=folder, env={**os.environ, "OPENAI_API_KEY": "key", **environ},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_file_is_tried_as_on_the_page(authority: Authority, model: str) -> None:
    need("curl", shutil.which("curl") is not None)
    said = run(["sh", "-euc", SHELL[0]], authority.folder, MODEL_URL=model)
    assert "small" in said
    strange = subprocess.run(["curl", "-fsS", f"{model}/v1/models"], capture_output=True, text=True, check=False)
    assert strange.returncode == 60  # nobody vouches for it


def test_the_variable_of_the_page_is_the_one_that_ratchet_is_started_with(way: Way, model: str) -> None:
    """Here on a free port, by a test that has to stop it again."""
    variable, *command = SHELL[1].split()
    assert (variable, command) == ("SSL_CERT_FILE=ca.pem", ["ratchet", "serve", "--champion", '"$MODEL_URL"'])
    assert way.ratchet.settings["champion"]["url"] == model


def test_both_authorities_go_into_one_file(authority: Authority, tmp_path: Path) -> None:
    shutil.copy(authority.folder / "ca.pem", tmp_path)
    (tmp_path / "system.pem").write_text((authority.folder / "model.pem").read_text())
    run(["sh", "-euc", SHELL[2]], tmp_path, SYSTEM_CAS="system.pem")
    found = ssl.create_default_context(cafile=str(tmp_path / "all-cas.pem")).cert_store_stats()
    assert found["x509"] == 2


def test_without_trust_it_says_what_the_page_says(model: str, tmp_path: Path) -> None:
    environ = {"SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", "")} if "SSL_CERT_FILE" in os.environ else {}
    with RatchetProcess(tmp_path, champion=model, environ=environ) as ratchet:
        answer = request(ratchet.base_url, "/v1/models")
        assert answer.status == 502
        [words] = re.findall(r"says: \*(.+?)\*", PAGE.read_text())

        def told() -> bool:
            done = subprocess.run([sys.executable, "-m", "proxy", "status", "--config", str(ratchet.config_file)],
                                  cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
            return words in done.stdout + done.stderr

        await_true(told, f"`ratchet status` with “{words}”", every_s=1)


ASK: Final = {
    "curl": ["curl", "-fsS", "--cacert", "ca.pem", "{url}/v1/models"],
    "OpenAI and Anthropic SDK for Python": [
        sys.executable, "-c",
        "import openai; print(openai.OpenAI(base_url='{url}/v1', max_retries=0).models.list().data)",
    ],
    "`requests`": [sys.executable, "-c", "import requests; print(requests.get('{url}/v1/models', timeout=60).text)"],
    "Node (AI SDK, OpenAI SDK)": ["node", "-e", "fetch('{url}/v1/models').then((r) => r.text()).then(console.log)"],
}  # fmt: skip


@pytest.mark.parametrize("client", ASK)
def test_a_client_trusts_ratchet_as_on_the_page(client: str, authority: Authority, way: Way) -> None:
    need(ASK[client][0], shutil.which(ASK[client][0]) is not None)
    argv = [part.replace("{url}", way.proxied) for part in ASK[client]]
    how = CLIENTS[client]
    environ = dict([how.split("=")]) if "=" in how else {}
    assert environ or how in " ".join(argv)
    assert "small" in run(argv, authority.folder, **environ)


def test_a_renewed_certificate_is_read_after_sighup(authority: Authority, way: Way) -> None:
    first = ssl.PEM_cert_to_DER_cert((authority.folder / "ratchet.pem").read_text())
    assert _certificate_of(way.proxied, authority) == first
    for kind, renewed in zip(("pem", "key"), authority.certificate("renewed"), strict=True):
        shutil.copy(renewed, authority.folder / f"ratchet.{kind}")
    assert way.ratchet.process is not None
    way.ratchet.process.send_signal(signal.SIGHUP)
    second = ssl.PEM_cert_to_DER_cert((authority.folder / "renewed.pem").read_text())
    await_true(lambda: _certificate_of(way.proxied, authority) == second, "the new certificate")


def _certificate_of(url: str, authority: Authority) -> bytes | None:
    """Of whom answers there now."""
    context = ssl.create_default_context(cafile=str(authority.folder / "ca.pem"))
    parts = urlsplit(url)
    assert parts.hostname is not None
    with (
        socket.create_connection((parts.hostname, parts.port or 443), 60) as connection,
        context.wrap_socket(connection, server_hostname=parts.hostname) as tls,
    ):
        return tls.getpeercert(binary_form=True)


def test_an_answer_goes_all_the_way(authority: Authority, way: Way) -> None:
    text = "Name a river in Japan."
    program = (
        f"import openai; client = openai.OpenAI(base_url='{way.proxied}/v1', max_retries=0); print(client.chat."
        f"completions.create(model='small', messages=[dict(role='user', content='{text}')]).choices[0].message.content)"
    )
    said = run([sys.executable, "-c", program], authority.folder, SSL_CERT_FILE="ca.pem")
    assert said.strip() == answer_to(text).strip()
    [row] = way.records(text=text)
    assert row["outcome"] == "ok"
