"""The overlay with the whole loop holds together: names, rights, volumes and users meet, and its settings serve.

There is no cluster here. The schemas are Kubernetes' own, and the Job is created at a server that implements the API.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from proxy.config import check_serving, load_config
from proxy.config.loop import TrainerConfig
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Running, Succeeded, TrainingRun
from tests.contract.trainers.clusters import KubernetesApi
from tests.harness.late import late
from tests.harness.manifests import BASE, JOB, KUSTOMIZATION, OVERLAY, base, documents, patched, the
from tests.harness.programs import EXAMPLES
from tests.harness.require import need
from tests.harness.webserver import serving

kubernetes_validate = late("kubernetes_validate")


def pods() -> dict[str, dict[str, Any]]:
    """Whole pods of the overlay, by who they are."""
    return {
        "model": the("Deployment", "model")["spec"]["template"]["spec"],
        "postgres": the("StatefulSet", "postgres")["spec"]["template"]["spec"],
        "training": JOB["spec"]["template"]["spec"],
    }


@pytest.mark.parametrize("version", ["1.30", "newest"])
def test_kubernetes_knows_every_field(version: str) -> None:
    known = kubernetes_validate.latest_version() if version == "newest" else version
    added = [one for one in documents() if (one["kind"], one["metadata"]["name"]) != ("StatefulSet", "ratchet")]
    assert len(added) == len(documents()) - 1
    for document in [*added, patched(), JOB]:
        kubernetes_validate.validate(document, known, strict=True)


def test_kustomize_builds_the_overlay() -> None:
    need("kubectl", shutil.which("kubectl") is not None, extra=True)
    built = subprocess.run(["kubectl", "kustomize", OVERLAY], capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built.stdout)}
    assert {key for key in ((one["kind"], one["metadata"]["name"]) for one in documents()) if key not in found} == set()
    [name] = [name for kind, name in found if kind == "ConfigMap"]
    assert found["ConfigMap", name]["data"].keys() == {"config.toml", "job.json"}
    state = found["StatefulSet", "ratchet"]["spec"]
    assert (state["replicas"], state["template"]["spec"]["automountServiceAccountToken"]) == (2, True)
    volumes = {volume["name"] for volume in state["template"]["spec"]["volumes"]}
    assert volumes == {volume["name"] for volume in patched()["spec"]["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("who", pods())
def test_every_pod_may_no_more_than_it_needs(who: str) -> None:
    pod = pods()[who]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    claims = the("StatefulSet", "postgres")["spec"]["volumeClaimTemplates"] if who == "postgres" else []
    volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in claims}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_who_trains_who_serves_and_who_decides_share_one_volume_and_one_user() -> None:
    """Files of a training are readable by their user alone."""
    sharing = [patched()["spec"]["template"]["spec"], pods()["model"], pods()["training"]]
    claim = the("PersistentVolumeClaim", "ratchet-training")["metadata"]["name"]
    settings = (OVERLAY / "config.toml").read_text()
    for pod in sharing:
        [volume] = [one for one in pod["volumes"] if one["name"] == "training"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "training"]
        assert f'directory = "{mount["mountPath"]}"' in settings
    assert len({pod["securityContext"]["runAsUser"] for pod in sharing}) == 1


def test_only_ratchet_reaches_the_model_and_the_database() -> None:
    labels = base("StatefulSet", "ratchet")["spec"]["template"]["metadata"]["labels"]
    for name, kind in (("model", "Deployment"), ("postgres", "StatefulSet")):
        policy, pod = the("NetworkPolicy", name)["spec"], the(kind, name)["spec"]["template"]
        assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
        assert policy["policyTypes"] == ["Ingress"]
        [rule] = policy["ingress"]
        [port], [sender] = rule["ports"], rule["from"]
        assert port["port"] in {one["name"] for one in pod["spec"]["containers"][0]["ports"]}
        assert labels["app.kubernetes.io/component"] in json.dumps(sender["podSelector"])
        assert the("Service", name)["spec"]["selector"] == pod["metadata"]["labels"]


def test_the_service_account_may_do_what_the_trainer_does() -> None:
    """As the reference of trainers says it."""
    binding, role = the("RoleBinding", "ratchet-training"), the("Role", "ratchet-training")
    account = the("StatefulSet", "ratchet")["spec"]["template"]["spec"]["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert allowed == {("jobs", "create"), ("jobs", "get"), ("jobs", "patch"), ("pods", "list"), ("pods/log", "get")}


def test_the_image_of_the_training_is_built_from_what_there_is() -> None:
    dockerfile = OVERLAY / "Dockerfile"
    context = EXAMPLES / "lora"
    copied = re.findall(r"^COPY (\S+)", dockerfile.read_text(), re.MULTILINE)
    assert [name for name in copied if not (context / name).is_file()] == []
    assert "BASE_MODEL" in (context / "train.py").read_text()
    program = Path(sys.executable).with_name("hadolint")
    need("hadolint", program.exists())
    said = subprocess.run([program, dockerfile], capture_output=True, text=True, timeout=300, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_the_settings_serve(tmp_path: Path) -> None:
    secrets = {"admin-token": "0123456789abcdef" * 2, "feedback-token": "fedcba9876543210" * 2,
               "store-url": "postgresql://ratchet:x@postgres/ratchet"}  # fmt: skip
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    text = (OVERLAY / "config.toml").read_text().replace("/run/secrets/ratchet", str(tmp_path))
    (tmp_path / "config.toml").write_text(text.replace("/etc/ratchet", str(OVERLAY)))
    config = load_config(tmp_path / "config.toml")
    check_serving(config)
    assert f"://{the('Service', 'model')['metadata']['name']}:" in config.champion.url
    assert config.champion.url == config.deployer.url
    namespace = config.trainer.options["namespace"]
    assert (
        namespace
        == KUSTOMIZATION["namespace"]
        == yaml.safe_load((BASE / "kustomization.yaml").read_text())["namespace"]
    )
    model = config.champion.model
    assert f"--model={model}" in pods()["model"]["containers"][0]["args"]
    assert {"name": "BASE_MODEL", "value": model} in pods()["training"]["containers"][0]["env"]


TRAIN: Final = """
import json, pathlib, sys
data, folder, result = map(pathlib.Path, sys.argv[1:])
(model := folder / "adapter").mkdir()
(model / "weights").write_bytes(b"1")
result.write_text(json.dumps({"model_path": str(model), "lines": len(data.read_text().splitlines())}))
"""
"""What the image of the training has, in short."""


async def test_a_training_is_created_from_the_overlays_job(tmp_path: Path) -> None:
    """The image's program gets the paths, and what it writes is the result."""
    (train := tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/data.jsonl").write_text("{}\n" * 3)
    run = TrainingRun(run_id="run-1", data_path=tmp_path / "run/data.jsonl", holdout_path=None,
                      output_dir=tmp_path / "run", champion="base", timeout_s=60.0)  # fmt: skip
    options = {"namespace": KUSTOMIZATION["namespace"], "manifest": str(OVERLAY / "job.json")}
    cluster = KubernetesApi(options["namespace"], (sys.executable, str(train)))
    async with serving(cluster.app) as url:
        trainer = build_trainer(TrainerConfig(kind="kubernetes", url=url, options=options))
        handle = await trainer.start(run)
        while isinstance(status := await trainer.poll("run-1", handle), Running):
            await asyncio.sleep(0.02)
        await cluster.ended()
    assert isinstance(status, Succeeded), status
    assert (status.result["model_path"], status.result["lines"]) == (str(tmp_path / "run/adapter"), 3)
    created = cluster.jobs[handle["name"]].spec
    kubernetes_validate.validate({key: created[key] for key in JOB}, "1.30", strict=True)
