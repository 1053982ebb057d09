"""Every command of the page of Kubernetes is run by sh, before a real Ratchet: kubectl and docker are stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.harness.manifests import BASE, DEPLOY, OVERLAY, the
from tests.harness.model_server import create_model_server
from tests.harness.pages import ROOT, blocks
from tests.harness.require import need
from tests.harness.sdk import Way
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

SHELL: Final = [block.text for block in blocks(ROOT / "docs/how-to/kubernetes.md") if block.language == "sh"]
KUBECTL: Final = """#!/bin/sh
echo "$*" >> "$TOLD"
case "$*" in
  *" exec ratchet-0 -- "*)
    while [ "$1" != -- ]; do shift; done; shift
    exec env RATCHET_CONFIG="$CONFIG" "$@" ;;
  *"port-forward service/ratchet 8080:80") exec sleep 60 ;;
  *"get secret"*) printf secret | base64 ;;
esac
"""
"""A cluster in which the pod is this machine."""


def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    """In a copy of the checkout; what is asked of kubectl names what there is."""
    for program in ("curl", "openssl", "base64"):
        need(program, shutil.which(program) is not None)
    shutil.copytree(DEPLOY, tmp_path / "examples/deploy")
    told = _run_the_page(tmp_path)
    [applied] = [line.split()[-1] for line in told if line.startswith("apply -k ")]
    assert (tmp_path / applied / "kustomization.yaml").is_file()
    [secret] = [line for line in told if " create secret " in line]
    used = set(re.findall(r"/run/secrets/ratchet/([a-z-]+)", (OVERLAY / "config.toml").read_text()))
    assert set(re.findall(r"--from-literal=([a-z-]+)=", secret)) == {*used, "postgres-password"}
    built = [line.split() for line in "".join(SHELL).splitlines() if line.startswith("docker build")]
    assert [(words[3], words[-1]) for words in built] == [
        ("examples/deploy/Dockerfile", "."), ("examples/deploy/kubernetes-loop/Dockerfile", "examples/lora"),
    ]  # fmt: skip
    waited = re.findall(r"rollout status (\w+)/(\w+)", "\n".join(told))
    kinds = {"statefulset": "StatefulSet", "deployment": "Deployment"}
    assert len([the(kinds[kind], name) for kind, name in waited]) == 3
    forwarded = re.findall(r"port-forward service/([a-z-]+) \d+:(\d+)", "\n".join(told))
    services = [yaml.safe_load_all((BASE / "service.yaml").read_text())]
    ports = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for found in services for one in found}
    assert [(name, int(port)) for name, port in forwarded if ports[name] != int(port)] == []
    for name in ("kubernetes/kustomization.yaml", "kubernetes-loop/job.json"):
        assert "mine.example.org/ratchet" in (tmp_path / "examples/deploy" / name).read_text()
    for name in ("model.yaml", "job.json", "config.toml"):
        text = (OVERLAY / name).read_text()
        mine = (tmp_path / "examples/deploy/kubernetes-loop" / name).read_text()
        assert mine.count("me/mine") == text.count("Qwen/Qwen3-0.6B") == 1


def _run_the_page(directory: Path) -> list[str]:
    """What kubectl was told; the requests reach a real Ratchet, whose record has the page's vote."""
    programs = directory / "bin"
    programs.mkdir()
    for name, text in (("kubectl", KUBECTL), ("docker", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    with (
        serving_in_thread(create_model_server()) as url,
        RatchetProcess(directory / "ratchet", champion=url) as ratchet,
    ):
        ratchet.await_admin()
        way = Way(direct=url, proxied=ratchet.base_url, ratchet=ratchet)
        script = "\n".join(SHELL).replace("http://127.0.0.1:8080", ratchet.base_url)
        script = script.replace(" --config /etc/ratchet/config.toml", "")
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        environ = {**os.environ, "PATH": path, "TOLD": str(directory / "told"), "CONFIG": str(ratchet.config_file),
                   "REGISTRY": "mine.example.org", "MODEL": "me/mine"}  # fmt: skip
        done = subprocess.run(["sh", "-euc", script], cwd=directory, env=environ, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        [row] = way.records(text="Name a river in Kenya.", user="u42")
        await_true(lambda: request(ratchet.admin_url, f"/api/records/{row['record_id']}").json()["votes"], "the vote")
    return (directory / "told").read_text().splitlines()
