"""Another package that has the name of one of ours is noticed at the start, and named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dashboards.start import strangers

REPOSITORY = Path(__file__).parents[2]
START = "import sys; sys.argv[1:] = ['--version']; from dashboards.start import main; main()"


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environ, check=False)


def package(folder: Path, name: str, owner: str | None = None) -> Path:
    """A package of this name, and the record of who has installed it."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("'''Somebody else's.'''\n")
    if owner is not None:
        record = folder / f"{owner}-2.4.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 2.4\n")
        (record / "top_level.txt").write_text(f"{name}\n")
        (record / "RECORD").write_text(f"{name}/__init__.py,,\n")
    return folder / name / "__init__.py"


def test_ours_are_ours() -> None:
    assert strangers() == []
    done = python(START, REPOSITORY)
    assert (done.returncode, done.stdout.startswith("ratchet ")) == (0, True), done.stderr


@pytest.mark.parametrize("name", ["proxy", "policies"])
def test_a_package_that_comes_first_is_named_with_who_has_installed_it(name: str, tmp_path: Path) -> None:
    file = package(tmp_path, name, owner="proxy.py")
    done = python(START, tmp_path, REPOSITORY)
    assert done.returncode == 3
    assert f"another package is called `{name}`: Python finds {file}, of proxy.py 2.4, before Ratchet's" in done.stderr
    assert "pip uninstall proxy.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_that_name_is_named_without_an_owner(tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    file = package(tmp_path, "policies")
    done = python(START, tmp_path, REPOSITORY)
    assert (done.returncode, f"Python finds {file} before" in done.stderr) == (3, True), done.stderr
    assert "`proxy`" not in done.stderr, "a folder without a module does not hide ours"


def test_two_packages_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    """As pip installs them: whoever came last has the first file."""
    for name in ("proxy", "policies"):
        package(tmp_path, name)
    assert len(strangers(tmp_path)) == 2
    (tmp_path / "dashboards").mkdir()
    for file in ("__init__.py", "start.py"):
        shutil.copy(REPOSITORY / "dashboards" / file, tmp_path / "dashboards")
    done = python(START, tmp_path)
    assert (done.returncode, done.stderr.count("another package is called")) == (3, 2), done.stderr
    assert done.stderr.count("in the place of Ratchet's own") == 2


def test_the_library_says_so_too(tmp_path: Path) -> None:
    file = package(tmp_path, "policies")
    done = python("from proxy import UsageLogger", tmp_path, REPOSITORY)
    assert done.returncode == 1
    assert (
        f"another package is called `policies`, which is the name of one of Ratchet's: Python finds {file}"
        in done.stderr
    )
