"""examples/deploy holds together: settings exist, paths and names meet, and each tool that is here accepts its file.

Kubernetes' own schemas and hadolint come from PyPI, so they are always here where CI runs.

Images are not built and nothing is started in containers; `docs/how-to/deploy.md` says the same.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.common import Exit
from proxy.config import Config, check_serving, load_config
from proxy.config.load import load_document
from tests.harness.late import late
from tests.harness.require import need

kubernetes_validate = late("kubernetes_validate")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples/deploy"
SERVICE_KEYS = {"build", "image", "restart", "depends_on", "environment", "secrets", "ports", "extra_hosts", "volumes",
                "stop_grace_period", "healthcheck", "command", "read_only", "cap_drop", "security_opt", "pids_limit",
                "user", "mem_limit", "shm_size", "tmpfs"}  # fmt: skip
"""Keys of a service in the Compose specification that ours use: a misspelt one is none of them."""
SECRETS = {"admin_token": "0123456789abcdef", "store_url": "postgresql://ratchet:x@postgres/ratchet"}


def from_environment(names: dict[str, str], tmp_path: Path) -> Config:
    """The configuration that these RATCHET_ variables make; mounted secrets are put below `tmp_path`."""
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
    mounted = {name: value.replace("/run/secrets", str(tmp_path)) for name, value in names.items()}
    return load_document({}, {}, mounted)


def image_environment() -> dict[str, str]:
    text = (DEPLOY / "Dockerfile").read_text()
    return dict(re.findall(r"(RATCHET_[A-Z_]+)=(\S+)", text))


def documents() -> list[dict[str, Any]]:
    """All of the kustomize base."""
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    files = [DEPLOY / "kubernetes" / name for name in kustomization["resources"]]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] == kind]


def test_the_image_is_built_from_what_there_is(tmp_path: Path) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = {name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for name in line.split()[:-1]}
    assert {name for name in sources if not (ROOT / name).exists()} == set()
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == sources
    config = from_environment(image_environment(), tmp_path)
    assert (config.server.host, config.admin.host) == ("0.0.0.0", "127.0.0.1")
    assert f"VOLUME {config.server.data_dir}" in text


def test_compose_gives_settings_that_serve(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    given = {
        name: re.sub(r"\$\{RATCHET_CHAMPION_URL.*\}", "http://model:8000", value)
        for name, value in compose["services"]["ratchet"]["environment"].items()
    }
    config = from_environment(image_environment() | given, tmp_path)
    check_serving(config)
    assert (config.admin.token, config.store.url) == (SECRETS["admin_token"], SECRETS["store_url"])
    named = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    named |= {secret["environment"] for secret in compose["secrets"].values()}
    example = (DEPLOY / "compose/example.env").read_text()
    assert named == set(re.findall(r"^([A-Z_]+)=", example, re.M))


def test_compose_mounts_what_there_is() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    paths = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(paths) == 5
    assert [path for path in paths if not (DEPLOY / path).exists()] == []
    assert {mount.split(":")[0] for mount in mounts if not mount.startswith(".")} == compose["volumes"].keys()
    for name in ("prometheus.yml", "recording.rules.yml", "alerts.rules.yml"):
        assert any(mount.endswith(f"/{name}:ro") for mount in mounts)


def test_nothing_in_compose_may_more_than_it_needs() -> None:
    """As in Kubernetes, where the same is asked of every pod."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not {"cap_add", "privileged"} & service.keys(), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].partition(":")[0] not in ("", "0", "root"), name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"]), name
    [user] = re.findall(r"^USER (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert services["ratchet"]["user"] == user
    published = {port for service in services.values() for port in service.get("ports", [])}
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"8080:8080"}


def test_every_pod_may_no_more_than_it_needs() -> None:
    [job], [state] = of_kind("CronJob"), of_kind("StatefulSet")
    for pod in (job["spec"]["jobTemplate"]["spec"]["template"]["spec"], state["spec"]["template"]["spec"]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]


