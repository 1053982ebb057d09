"""A release: the same sources make the same bytes, with all of the code and nothing else; what is built serves; what it
depends on is listed as it is locked; and the pages speak of each version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from policies.selection import RENAMED
from proxy.config import parse_config
from proxy.config.parse import OLD_PATHS
from proxy.errors import ConfigError
from proxy.version import __version__
from tests.harness.pages import ROOT, anchors
from tests.harness.programs import free_port, program
from tests.harness.release import (
    BESIDE_THE_CODE,
    SERVER_EXTRAS,
    bill_of_materials,
    build,
    files_in_git,
    held_by,
    missing_before_a_tag,
    uv,
)
from tests.harness.require import need
from tests.harness.serve import await_true, request

STABILITY = (ROOT / "docs/reference/stability.md").read_text(encoding="utf-8")
NOTES = (ROOT / "docs/how-to/upgrade-and-backup.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    need("uv", uv() is not None)
    try:
        return build(tmp_path_factory.mktemp("dist"))
    except SystemExit as exc:
        need("a package index", "hatchling" not in str(exc))
        raise


def test_it_holds_the_code_and_nothing_else(built: tuple[Path, Path]) -> None:
    source, wheel = built
    assert held_by(source) - {*BESIDE_THE_CODE, "PKG-INFO"} == files_in_git()
    assert set(BESIDE_THE_CODE) <= held_by(source)
    assert {name for name in held_by(wheel) if ".dist-info/" not in name} == files_in_git()
    assert {"proxy/py.typed", "policies/py.typed", "proxy/web/console/static/app.js"} <= held_by(wheel)
    assert not [name for name in held_by(wheel) | held_by(source) if name.startswith(("tests/", "docs/", "examples/"))]
    assert wheel.name == f"ratchet_proxy-{__version__}-py3-none-any.whl"


def test_the_same_sources_make_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    assert [path.read_bytes() for path in build(tmp_path)] == [path.read_bytes() for path in built]


def test_what_is_built_serves(built: tuple[Path, Path], tmp_path: Path) -> None:
    """From an environment that has only the wheel. Dependencies are this environment's: uv.lock is about those."""
    venv, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    install = [str(uv()), "pip", "install", "--quiet", "--no-deps", "--offline", "--python", str(venv)]
    subprocess.run([*install, str(built[1])], check=True)
    environ = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    asked = [str(venv / "bin/python"), "-c", "import proxy; print(proxy.__file__, proxy.__version__)"]
    told = subprocess.run(asked, cwd=home, env=environ, capture_output=True, text=True, check=True).stdout.split()
    assert Path(told[0]).is_relative_to(venv)
    assert told[1] == __version__
    model, upstream, port, admin = home / "model.json", free_port(), free_port(), free_port()
    model.write_text('{"quality": 1.0}')
    serve = [str(venv / "bin/ratchet"), "serve", "--champion", f"http://127.0.0.1:{upstream}",
             "--set", f"server.port={port}", "--set", f"admin.port={admin}"]  # fmt: skip
    with program(ROOT / "tests/harness/tiny_model.py", "serve", str(model), str(upstream)):
        server = subprocess.Popen(serve, cwd=home, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await_true(lambda: _answers(port, "/-/health"), "a healthy worker")
            await_true(lambda: _answers(upstream, "/health"), "the model")
            chat = {"model": "m", "user": "ann", "messages": [{"role": "user", "content": "Hello"}]}
            answer = request(f"http://127.0.0.1:{port}", "/v1/chat/completions", method="POST", body=chat)
            assert (answer.status, "model.json says" in answer.body.decode()) == (200, True)
            assert len(answer.headers["x-ratchet-record-id"]) == 36
            await_true(lambda: _answers(admin, "/static/app.js"), "the console's own files")
            await_true(lambda: _answers(admin, "/experiment"), "a page of the console, as soon as the store is open")
        finally:
            server.terminate()
            assert server.wait(120) == 0


def _answers(port: int, path: str) -> bool:
    try:
        return request(f"http://127.0.0.1:{port}", path).status == 200
    except (OSError, HTTPException):
        return False


# ------------------------------------------------------------------------------------------------ what is locked


def test_the_lock_file_is_what_the_project_asks_for() -> None:
    need("uv", uv() is not None)
    checked = subprocess.run([str(uv()), "lock", "--check", "--offline"], cwd=ROOT, capture_output=True, text=True,
                             check=False)  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def locked_for_a_server() -> dict[str, str]:
    """Name and version of all that the project's dependencies lead to, read from uv.lock by hand."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK["package"]:
        packages.setdefault(package["name"], []).append(package)
    [project] = packages["ratchet-proxy"]
    extras = [entry for extra in SERVER_EXTRAS for entry in project["optional-dependencies"][extra]]
    found: dict[str, str] = {}
    todo = [*project["dependencies"], *extras]
    while todo:
        entry = todo.pop()
        for package in packages[entry["name"]]:
            if found.get(entry["name"]) is None:
                found[entry["name"]] = package["version"]
                todo += package.get("dependencies", [])
                for extra in entry.get("extra", []):
                    todo += package["optional-dependencies"][extra]
    return found


def test_the_bill_of_materials_is_what_is_locked() -> None:
    """Each package with its hashes, and who asks for it; the same bytes each time."""
    need("uv", uv() is not None)
    bill = bill_of_materials()
    listed = {part["name"]: part["version"] for part in bill["components"]}
    assert listed == locked_for_a_server()
    assert {"aiohttp", "pyarrow", "opentelemetry-sdk"} <= listed.keys()
    assert not {"pytest", "mkdocs-material", "scikit-learn"} & listed.keys()
    assert bill["metadata"]["component"]["version"] == __version__
    for part in bill["components"]:
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
        assert all(link["hashes"] for link in part["externalReferences"] if link["type"] == "distribution")
    asks = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    [aiohttp] = [names for ref, names in asks.items() if ref.startswith("aiohttp-")]
    assert any(name.startswith("yarl-") for name in aiohttp)


# ------------------------------------------------------------------------------------------ what the pages say


def test_the_changelog_has_its_form() -> None:
    """Keep a Changelog: the newest first, each but the one in the making with its date."""
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    released = headings[1:] if headings[0] == "Unreleased" else headings
    versions = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d\d-\d\d)\)", heading) for heading in released]
    assert None not in versions
    numbers = [(tuple(map(int, found.groups()[:3])), found[4]) for found in versions if found]
    assert numbers == sorted(numbers, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= kinds


def test_the_notes_for_upgrades_speak_of_every_version() -> None:
    for heading in re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE):
        assert f"\n### {heading}\n" in NOTES, heading


def test_what_a_version_lacks_before_its_tag_is_said() -> None:
    ready = ("# Changelog\n\n## 0.3.0 (2027-01-31)\n\n### Added\n", "### 0.3.0\n\nNothing.\n")
    assert missing_before_a_tag(*ready, "0.3.0") == []
    assert missing_before_a_tag(*ready, "0.3.1") == [
        "CHANGELOG.md begins with 0.3.0 (2027-01-31): it must be `## 0.3.1 (YYYY-MM-DD)`",
        "docs/how-to/upgrade-and-backup.md has no `### 0.3.1`: say what changes for who upgrades",
    ]
    assert len(missing_before_a_tag("## Unreleased\n", ready[1], "0.3.0")) == 1


def test_the_version_stands_in_one_place() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
    [own] = [package for package in LOCK["package"] if package["name"] == "ratchet-proxy"]
    assert "version" not in own
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_every_renamed_setting_is_in_the_policy_and_in_the_notes() -> None:
    for old, new in RENAMED.items():
        assert f"`generator_config.{old}` is now `{new}`" in STABILITY
        assert f"`generator_config.{old}` is now `{new}`" in NOTES
    assert len(OLD_PATHS) == len(RENAMED)


def test_a_setting_that_does_not_exist_stops_the_start_and_is_named() -> None:
    """As the policy says of one that was removed."""
    with pytest.raises(ConfigError, match=r"ab_test_config\.min_duration_hour: unknown key.*min_duration_hours"):
        parse_config({"ab_test_config": {"min_duration_hour": 3}})


def test_every_page_that_the_policy_calls_public_is_there() -> None:
    assert {"what-stays-as-it-is", "how-something-public-ends"} <= anchors(ROOT / "docs/reference/stability.md")
    for name in ("config", "http", "cli", "metrics", "records", "python", "trainers", "deployers"):
        assert f"]({name}.md)" in STABILITY
