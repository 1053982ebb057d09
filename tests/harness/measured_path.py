"""How long somebody takes who has never seen Ratchet, from the clone to a model that has improved itself.

`python -m tests.harness.measured_path` follows docs/tutorial/quickstart.md from its first command to its last, as a
shell does that has nothing of this checkout: a clone, an environment of its own, packages from their index.
Reading and copying are not in it: a minute for each page of text is fair.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from time import monotonic

from tests.harness.pages import ROOT, Session, blocks, commands

__all__ = ["walked"]

_PAGE = ROOT / "docs/tutorial/quickstart.md"


def walked(home: Path) -> dict[str, float]:
    """Seconds that each part took. The clone is of this checkout's last commit, which nobody has to download."""
    install, *rest = blocks(_PAGE)
    clone, *lines = (command.line for command in commands(install))
    url = clone.split()[2]
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    began = monotonic()
    script = "\n".join(["set -e", clone.replace(url, f"{ROOT} ratchet"), *lines])
    subprocess.run(["bash", "-c", script], cwd=home, env=environ, check=True, stdout=subprocess.DEVNULL)
    installed = monotonic()
    directory = home / "first"
    directory.mkdir()
    path = os.pathsep.join([str(home / "ratchet/.venv/bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    Session(directory, environ={"PATH": path}).run(rest, limit_s=1200)
    return {"clone and install": installed - began, "from the first command to a promotion": monotonic() - installed}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for part, seconds in walked(Path(folder)).items():
            print(f"{part}: {seconds:.0f} s")
