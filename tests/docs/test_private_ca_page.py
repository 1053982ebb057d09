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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from proxy.app.model_probe import probe_model
from proxy.cli.common import Exit
from tests.harness.authority import Authority
from tests.harness.model_server import create_model_server
from tests.harness.model_words import answer_to
from tests.harness.pages import ROOT, blocks
from tests.harness.require import need
from tests.harness.sdk import Way
from tests.harness.serve import RatchetProcess, await_true
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

PAGE: Final = ROOT / "docs/how-to/private-ca.md"
SHELL: Final = [block.text for block in blocks(PAGE) if block.language == "sh"]
SETTINGS: Final = tomllib.loads("\n".join(block.text for block in blocks(PAGE) if block.language == "toml"))
CLIENTS: Final = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.read_text().partition("| client |")[2], re.M))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Its folder is where the reader works."""
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def model(authority: Authority) -> Iterator[str]:
    """URL of the model, with a certificate of the authority."""
    with serving_in_thread(create_model_server(), certificate=(authority.cert_file, authority.key_file)) as url:
        yield url


@pytest.fixture(scope="module")
def way(authority: Authority, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Ratchet with the settings of the page: it trusts the authority, and has a certificate of it."""
    folder = tmp_path_factory.mktemp("ratchet")
    (certificate := folder / "cert.pem").write_bytes(authority.cert_file.read_bytes())
    (key := folder / "key.pem").write_bytes(authority.key_file.read_bytes())
    champion, server = SETTINGS["champion"], dict(zip(SETTINGS["server"], (certificate, key), strict=True))
    settings = {"champion": {**champion, "url": model, "ca_file": str(authority.ca_file)},
                "server": {name: str(path) for name, path in server.items()}}  # fmt: skip
    ratchet = RatchetProcess(folder, champion=model, settings=settings)
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
    said = run(["sh", "-euc", SHELL[0]], authority.ca_file.parent, MODEL_URL=model)
    assert "small" in said
    strange = subprocess.run(["curl", "-fsS", f"{model}/v1/models"], capture_output=True, text=True, check=False)
    assert strange.returncode == 60  # nobody vouches for it


def test_both_authorities_go_into_one_file_that_is_trusted(authority: Authority, way: Way) -> None:
    """In place of the system's, where a certificate of another authority stands for those."""
    folder = authority.ca_file.parent
    shutil.copy(authority.cert_file, folder / "system.pem")
    environ = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "SYSTEM_CAS": "system.pem"}
    run(["sh", "-euc", SHELL[1].replace("ratchet.toml", str(way.ratchet.config_file))], folder, **environ)
    found = ssl.create_default_context(cafile=str(folder / "all-cas.pem")).cert_store_stats()
    assert found["x509"] == 2


def test_a_file_without_a_certificate_stops_the_start(authority: Authority, model: str, tmp_path: Path) -> None:
    settings = {"champion": {"url": model, "ca_file": str(authority.key_file)}}
    ratchet = RatchetProcess(tmp_path, champion=model, settings=settings)
    assert ratchet.launch().wait(120) == Exit.CONFIG
    assert "champion.ca_file" in ratchet.log


async def test_without_trust_it_is_told_what_the_page_says(model: str) -> None:
    """The words of `ratchet status` are those of the controller's own look."""
    [words] = re.findall(r"says: \*(.+?)\*", PAGE.read_text())
    assert (await probe_model(model)).startswith(words)


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
    assert "small" in run(argv, authority.ca_file.parent, **environ)


def test_an_answer_goes_all_the_way(authority: Authority, way: Way) -> None:
    text = "Name a river in Japan."
    program = (
        f"import openai; client = openai.OpenAI(base_url='{way.proxied}/v1', max_retries=0); print(client.chat."
        f"completions.create(model='small', messages=[dict(role='user', content='{text}')]).choices[0].message.content)"
    )
    said = run([sys.executable, "-c", program], authority.ca_file.parent, SSL_CERT_FILE="ca.pem")
    assert said.strip() == answer_to(text).strip()
    [row] = way.records(text=text)
    assert row["outcome"] == "ok"
    voting = [sys.executable, "-m", "proxy", "feedback", row["id"], "good", "--config", str(way.ratchet.config_file)]
    for where in ([], ["--url", way.proxied]):
        assert "accepted" in run([*voting, *where], ROOT), "of our own server and of the authority's"


def test_a_renewed_certificate_is_read_after_sighup(authority: Authority, way: Way, tmp_path: Path) -> None:
    """Of another authority: the client that trusts that one is served then."""
    renewed = Authority.make(tmp_path)
    assert _serves(way.proxied, authority)
    assert not _serves(way.proxied, renewed)
    server = way.ratchet.settings["server"]
    shutil.copy(renewed.cert_file, server["tls_cert_file"])
    shutil.copy(renewed.key_file, server["tls_key_file"])
    assert way.ratchet.process is not None
    way.ratchet.process.send_signal(signal.SIGHUP)
    await_true(lambda: _serves(way.proxied, renewed), "the new certificate")
    _nothing_ends_by_a_broken_key(way.ratchet, lambda: _serves(way.proxied, renewed))


def _nothing_ends_by_a_broken_key(ratchet: RatchetProcess, serves: Callable[[], bool]) -> None:
    """The worker with the good one goes on; one that dies meanwhile is back as soon as the file is mended."""
    key, process = Path(ratchet.settings["server"]["tls_key_file"]), ratchet.process
    good, worker = key.read_bytes(), ratchet.pid("worker-0")
    assert process is not None
    key.write_text("no key\n")
    process.send_signal(signal.SIGHUP)
    await_true(lambda: "the old one stays in use: server.tls_cert_file" in ratchet.log, "the refusal")
    assert ratchet.pid("worker-0") == worker
    assert serves()
    ratchet.kill("worker-0")
    await_true(lambda: "worker-0 ended (exit status 78); restarting it" in ratchet.log, "a worker that cannot start")
    key.write_bytes(good)
    await_true(serves, "a worker with the mended key")
    assert process.poll() is None


def _serves(url: str, authority: Authority) -> bool:
    """Whether who answers there has a certificate of this authority."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    parts = urlsplit(url)
    assert parts.hostname is not None
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), 60) as connection,
            context.wrap_socket(connection, server_hostname=parts.hostname),
        ):
            return True
    except OSError:  # ssl.SSLError is one
        return False
