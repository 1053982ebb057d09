"""Environment variables that look like settings and are none: an underscore is missing, or a letter.

None is a reason to refuse a start, for an orchestrator gives names of this form to the addresses of services. What has
two underscores behind its table is a setting, or refused as a misspelt one (`load.py`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

from proxy.config.load import ENV_PREFIX
from proxy.config.model import Config
from proxy.config.parse import keys

__all__ = ["mistaken_variables"]

_OF_A_SERVICE: Final = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)", re.ASCII)
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
_OF_COMMANDS: Final = {f"{ENV_PREFIX}{name}" for name in ("ADMIN_URL", "CONFIG", "URL", "DEMO_BUG", "PROCESS_TOKEN")}
_ALSO_OF_COMMANDS: Final = {f"{ENV_PREFIX}{name}" for name in ("ADMIN_TOKEN", "FEEDBACK_TOKEN")}
_ALIKE: Final = 0.85
"""So much alike is a name with a letter or two too few, too many or otherwise."""


def mistaken_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each, with the setting that was probably meant."""
    if not any(name.startswith(ENV_PREFIX) for name in environ):
        return []  # a start costs nothing then
    meant = {key.path.replace(".", "_"): ENV_PREFIX + key.path.upper().replace(".", "__") for key in keys(Config)}
    settings = set(meant.values())
    suspects = (name for name, value in environ.items() if name not in settings and _may_be_meant(name, value))
    return [_sentence(name, setting) for name in suspects if (setting := _nearest(name, meant)) is not None]


def _may_be_meant(name: str, value: str) -> bool:
    rest = name.removeprefix(ENV_PREFIX)
    return (
        name.startswith(ENV_PREFIX)
        and "__" not in rest
        and name not in _OF_COMMANDS
        and not _OF_A_SERVICE.fullmatch(rest)
        and not _ADDRESS.match(value)
    )


def _nearest(name: str, meant: Mapping[str, str]) -> str | None:
    near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX).lower(), meant, n=1, cutoff=_ALIKE)
    return meant[near[0]] if near else None


def _sentence(name: str, setting: str) -> str:
    if name in _ALSO_OF_COMMANDS:
        return f"the environment variable {name} is read by commands alone, not by a server: its setting is {setting}"
    return f"the environment variable {name} is not a setting and has no effect; did you mean {setting}?"