def test_only_the_monitoring_reaches_the_admin_port() -> None:
    [state] = of_kind("StatefulSet")
    labels = state["spec"]["template"]["metadata"]["labels"]
    [policy] = [one for one in of_kind("NetworkPolicy") if one["spec"]["podSelector"]["matchLabels"] == labels]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    senders = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
    assert all(len(rule["ports"]) == 1 for rule in policy["spec"]["ingress"])
    ports = state["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert senders.keys() == {port["name"] for port in ports}
    assert senders["http"] is None
    assert senders["admin"]
    assert all(sender.keys() == {"namespaceSelector"} for sender in senders["admin"])
    for rule in senders["admin"]:
        assert rule["namespaceSelector"]["matchLabels"]
    covered = [one["spec"]["podSelector"]["matchLabels"] for one in of_kind("NetworkPolicy")]
    [job] = of_kind("CronJob")
    assert job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"] in covered


def test_prometheus_in_compose_is_the_example_but_for_the_address() -> None:
    ours, example = (
        yaml.safe_load((folder / "prometheus.yml").read_text())
        for folder in (DEPLOY / "compose", ROOT / "dashboards/prometheus")
    )
    for content in (ours, example):
        content["scrape_configs"][0]["static_configs"] = []
    assert ours == example


def test_the_config_map_serves(tmp_path: Path) -> None:
    for name in ("admin-token", "store-url"):
        (tmp_path / name).write_text(SECRETS[name.replace("-", "_")])
    text = (DEPLOY / "kubernetes/config.toml").read_text()
    changed = tmp_path / "config.toml"
    changed.write_text(text.replace("/run/secrets/ratchet", str(tmp_path)))
    config = load_config(changed)
    check_serving(config)
    [state] = of_kind("StatefulSet")
    pod = state["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {config.server.data_dir, "/run/secrets/ratchet", "/etc/ratchet"} <= mounts
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert ports == {"http": config.server.port, "admin": config.admin.port}
    assert pod["terminationGracePeriodSeconds"] >= config.server.drain_seconds + 20


def test_names_meet_in_the_kustomize_base() -> None:
    [state] = of_kind("StatefulSet")
    labels = state["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in of_kind("Service")]
    selectors += [thing["spec"]["selector"]["matchLabels"] for thing in (state, *of_kind("PodDisruptionBudget"))]
    assert all(selector == labels for selector in selectors)
    assert state["spec"]["serviceName"] in {service["metadata"]["name"] for service in of_kind("Service")}
    [job] = of_kind("CronJob")
    archiving = job["spec"]["jobTemplate"]["spec"]["template"]
    assert archiving["metadata"]["labels"] != labels  # or clients would be sent to it
    for pod in (state["spec"]["template"]["spec"], archiving["spec"]):
        claims = state["spec"]["volumeClaimTemplates"] if pod is not archiving["spec"] else []
        volumes = {v["name"] for v in pod["volumes"]} | {claim["metadata"]["name"] for claim in claims}
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    container = state["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/-/health", "port": "http"}


@pytest.mark.parametrize("version", ["1.30", "newest"])
def test_kubernetes_knows_every_field(version: str) -> None:
    known = kubernetes_validate.latest_version() if version == "newest" else version
    for document in documents():
        kubernetes_validate.validate(document, known, strict=True)


def test_a_misspelt_field_would_be_seen() -> None:
    [budget] = of_kind("PodDisruptionBudget")
    budget["spec"]["maxUnavailible"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="maxUnavailible"):
        kubernetes_validate.validate(budget, kubernetes_validate.latest_version(), strict=True)


def test_what_kustomize_is_asked_to_change_is_there() -> None:
    """`kustomize build` says nothing when a name that it is to replace does not occur."""
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    pods = [state["spec"]["template"]["spec"] for state in of_kind("StatefulSet")]
    pods += [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in of_kind("CronJob")]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {image["name"] for image in kustomization["images"]}
    named = {volume["configMap"]["name"] for pod in pods for volume in pod["volumes"] if "configMap" in volume}
    assert named == {generator["name"] for generator in kustomization["configMapGenerator"]}
    files = [name for generator in kustomization["configMapGenerator"] for name in generator["files"]]
    assert all((DEPLOY / "kubernetes" / name).is_file() for name in [*files, *kustomization["resources"]])


def test_hadolint_has_nothing_to_say_about_the_image() -> None:
    program = Path(sys.executable).with_name("hadolint")
    need("hadolint", program.exists())
    said = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=300, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_compose_refers_to_what_it_declares() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("depends_on", {})) <= compose["services"].keys()
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        assert ("build" in service) or re.search(r":\w", service["image"]), f"{name}: an image without a version"
        for dependency, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in compose["services"][dependency]


def test_kustomize_builds_the_base() -> None:
    need("kubectl", shutil.which("kubectl") is not None, extra=True)
    built = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / "kubernetes"], capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    assert {document["metadata"].get("namespace", "ratchet") for document in documents} == {"ratchet"}
    [config] = [document for document in documents if document["kind"] == "ConfigMap"]
    [state] = [document for document in documents if document["kind"] == "StatefulSet"]
    volumes = state["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": config["metadata"]["name"]}} in volumes
    assert state["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/ratchet:0.1.0"


def test_the_service_never_reaches_systemds_limit_of_starts() -> None:
    """Five starts within ten seconds are the default; whatever ends at once must be two seconds apart, and an end that
    needs a person (statuses of `ratchet serve`) is none to repeat."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd/ratchet.service")
    service = unit["Service"]
    assert not any(key.startswith("StartLimit") for section in unit.values() for key in section)
    assert service["Restart"] == "always"
    assert 5 * float(service["RestartSec"]) >= 10
    assert service["RestartPreventExitStatus"].split() == [str(int(Exit.USAGE)), str(int(Exit.CONFIG))]
    assert "ExecStartPre" not in service, "its end would be repeated whatever its status"


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    need("systemd-analyze", shutil.which("systemd-analyze") is not None, extra=True)
    for file in unit.parent.iterdir():  # /opt/ratchet does not exist on this machine
        (tmp_path / file.name).write_text(
            file.read_text().replace("/opt/ratchet/bin/ratchet", shutil.which("true") or "")
        )
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    complaints = [line for line in checked.stderr.splitlines() if "ratchet" in line]
    assert (checked.returncode, complaints) == (0, [])
