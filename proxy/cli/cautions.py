"""What is worth a word before a start, and stops none: `ratchet check-config` lists it, `ratchet serve` warns of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["certificate_ended", "certificate_ends_soon", "settings_file_open"]

_SOON_S: Final = 14 * 86400.0
"""So long before its end a certificate is worth a note."""


def settings_file_open(source: Path | None) -> list[str]:
    """Of a settings file with a secret in it that other users of this machine may read."""
    from proxy.config.load import secrets_in
    from proxy.private import looser

    loose = [] if source is None else list(looser([source]))
    if source is None or not loose or not (named := secrets_in(source)):
        return []
    return [f"{sentence} (it holds {', '.join(named)})" for sentence in loose]


def certificate_ended(config: Config) -> str | None:
    """Where the public port's certificate is not good now: a sentence."""
    from proxy.clock import SystemClock

    if config.server.tls_cert_file is None:
        return None
    first, last = _validity(config.server.tls_cert_file)
    now = SystemClock().now()
    if first is not None and now < first:
        return f"server.tls_cert_file: {config.server.tls_cert_file} is good from {_day(first)} on; check the clock"
    if last is not None and now > last:
        return f"server.tls_cert_file: {config.server.tls_cert_file} ended on {_day(last)}; renew it"
    return None


def certificate_ends_soon(config: Config) -> list[str]:
    """Of the public port's certificate, where there is little time left: a sentence."""
    from proxy.clock import SystemClock

    if config.server.tls_cert_file is None:
        return []
    _, last = _validity(config.server.tls_cert_file)
    if last is None or last - SystemClock().now() > _SOON_S:
        return []
    return [f"server.tls_cert_file: {config.server.tls_cert_file} ends on {_day(last)}; renew it before that"]


def _validity(file: str) -> tuple[float | None, float | None]:
    """None where it cannot be told: what cannot be loaded is named elsewhere."""
    from proxy.config.certificates import valid_between

    try:
        return valid_between(Path(file))
    except (OSError, ValueError):
        return None, None


def _day(at: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
