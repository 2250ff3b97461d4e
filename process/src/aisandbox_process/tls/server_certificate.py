"""A server's certificate, read again when its files are replaced.

Whoever accepts connections asks for it at each handshake, so a renewed one needs no restart and no watch. Files that
cannot be used leave the last good ones in use. Must not know gRPC or HTTP.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass

import structlog

from aisandbox_process.environ import InvalidSetting
from aisandbox_process.tls.pem import (
    InvalidPem,
    KeyPair,
    read_certificates,
    read_key_pair,
    server_context,
    validity_of,
)
from aisandbox_process.tls.server_files import ServerFiles

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What the files held when they were read. ``client_ca``: PEM; None: clients need no certificate."""

    pair: KeyPair
    client_ca: bytes | None
    context: ssl.SSLContext


class ServerCertificate:
    """The certificate of a server, for any thread. Raises InvalidSetting if the files cannot be used."""

    def __init__(self, files: ServerFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._version = files.version()
        try:
            self._loaded = _load(files)
        except InvalidPem as error:
            raise InvalidSetting(files.setting_of(error.path), str(error)) from None

    @property
    def asks_clients(self) -> bool:
        """Whether clients need a certificate of their own."""
        return self._files.client_ca is not None

    def current(self) -> Loaded:
        """What is to be used for a connection that begins now; the same object while the files are the same."""
        with self._lock:
            version = self._files.version()
            if version != self._version:
                self._version = version
                self._renew()
            return self._loaded

    def http_context(self) -> ssl.SSLContext:
        """The context for a server of HTTP, which uses what is current at each handshake."""
        context = self.current().context

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self.current().context

        context.sni_callback = choose
        return context

    def _renew(self) -> None:
        try:
            self._loaded = _load(self._files)
        except InvalidPem as error:
            log.warning(
                "the replaced certificate cannot be used, the former one still is",
                setting=self._files.setting_of(error.path),
                problem=str(error),
            )


def _load(files: ServerFiles) -> Loaded:
    pair = read_key_pair(files.certificate, files.key)
    client_ca = None if files.client_ca is None else read_certificates(files.client_ca)
    try:
        context = server_context(files.certificate, files.key, client_ca)
        validity = validity_of(pair.certificate, server_context(files.certificate, files.key, None))
    except (OSError, ssl.SSLError):  # OSError: of a file that has gone in the meantime
        raise InvalidPem(files.certificate, "is being replaced") from None
    if validity.problem:
        log.warning("clients will refuse the certificate", file=str(files.certificate), problem=validity.problem)
    else:
        log.info("certificate loaded", file=str(files.certificate), valid_until=str(validity.until or "unknown"))
    return Loaded(pair, client_ca, context)
