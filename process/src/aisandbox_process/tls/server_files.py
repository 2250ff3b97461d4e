"""The files of a server's TLS, by the settings TLS_CERT_FILE, TLS_KEY_FILE and TLS_CLIENT_CA_FILE.

Must not know when they are read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aisandbox_process.environ import Environ, InvalidSetting
from aisandbox_process.tls.pem import FileVersion, file_version

CERTIFICATE, KEY, CLIENT_CA = "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """``certificate`` and ``key`` of a server, PEM; with ``client_ca`` clients need a certificate of their own."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def version(self) -> tuple[FileVersion | None, ...]:
        """Which files there are now; None for one that is missing."""
        return tuple(file_version(path) for path in (self.certificate, self.key, self.client_ca) if path)

    def setting_of(self, path: Path) -> str:
        """The setting that names ``path``."""
        return {self.key: KEY, self.client_ca: CLIENT_CA}.get(path, CERTIFICATE)


def server_files(environ: Environ) -> ServerFiles | None:
    """The files that the settings name; None: no TLS. Raises InvalidSetting; the files themselves are not read."""
    certificate, key, client_ca = (_path(environ, name) for name in (CERTIFICATE, KEY, CLIENT_CA))
    if certificate is None and key is None:
        if client_ca is not None:
            raise InvalidSetting(CLIENT_CA, f"has no effect without {CERTIFICATE} and {KEY}")
        return None
    if certificate is None or key is None:
        missing, other = (KEY, CERTIFICATE) if key is None else (CERTIFICATE, KEY)
        raise InvalidSetting(missing, f"must be set where {other} is")
    return ServerFiles(certificate, key, client_ca)


def _path(environ: Environ, name: str) -> Path | None:
    text = environ.get(name)
    return Path(text).absolute() if text else None
