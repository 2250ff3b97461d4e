"""Certificates of an authority of the tests, in files as cert-manager writes them: tls.crt, tls.key, ca.crt."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Certificates:
    """A folder with a certificate for ``names`` and its authority. ``write`` renews it."""

    def __init__(self, folder: Path, *names: str, authority: trustme.CA | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = authority or trustme.CA()
        self.certificate, self.key, self.ca = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
        self._names = names or ("localhost", "127.0.0.1", "::1")
        self.write()

    def write(self, *, expired: bool = False) -> None:
        """Another certificate of the same authority; each file is replaced at once."""
        until = datetime.now(UTC) + timedelta(days=-1 if expired else 90)
        leaf = self.authority.issue_cert(*self._names, not_after=until)
        _replace(self.certificate, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        _replace(self.key, leaf.private_key_pem.bytes())
        _replace(self.ca, self.authority.cert_pem.bytes())

    def replace_authority(self) -> None:
        """A certificate of another authority; ``ca`` holds both, as while authorities are changed."""
        former, self.authority = self.authority, trustme.CA()
        self.write()
        _replace(self.ca, former.cert_pem.bytes() + self.authority.cert_pem.bytes())

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a server."""
        return {"TLS_CERT_FILE": str(self.certificate), "TLS_KEY_FILE": str(self.key)}


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
