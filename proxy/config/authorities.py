"""Whose certificates are trusted where we call a server: the system's authorities, and those of `champion.ca_file`."""

from __future__ import annotations

import ssl
from pathlib import Path

from proxy.config.certificates import first_certificate
from proxy.errors import ConfigError

__all__ = ["trusting", "trusting_alone", "why_not_trusted"]


def trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS for calling servers that also trusts the authorities in `ca_file` (PEM); None without one: the system's are
    enough. Blocks: it reads files. Raises ConfigError."""
    if ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(Path(ca_file).expanduser())
    except OSError as exc:  # ssl.SSLError is one
        why = "it holds no certificate in PEM form" if isinstance(exc, ssl.SSLError) else exc.strerror or str(exc)
        raise ConfigError(
            f"champion.ca_file: {ca_file} cannot be used ({why}); give a PEM file with the certificate of the authority "
            "(-----BEGIN CERTIFICATE-----), readable by this user"
        ) from exc
    return context


def trusting_alone(cert_file: str) -> ssl.SSLContext:
    """TLS for calling whoever holds the first certificate in this PEM file, by whatever name. Raises OSError,
    ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=first_certificate(Path(cert_file).expanduser()))
    return context


def why_not_trusted(error: BaseException) -> str | None:
    """In words, where a call failed because nobody whom we trust vouches for the server's certificate; else None.

    Such an error has the number 1 as well, which is "operation not permitted" for everything else."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return None
    return (
        f"its certificate is not trusted ({cause.verify_message}); champion.ca_file names private authorities, or "
        "correct the host name in the URL"
    )
