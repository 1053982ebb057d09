"""The optional compiler: which modules it gets, by which mypyc, and what is said where it is not there.

What it makes is tested by `make test-compiled`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hatch_build import COMPILERS, compiled_modules, missing_to_compile, project
from tests.harness.compiled import ROOMS
from tests.harness.pages import ROOT
from tests.harness.require import need


def test_every_pattern_names_a_module() -> None:
    """One that is renamed would silently be interpreted."""
    for patterns in project(ROOT)["tool"]["ratchet"].values():
        assert [pattern for pattern in patterns if not list(ROOT.glob(pattern))] == []
    assert {"proxy/ids.py", "proxy/gateway/head.py", "proxy/wire/sse.py"} <= {*compiled_modules(ROOT)}


def test_every_room_that_is_tested_compiled_is_there() -> None:
    assert [room for room in ROOMS if not (ROOT / room).exists()] == []


def test_a_release_is_compiled_by_what_is_tested() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    locked = {package["name"]: package.get("version") for package in packages}
    for compiler in map(Requirement, COMPILERS):
        assert locked[compiler.name] in compiler.specifier


@pytest.mark.parametrize("options", [["-q"], ["--no-header"], []], ids=str)
def test_what_has_changed_since_it_was_compiled_is_not_tested(tmp_path: Path, options: list[str]) -> None:
    """Those who ask for fewer words do so, too."""
    for name in ("pyproject.toml", "hatch_build.py", "tests/conftest.py", "proxy/version.py", "proxy/ids.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    made = f"proxy/ids{EXTENSION_SUFFIXES[0]}", f"ratchet__mypyc{EXTENSION_SUFFIXES[0]}"
    for name in ("proxy/__init__.py", *made):
        (tmp_path / name).touch()
    (tmp_path / "tests/test_one.py").write_text("def test_one(): pass")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "tests/test_one.py"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    results = []
    for changed_s in (-60.0, 60.0):
        at = (tmp_path / made[1]).stat().st_mtime + changed_s
        os.utime(tmp_path / "proxy/ids.py", (at, at))
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        results.append((done.returncode, "proxy/ids.py has changed since it was compiled" in done.stderr + done.stdout))
    assert results == [(pytest.ExitCode.OK, False), (pytest.ExitCode.USAGE_ERROR, True)]


def test_what_is_interrupted_leaves_no_half_of_what_is_compiled(tmp_path: Path) -> None:
    """The first of three extensions is linked when whoever compiles is killed."""
    need("a C compiler, with Python's headers", missing_to_compile() is None)
    (tmp_path / "hatch_build.py").write_bytes((ROOT / "hatch_build.py").read_bytes())
    (tmp_path / "pyproject.toml").write_text(
        '[tool.ratchet]\ncompiled = ["proxy/o*.py", "proxy/t*.py"]\nnot-compiled = []'
    )
    (tmp_path / "proxy").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / f"proxy/{name}.py").write_text("A = 1\n")
    compiler = tmp_path / "cc"
    compiler.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *-shared*) if [ -e {tmp_path}/linked ]; then kill -9 $(cat {tmp_path}/pid) $PPID; exit 1; fi;'
        f" touch {tmp_path}/linked; esac\n"
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    program = (
        f"import os, pathlib, runpy; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); "
        "runpy.run_path('hatch_build.py', run_name='__main__')"
    )
    environ = {**os.environ, "CC": str(compiler), "MYPYC_OPT_LEVEL": "0", "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "linked").exists()
    assert [*tmp_path.glob("*.so"), *tmp_path.glob("proxy/**/*.so")] == []


def test_what_is_missing_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    said = missing_to_compile()
    assert said is not None
    assert said.startswith("there is no C compiler (no-such-compiler). On Debian: apt-get install gcc libc6-dev")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'stdio.h: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    said = missing_to_compile()
    assert said is not None
    assert "stdio.h: No such file" in said or "Python.h is missing" in said
    assert "On Debian: apt-get install" in said
