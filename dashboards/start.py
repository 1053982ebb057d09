"""Where the `ratchet` command begins: outside of the package `proxy`, so that it can say who else is called that.

`proxy` and `policies` are names that others have, too: an installed package, or a folder on PYTHONPATH. Python takes
whichever comes first, and what follows is an error that names neither.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

__all__ = ["main", "strangers"]

_BEGINS = {"proxy": '"""Ratchet: ', "policies": '"""Decisions, as functions '}
"""Of our packages, how their first file begins: two that are installed into one folder share it, and one wins."""
_ROOT = Path(__file__).resolve().parents[1]
_US = "ratchet-proxy"


def main() -> None:
    """The entry point of `ratchet`; exit status 3 where a package of ours is not to be had."""
    if found := strangers():
        print("\n".join(f"ratchet: {sentence}" for sentence in found), file=sys.stderr)
        sys.exit(3)
    from proxy.cli import main as ratchet

    ratchet()


def strangers(root: Path = _ROOT) -> list[str]:
    """A sentence for each of our packages whose name somebody else has: what, where, and how to mend it. `root` is the
    folder that ours are in. Imports none of them."""
    return [_sentence(name, found, root) for name in _BEGINS if (found := _stranger(name, root)) is not None]


def _stranger(name: str, root: Path) -> str | None:
    """What Python finds under this name, where that is not ours."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return "nothing"
    if spec.origin is None:
        return ", ".join(spec.submodule_search_locations or ())
    file = Path(spec.origin).resolve()
    ours = file == root / name / "__init__.py" and file.read_text("utf-8").startswith(_BEGINS[name])
    return None if ours else str(file)


def _sentence(name: str, found: str, root: Path) -> str:
    owners = [owner for owner in packages_distributions().get(name, ()) if owner != _US]
    whose = f", of {' and '.join(f'{owner} {version(owner)}' for owner in owners)}," if owners else ""
    away = f"pip uninstall {' '.join(owners)}" if owners else "rename it, or take its folder out of PYTHONPATH"
    where = "in the place of Ratchet's own" if Path(found).parent == root / name else "before Ratchet's own"
    return (
        f"another package is called `{name}`: Python finds {found}{whose} {where} in {root / name}. Give "
        f"Ratchet an environment of its own (python -m venv), or remove the other ({away}) and install Ratchet again "
        f"(pip install --force-reinstall {_US})"
    )


if __name__ == "__main__":
    main()
