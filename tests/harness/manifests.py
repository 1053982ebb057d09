"""The manifests of `examples/deploy`: the base of Kubernetes, and the overlay with the whole loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["BASE", "DEPLOY", "JOB", "KUSTOMIZATION", "OVERLAY", "base", "documents", "patched", "the"]

DEPLOY: Final = Path(__file__).parents[2] / "examples/deploy"
BASE: Final = DEPLOY / "kubernetes"
OVERLAY: Final = DEPLOY / "kubernetes-loop"
KUSTOMIZATION: Final[dict[str, Any]] = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())
JOB: Final[dict[str, Any]] = json.loads((OVERLAY / "job.json").read_text())


def documents() -> list[dict[str, Any]]:
    """All that the overlay adds to the base, its patch included."""
    names = [name for name in KUSTOMIZATION["resources"] if not name.startswith("..")]
    names += [patch["path"] for patch in KUSTOMIZATION["patches"]]
    return [document for name in names for document in yaml.safe_load_all((OVERLAY / name).read_text())]


def the(kind: str, name: str) -> dict[str, Any]:
    """The document of this kind and name in the overlay."""
    [found] = [one for one in documents() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def base(kind: str, name: str) -> dict[str, Any]:
    """The same in the base."""
    found = [one for file in BASE.glob("*.yaml") for one in yaml.safe_load_all(file.read_text()) if one["kind"] == kind]
    [one] = [one for one in found if one["metadata"]["name"] == name]
    return dict(one)


def patched() -> dict[str, Any]:
    """The base's StatefulSet with the patch, as kustomize lays it over: by name where there are names."""
    patch, whole = the("StatefulSet", "ratchet"), base("StatefulSet", "ratchet")
    over, pod = patch["spec"]["template"]["spec"], whole["spec"]["template"]["spec"]
    [more], [container] = over.pop("containers"), pod["containers"]
    assert more.keys() == {"name", "volumeMounts"}
    assert more["name"] == container["name"]
    container["volumeMounts"] += more["volumeMounts"]
    pod["volumes"] += over.pop("volumes")
    pod |= over
    return whole
