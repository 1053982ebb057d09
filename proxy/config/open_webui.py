"""Settings of the link to Open WebUI, whose users' thumbs are fetched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.intervals import Interval
from proxy.config import forms

__all__ = ["OpenWebUIConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWebUIConfig:
    """Thumbs that people give in Open WebUI: the controller that leads fetches them from its API."""

    url: Annotated[str | None, forms.base_url] = None
    """Address of Open WebUI as this machine reaches it, e.g. http://open-webui:8080. None: nothing is fetched."""
    key: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """API key of an administrator of Open WebUI, which has to run with ENABLE_API_KEYS=true."""
    key_file: str | None = None
    """File that holds the key."""
    poll_seconds: Annotated[float, Interval("[1, inf)", "seconds")] = 60.0
    """Seconds between two looks. Its webhook to /-/openwebui makes the next one come at once."""
