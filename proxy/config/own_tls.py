"""The public port's own certificate and key: loaded by workers, and tried before a worker is to have them."""

from __future__ import annotations

import ssl
from pathlib import Path

from proxy.config.authorities import trusting
from proxy.config.model import Config
from proxy.errors import ConfigError

__all__ = ["client_tls", "try_certificates"]


def try_certificates(config: Config) -> None:
    """Raise ConfigError where a file of certificates that the settings name cannot be used: a worker would not start."""
    client_tls(config)
    trusting(config.champion.ca_file)


class _EncryptedError(Exception):
    """A passphrase was asked for."""


def _no_passphrase() -> str:
    """In the place of OpenSSL's question at the terminal, which would wait for ever."""
    raise _EncryptedError


def client_tls(config: Config) -> ssl.SSLContext | None:
    """The TLS context of the public port, or None where it speaks plain HTTP. Raises ConfigError."""
    server = config.server
    if server.tls_cert_file is None or server.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for setting, file in (("tls_cert_file", server.tls_cert_file), ("tls_key_file", server.tls_key_file)):
        try:
            Path(file).read_bytes()
        except OSError as exc:
            raise ConfigError(f"server.{setting}: {file} cannot be read ({exc.strerror}); check the path and its "
                              "permissions") from exc  # fmt: skip
    try:
        context.load_cert_chain(server.tls_cert_file, server.tls_key_file, password=_no_passphrase)
    except _EncryptedError:
        raise ConfigError(
            f"server.tls_key_file: {server.tls_key_file} is encrypted, and at a restart nobody is there to type its "
            "passphrase; write it without one (openssl pkey -in KEY -out PLAIN), readable by this user alone"
        ) from None
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(
            f"server.tls_cert_file {server.tls_cert_file}, server.tls_key_file {server.tls_key_file}: "
            f"cannot be loaded: {exc}; both must be PEM files, and the key must fit the certificate"
        ) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
