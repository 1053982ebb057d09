"""The quick start is run as it stands, by a reader with a shell in an empty directory."""

import contextlib
import json
import os
import signal
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.measured_path import walked
from tests.harness.pages import ROOT, Session, blocks, commands
from tests.harness.require import full, need
from tests.harness.serve import await_true

PAGE = ROOT / "docs/tutorial/quickstart.md"
CHALLENGER = ROOT / "docs/tutorial/challenger.md"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Session]:
    """A reader, behind whom everything is tidied up that a failed page left running."""
    yield Session(tmp_path)
    for pid in _left_below(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_quick_start_runs_to_a_promotion(reader: Session) -> None:
    install, *rest = blocks(PAGE)
    assert "pip install" in install.text
    reader.run(rest, limit_s=800)
    await_true(lambda: not _left_below(reader.directory), "what the clean-up was to stop")
    manifests = sorted((reader.directory / "ratchet-data/training").glob("*/manifest.json"))
    assert json.loads(manifests[0].read_text())["samples"] >= 20


@full("its two halves: the installation, and the page from its second section on")
def test_from_a_clone_to_a_model_that_improves_takes_less_than_ten_minutes(tmp_path: Path) -> None:
    """With packages from their index; `python -m tests.harness.measured_path` says how long each part takes."""
    try:
        assert sum(walked(tmp_path).values()) < 600.0
    finally:
        for pid in _left_below(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_challenger_of_ones_own_is_tested_and_promoted(reader: Session) -> None:
    install, *rest = blocks(CHALLENGER)
    assert install.text == blocks(PAGE)[0].text
    reader.run(rest, limit_s=800)
    await_true(lambda: not _left_below(reader.directory), "what the clean-up was to stop")
    assert not list((reader.directory / "ratchet-data").glob("training/*/result.json"))


@pytest.mark.parametrize("page", [PAGE, CHALLENGER], ids=lambda page: page.stem)
def test_the_settings_shown_as_defaults_are_the_defaults(page: Path) -> None:
    """`key = value  # default` in the compressed settings names what production has."""
    from proxy.config import Config

    [shown] = [block.text for block in blocks(page) if block.title == "ratchet.toml"]
    defaults = Config()
    expected = {
        "min_usable_samples": defaults.trigger_config.min_usable_samples,
        "cooldown_hours": defaults.trigger_config.cooldown_hours,
        "holdout_share": defaults.generator_config.holdout_share,
        "initial_challenger_traffic": defaults.ab_test_config.initial_challenger_traffic,
        "min_duration_hours": defaults.ab_test_config.min_duration_hours,
        "watch_hours": defaults.ab_test_config.watch_hours,
    }
    for line in shown.splitlines():
        key, _, rest = line.partition(" = ")
        if key in expected:
            assert float(rest.partition("# ")[2].partition(":")[0]) == expected[key], line


@pytest.mark.slow
def test_the_install_commands_install_everything(tmp_path: Path) -> None:
    """In a copy of the checkout. Dependencies are this environment's: that they can be had is uv.lock's business."""
    copy = tmp_path / "checkout"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.splitlines()  # fmt: skip
    files = [name for name in listed if not name.startswith("tests/") and (ROOT / name).is_file()]
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    clone, create, install = (command.line for command in commands(blocks(PAGE)[0]))
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    assert clone == f"git clone {source} && cd {source.rpartition('/')[2]}"
    alone = "export PIP_NO_DEPS=1 PIP_NO_BUILD_ISOLATION=0"  # 0 is how pip spells "no isolation" in a variable
    script = f"set -e; {create}; pip install -q hatchling; {alone}; {install}"
    made = subprocess.run(["bash", "-c", script], cwd=copy, capture_output=True, text=True, check=False)
    need("a package index", "No matching distribution found for hatchling" not in made.stderr)
    assert made.returncode == 0, made.stderr
    packages = sysconfig.get_path("purelib")
    command = [str(copy / ".venv/bin/ratchet"), "--help"]
    helped = subprocess.run(command, cwd="/", env={**os.environ, "PYTHONPATH": packages}, capture_output=True,
                            text=True, check=True)  # fmt: skip
    assert "serve" in helped.stdout
    [installed] = (copy / ".venv/lib").glob("python*/site-packages")
    missing = [name for name in files if name.startswith(("proxy/", "policies/")) and not (installed / name).is_file()]
    assert not missing


def _left_below(directory: Path) -> list[int]:
    """Processes whose command line or working directory names this directory."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            named = str(directory).encode() in (proc / "cmdline").read_bytes()
            here = os.readlink(proc / "cwd").startswith(str(directory))
        except OSError:
            continue
        if (named or here) and int(proc.name) != os.getpid():
            found.append(int(proc.name))
    return found
