"""Are the programs that the configuration names there: the functions that train and judge, the commands?

Looked for without running any of them. `ratchet check-config` refuses what is missing; a server only warns, because
traffic must not stop for a training that is due in a week.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from proxy.config import forms
from proxy.config.literal import show
from proxy.config.model import Config, TelemetryConfig
from proxy.config.parse import Problem, nearest
from proxy.errors import ConfigError

__all__ = ["OtlpTarget", "missing_programs", "otlp_target"]

_OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OTLP_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_OTLP_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpTarget:
    """Where telemetry goes."""

    endpoint: str
    """Base URL."""
    headers: Mapping[str, str] = field(repr=False)


def missing_programs(config: Config) -> Iterator[Problem]:
    """One Problem for each program that is named and not found here, in this working directory and environment."""
    trainer = config.trainer
    if trainer.kind == "callable" and trainer.callable and (complaint := _function(trainer.callable)) is not None:
        yield Problem("trainer.callable", complaint)
    judge = config.judge
    if judge.kind == "callable" and judge.callable and (complaint := _function(judge.callable)) is not None:
        yield Problem("judge.callable", complaint)
    for table, settings in (("trainer", config.trainer), ("deployer", config.deployer)):
        if settings.kind == "command" and settings.command and (complaint := _command(settings.command[0])) is not None:
            yield Problem(f"{table}.command", complaint)


def otlp_target(telemetry: TelemetryConfig, environ: Mapping[str, str] = os.environ) -> OtlpTarget | None:
    """Where telemetry goes, and with which headers; None where none is sent. The environment's word counts only where
    `telemetry.otlp_endpoint` is `env`. Raises ConfigError where that names nothing, or without the extra `otel`."""
    endpoint, headers = telemetry.otlp_endpoint, telemetry.otlp_headers
    if endpoint is None:
        return None
    if endpoint == "env":
        endpoint, headers = environ.get(_OTLP_ENDPOINT, ""), headers or environ.get(_OTLP_HEADERS)
        if (complaint := forms.base_url(endpoint)) is not None:
            raise ConfigError(
                f"telemetry.otlp_endpoint: env, but the environment variable {_OTLP_ENDPOINT} "
                + (complaint if endpoint else "is not set; set it, or write the URL in the setting")
            )
        if headers and (complaint := forms.otlp_headers(headers)) is not None:
            raise ConfigError(f"telemetry.otlp_endpoint: env, but the environment variable {_OTLP_HEADERS} {complaint}")
    if not all(map(_installed, _OTLP_PACKAGES)):
        raise ConfigError(
            "telemetry.otlp_endpoint: OpenTelemetry's packages are not installed; "
            "install the extra: pip install 'ratchet-proxy[otel]', or take the setting out"
        )
    return OtlpTarget(endpoint=endpoint, headers=_headers(headers or ""))


def _installed(package: str) -> bool:
    """Looks only; the packages around it, which are folders of several distributions, hold no code."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def _headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded."""
    pairs = (pair.strip().partition("=") for pair in text.split(","))
    return {name.strip(): unquote(value.strip()) for name, mark, value in pairs if mark and name.strip()}


def _command(program: str) -> str | None:
    if "{" in program or shutil.which(program) is not None:
        return None
    return f"{show(program)} is not a program that can be run from {os.getcwd()}; install it, or write its full path"


def _function(target: str) -> str | None:
    module, _, name = target.partition(":")
    spec = _spec(module)
    if spec is None:
        where = f"neither in {os.getcwd()} nor among the installed packages"
        return f"{show(target)}: there is no module {module}, {where}; start there, or install it"
    names = _names(spec)
    first = name.partition(".")[0]
    if names is None or first in names:
        return None
    near = nearest(first, names)
    return f"{show(target)}: {spec.origin} has no {first}; " + (
        f"did you mean {near}?" if near else "name the function"
    )


def _spec(module: str) -> ModuleSpec | None:
    """Where `module` comes from; no package is imported to find out."""
    path = [os.getcwd()]
    found: ModuleSpec | None = None
    for depth, part in enumerate(parts := module.split(".")):
        name = ".".join(parts[: depth + 1])
        try:
            found = PathFinder.find_spec(name, path)
        except KeyError:  # a folder without code inside another one, which would have to be imported first
            path = [folder for place in path if os.path.isdir(folder := os.path.join(place, part))]
            continue
        if found is None and depth == 0:
            found = importlib.util.find_spec(name)
        if found is None:
            return None
        path = list(found.submodule_search_locations or ())
    return found


def _names(spec: ModuleSpec) -> set[str] | None:
    """What the module's text defines or imports; None where that cannot be told by reading it."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if names & {"*", "__getattr__"} else names
