"""What a release is made of: `make dist`, `make sbom`, and `make release-check` before a version is tagged.

`python -m tests.harness.release dist` builds the source archive, and the wheel from it, twice: the same sources make
the same bytes, and both hold what git knows of the packages, no more and no less. With RATCHET_COMPILE=1 it adds a
wheel for this Python and this machine, its hot path compiled; cibuildwheel makes those of a release. `sbom` lists what
a server installs, as uv.lock has it. `check` says what is still missing before this version may be tagged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hatch_build import COMPILES, compiled_modules
from proxy.version import __version__
from tests.harness.pages import ROOT

__all__ = [
    "bill_of_materials",
    "build",
    "compiled_wheel",
    "extensions",
    "files_in_git",
    "held_by",
    "missing_before_a_tag",
    "uv",
]

DIST: Final = ROOT / "dist"
SERVER_EXTRAS: Final = ("archive", "otel")
"""What a server may have besides the dependencies; the other extras are for a demo, a training, or a check of files."""
BESIDE_THE_CODE: Final = (
    "config.example.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "pyproject.toml",
    "hatch_build.py",
    ".gitignore",
)
_NOT_SHIPPED: Final = "dashboards/prometheus/tests/"


def uv() -> str | None:
    """The uv that `make` installs, or the one on the path."""
    own = ROOT / ".venv/.uv/bin/uv"
    return str(own) if own.exists() else shutil.which("uv")


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _last_change_s() -> str:
    """When the newest commit was made, in seconds since 1970: the time of all files in what is built."""
    return os.environ.get("SOURCE_DATE_EPOCH") or _run("git", "log", "-1", "--format=%ct").strip()


def build(directory: Path) -> tuple[Path, Path]:
    """The source archive and the wheel that is built from it, below `directory`."""
    _build(directory)
    [source], [wheel] = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return source, wheel


def compiled_wheel(directory: Path, source: Path) -> Path:
    """The wheel of a source archive for the Python at hand, compiled, below `directory`."""
    before = set(directory.glob("*.whl"))
    _build(directory, "--wheel", "--python", sys.executable, str(source), compiled="1")
    [wheel] = {*directory.glob("*.whl")} - before
    return wheel


def extensions(wheel: Path) -> set[str]:
    """What a compiled wheel has for one Python alone: an extension for each compiled module, and one of all code."""
    return {name for name in held_by(wheel) if name.endswith((".so", ".pyd"))}


def _build(directory: Path, *what: str, compiled: str = "") -> None:
    times = {"SOURCE_DATE_EPOCH": _last_change_s(), COMPILES: compiled}
    _run(uv() or "uv", "build", "--quiet", "--out-dir", str(directory), *what, **times)


def held_by(archive: Path) -> set[str]:
    """The names of the files in a wheel, or in a source archive without its leading folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as source:
        return {member.name.partition("/")[2] for member in source if member.isfile()}


def files_in_git() -> set[str]:
    """The files of the packages, as git knows them: what a release ships."""
    names = _run("git", "ls-files", "-co", "--exclude-standard", "proxy", "policies", "dashboards").splitlines()
    return {name for name in names if not name.startswith(_NOT_SHIPPED) and (ROOT / name).is_file()}


def bill_of_materials() -> dict[str, Any]:
    """What a server installs, as CycloneDX, with hashes and who asks for what: the same bytes for the same uv.lock."""
    extras = [part for extra in SERVER_EXTRAS for part in ("--extra", extra)]
    exported = _run(uv() or "uv", "export", "--quiet", "--frozen", "--no-default-groups", *extras,
                    "--format", "cyclonedx1.5")  # fmt: skip
    bill: dict[str, Any] = json.loads(exported)
    del bill["serialNumber"]
    bill["metadata"]["timestamp"] = datetime.fromtimestamp(int(_last_change_s()), UTC).isoformat()
    bill["metadata"]["component"] |= {"version": __version__, "licenses": [{"license": {"id": "Apache-2.0"}}]}
    from cyclonedx.schema import SchemaVersion  # late: a second, which whoever collects tests would pay, too
    from cyclonedx.validation.json import JsonStrictValidator

    if mistake := JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(_shortened(bill))):
        raise SystemExit(f"the bill of materials is no CycloneDX 1.5: {mistake}")
    return bill


def _shortened(bill: dict[str, Any]) -> dict[str, Any]:
    """With one file for each package: the validator compares each of a hundred wheels with all others, for minutes."""
    parts = [part | {"externalReferences": part["externalReferences"][:1]} for part in bill["components"]]
    return bill | {"components": parts}


def missing_before_a_tag(changelog: str, notes: str, version: str) -> list[str]:
    """What the pages still lack before `version` may be tagged: one sentence each, with what to do."""
    newest = re.search(r"^## (.+)$", changelog, re.MULTILINE)
    missing = []
    if newest is None or not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", newest[1]):
        found = newest[1] if newest else "nothing"
        missing.append(f"CHANGELOG.md begins with {found}: it must be `## {version} (YYYY-MM-DD)`")
    if not re.search(rf"^### {re.escape(version)}$", notes, re.MULTILINE):
        missing.append(f"docs/how-to/upgrade-and-backup.md has no `### {version}`: say what changes for who upgrades")
    return missing


def _dist() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    made = build(DIST)
    with tempfile.TemporaryDirectory() as again:
        for one, two in zip(made, build(Path(again)), strict=True):
            if one.read_bytes() != two.read_bytes():
                raise SystemExit(f"{one.name}: two builds of the same sources differ")
    source, wheel = made
    expected: list[tuple[Path, set[str]]] = [(source, {*BESIDE_THE_CODE, "PKG-INFO"}), (wheel, set())]
    if os.environ.get(COMPILES, "") not in ("", "0"):
        fast = compiled_wheel(DIST, source)
        expected.append((fast, extensions(fast)))
        if len(extensions(fast)) != len(compiled_modules(ROOT)) + 1:
            raise SystemExit(f"{fast.name}: not every module that pyproject.toml names is compiled")
    (DIST / ".gitignore").unlink(missing_ok=True)
    for archive, beside in expected:
        packed = {name for name in held_by(archive) if ".dist-info/" not in name} - beside
        if packed != (shipped := files_in_git()):
            raise SystemExit(f"{archive.name}: too much or too little: {sorted(packed ^ shipped)[:20]}")
        print(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.relative_to(ROOT)}")


def _sbom() -> None:
    DIST.mkdir(exist_ok=True)
    file = DIST / f"ratchet_proxy-{__version__}.cdx.json"
    bill = bill_of_materials()
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    print(f"{file.relative_to(ROOT)}: {len(bill['components'])} packages")


def _check() -> None:
    changed = _run("git", "status", "--porcelain").strip()
    missing = [f"not committed:\n{changed}"] if changed else []
    missing += missing_before_a_tag(
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        (ROOT / "docs/how-to/upgrade-and-backup.md").read_text(encoding="utf-8"),
        __version__,
    )
    if f"v{__version__}" in _run("git", "tag").split():
        missing.append(f"v{__version__} is tagged already: raise __version__ in proxy/version.py")
    _run(uv() or "uv", "lock", "--check")
    _run(
        "hadolint", "examples/deploy/Dockerfile", PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if missing:
        raise SystemExit("\n".join([f"{__version__} cannot be tagged yet:", *(f"* {line}" for line in missing)]))
    print(f"ready: git tag v{__version__}")


if __name__ == "__main__":
    {"dist": _dist, "sbom": _sbom, "check": _check}[sys.argv[1]]()
