"""PEM files of certificates and keys: read whole, checked, and tried in a handshake.

Every problem is an InvalidPem with a phrase to be read after the file's name. Must not know settings.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_MOST_BYTES = 4 * 1024 * 1024
"""Of one file: a bundle of every public authority is a tenth of this."""


FileVersion = tuple[int, int, int]


class InvalidPem(ValueError):
    """``path`` cannot be used; ``problem`` is a phrase that says why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with the chain below it, and its key: PEM."""

    certificate: bytes
    key: bytes


def file_version(path: Path) -> FileVersion | None:
    """What changes when the file is replaced, also by a link to another one as Kubernetes does it; None: no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_certificates(path: Path) -> bytes:
    """A file of one or more certificates, PEM. Raises InvalidPem."""
    data = _read(path)
    if _BEGIN not in data:
        raise InvalidPem(path, "has no certificate in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except ssl.SSLError:
        raise InvalidPem(path, "has a certificate that cannot be read; is it complete?") from None
    return data


def read_key_pair(certificate: Path, key: Path) -> KeyPair:
    """The two files, which belong together. Raises InvalidPem."""
    pair = KeyPair(read_certificates(certificate), _read(key))
    if b"PRIVATE KEY-----" not in pair.key:
        raise InvalidPem(key, "has no private key in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise InvalidPem(key, f"is not the key of the certificate in {certificate}") from None
        raise InvalidPem(
            key, "has a private key that cannot be read; it must be complete and without a password"
        ) from None
    except OSError:  # a file has gone since it was read above
        raise InvalidPem(key, "is being replaced") from None
    if (_read(certificate), _read(key)) != (pair.certificate, pair.key):
        raise InvalidPem(certificate, "is being replaced")
    return pair


def server_context(certificate: Path, key: Path, client_ca: bytes | None) -> ssl.SSLContext:
    """The context of a server. ``client_ca``: clients must have a certificate of one of these authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password=_no_password)
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, slots=True)
class Validity:
    """``problem``: why clients will refuse the certificate, as OpenSSL says it; empty if they will not for itself."""

    problem: str = ""
    until: datetime | None = None


def validity_of(certificate: bytes, context: ssl.SSLContext) -> Validity:
    """Whether and how long a client accepts the certificate of ``context``, found by a handshake in memory.

    Names and authorities are not checked: they are the client's.
    """
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted
    client_context.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return Validity(error.verify_message)
            except ssl.SSLError:
                return Validity()  # the server asks for a client's certificate: it has shown its own before
            found = client.getpeercert() or {}
            text = found.get("notAfter")
            if isinstance(text, str):
                return Validity(until=datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC))
    return Validity()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidPem(path, f"cannot be read: {error.strerror or error}") from None
    if len(data) > _MOST_BYTES:
        raise InvalidPem(path, f"is larger than {_MOST_BYTES:,} bytes")
    return data


def _no_password() -> str:
    """Else OpenSSL would ask for it at the terminal."""
    return ""
