"""How the package is built: its description, and with `RATCHET_COMPILE=1` its hot path compiled by mypyc.

Without that variable a build needs no compiler and makes a wheel for every Python. With it, the modules that
pyproject.toml names under `[tool.ratchet]` become one extension for the Python at hand, and their sources go along, for
tracebacks. `python hatch_build.py` (`make fast`) compiles them in place, in a checkout.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

COMPILES = "RATCHET_COMPILE"
COMPILERS = ["mypy==2.4.*", "setuptools>=75"]  # the mypy that the tests have seen: another one compiles otherwise
_MYPY = """
[mypy]
strict = True
ignore_missing_imports = True
follow_imports = skip

[mypy-proxy.*,policies.*,mypy_extensions]
follow_imports = silent
"""
"""Sources of other packages (SQLAlchemy, pydantic, …) are not read: it takes twenty seconds, for the same code. What
then seems wrong in our modules that are not compiled is `make lint`'s to judge."""
_BUILD = """
import sys
from pathlib import Path
from mypyc.build import include_dir, mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

config, work, target, level, *modules = sys.argv[1:]
extensions = mypycify(["--config-file", config, *modules], opt_level=level, target_dir=work, group_name="ratchet")
# mypyc 2.4 raises SystemError for bytes[5:3]. What is here is included in the place of that file of its runtime.
slices = Path(include_dir(), "bytes_ops.c").read_text()
slices = slices.replace("slice_len = endn - startn;", "slice_len = endn > startn ? endn - startn : 0;")
Path(work, "bytes_ops.c").write_text(slices)
command = build_ext(Distribution({"name": "ratchet", "ext_modules": extensions}))
command.build_lib, command.build_temp = target, work
command.ensure_finalized()
command.run()
"""
"""Run from the root of the sources by a process of its own: setuptools would read the pyproject.toml of ours."""


class AbsoluteLinks(MetadataHookInterface):
    """Called by hatchling, see `[tool.hatch.metadata.hooks.custom]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, metadata["urls"]["Source"])}


def absolute(text: str, source: str) -> str:
    """`text` with each relative link as one to the main branch of `source`; of a picture, to the picture alone."""

    def target(match: re.Match[str]) -> str:
        shows = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({source}/{shows}/main/{match[3]})"

    return re.sub(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", target, text)


class CompiledHotPath(BuildHookInterface[Any]):
    """Called by hatchling, see `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def dependencies(self) -> list[str]:
        """What a build needs beside hatchling: the types of what is imported come from the packages themselves."""
        return [*COMPILERS, *project(Path(self.root))["project"]["dependencies"]] if _wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the wheel hold what came of it. An editable install is left as it is."""
        if version == "editable" or not _wanted():
            return
        if lacks := missing_to_compile():
            raise SystemExit(f"{COMPILES} is set, but {lacks}")
        self._target = tempfile.TemporaryDirectory()
        built = compile_into(Path(self._target.name), Path(self.root))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] |= {str(file): str(file.relative_to(self._target.name)) for file in built}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if hasattr(self, "_target"):
            self._target.cleanup()


def project(root: Path) -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def compiled_modules(root: Path) -> list[str]:
    """The files that are compiled, relative to `root`."""
    listed = project(root)["tool"]["ratchet"]
    wanted, left_out = (
        {str(file.relative_to(root)) for pattern in listed[name] for file in root.glob(pattern)}
        for name in ("compiled", "not-compiled")
    )
    return sorted(wanted - left_out)


def missing_to_compile() -> str | None:
    """What this machine lacks to compile for the Python at hand, and how to install it; None where it lacks nothing."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    headers = Path(sysconfig.get_path("include"))
    if shutil.which(command[0]) is None:
        return f"there is no C compiler ({command[0]}). On Debian: apt-get install gcc libc6-dev python3-dev"
    if not (headers / "Python.h").exists():
        return f"Python's headers are not here: {headers}/Python.h is missing. On Debian: apt-get install python3-dev"
    asked = [*command, "-E", f"-I{headers}", "-xc", "-"]
    tried = subprocess.run(asked, input="#include <Python.h>", capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"the C compiler cannot read Python.h:\n{tried.stderr}\nOn Debian: apt-get install libc6-dev"
    return None


def compile_into(target: Path, root: Path) -> list[Path]:
    """Compile the hot path of the sources below `root`, and return the extensions, which are below `target`. Raises
    CalledProcessError where that fails; its output says why."""
    with tempfile.TemporaryDirectory() as work:
        config = Path(work) / "mypy.ini"
        config.write_text(_MYPY, encoding="utf-8")
        level = os.environ.get("MYPYC_OPT_LEVEL", "3")
        arguments = [str(config), work, str(target), level, *compiled_modules(root)]
        environ = {**os.environ, "CFLAGS": f"-I{work} {os.environ.get('CFLAGS', '')} -g0"}
        subprocess.run([sys.executable, "-c", _BUILD, *arguments], cwd=root, env=environ, check=True)
    return sorted(target.rglob("*.so")) + sorted(target.rglob("*.pyd"))


def compile_in_place(root: Path) -> None:
    """Compile the hot path of a checkout into it: all of it or nothing, whatever ends this. Its parts know each other,
    and some beside the sources of others do not work."""
    with tempfile.TemporaryDirectory() as target:
        for extension in compile_into(Path(target), root):
            shutil.copy2(extension, root / extension.relative_to(target))


def remove_compiled(root: Path) -> None:
    """Have the sources of a checkout serve again."""
    for extension in (*root.glob("*__mypyc*.so"), *root.glob("p*/**/*.so")):
        extension.unlink()


def _wanted() -> bool:
    return os.environ.get(COMPILES, "") not in ("", "0")


if __name__ == "__main__":
    _root = Path(__file__).resolve().parent
    remove_compiled(_root)
    if sys.argv[1:] != ["remove"]:
        if _lacks := missing_to_compile():
            sys.exit(f"The hot path is not compiled: {_lacks}")
        try:
            compile_in_place(_root)
        except subprocess.CalledProcessError:
            sys.exit("The hot path is not compiled: the reason is above.")
