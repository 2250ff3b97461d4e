"""How a channel to a server is secured: TLS or not, whose certificate is accepted, and the token its calls carry.

Must not know gRPC, or which settings these values come from.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_process.addresses import InvalidHostPort, is_loopback, split_host_port
from aisandbox_process.tls.pem import InvalidPem, KeyPair, file_version, read_certificates, read_key_pair

_SCHEMES = {"https://": True, "http://": False}
_TOKEN = re.compile(r"[!-~]{1,8192}")


class InvalidChannelSecurity(ValueError):
    """A file cannot be used, or a token would be sent to another machine in plain text."""


@dataclass(frozen=True, slots=True)
class ChannelSecurity:
    """``ca_file``: PEM; None: the authorities that this machine trusts. All files are read when a channel is opened.

    ``server_name``: the name that the certificate must be for; empty: the host that is dialled.
    ``certificate_file`` and ``key_file``: of the client, where the server asks for them.
    ``token_file``: read before each call; its token is sent as ``authorization: Bearer TOKEN``. ``token``: the same
    without a file.
    """

    tls: bool = False
    ca_file: Path | None = None
    server_name: str = ""
    certificate_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token."""
        return bool(self.token) or self.token_file is not None

    @classmethod
    def with_ca(cls, ca_file: Path | None) -> ChannelSecurity:
        """TLS if there is a file of authorities, else plain text: for programs that are told nothing else."""
        return cls(tls=ca_file is not None, ca_file=ca_file)

    def check(self) -> None:
        """Reads the files once. Raises InvalidChannelSecurity."""
        if self.tls:
            self.authorities()
            self.key_pair()

    def version(self) -> object:
        """Equal as long as the files of a channel are the same; for whoever opens channels again when they change."""
        paths = filter(None, (self.ca_file, self.certificate_file, self.key_file))
        return tuple(file_version(path) for path in paths)

    def authorities(self) -> bytes | None:
        """The certificates, PEM, of those who may sign the server's; None: gRPC's own list.

        Raises InvalidChannelSecurity.
        """
        if self.ca_file is None:
            return _machine_authorities()
        try:
            return read_certificates(self.ca_file)
        except InvalidPem as error:
            raise InvalidChannelSecurity(f"the CA file {error}") from None

    def key_pair(self) -> KeyPair | None:
        """The client's certificate and key; None: it has none. Raises InvalidChannelSecurity."""
        if self.certificate_file is None or self.key_file is None:
            return None
        try:
            return read_key_pair(self.certificate_file, self.key_file)
        except InvalidPem as error:
            raise InvalidChannelSecurity(f"the client's certificate: {error}") from None

    def metadata(self, address: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a call to ``address`` (host:port): the token, if there is one.

        Raises InvalidChannelSecurity if it cannot be read, or would be sent to another machine in plain text.
        """
        if not self.has_token:
            return ()
        if not self.tls and not is_loopback(_host(address)):
            raise InvalidChannelSecurity(
                f"a token is not sent to {address} in plain text: use https://{address}, or name a CA file"
            )
        token = self.token if self.token_file is None else read_token(self.token_file)
        return (("authorization", f"Bearer {token}"),)


PLAINTEXT = ChannelSecurity()
"""Neither TLS nor a token."""


def split_scheme(text: str) -> tuple[str, bool | None]:
    """The address without ``https://`` or ``http://``, and whether it is to be TLS; None: the text does not say."""
    for scheme, tls in _SCHEMES.items():
        if text.lower().startswith(scheme):
            return text[len(scheme) :].removesuffix("/"), tls
    return text, None


def _host(address: str) -> str:
    try:
        return split_host_port(address.removeprefix("dns:///"))[0]
    except InvalidHostPort:
        return ""


def read_token(path: Path) -> str:
    """The token in a file. Raises InvalidChannelSecurity."""
    try:
        token = path.read_text("ascii", "replace").strip()
    except OSError as error:
        raise InvalidChannelSecurity(f"the token file {path} cannot be read: {error.strerror or error}") from None
    return checked_token(token, f"the token file {path}")


def checked_token(text: str, where: str) -> str:
    """``text``. Raises InvalidChannelSecurity if it is no token; ``where`` it was found."""
    if not _TOKEN.fullmatch(text):
        raise InvalidChannelSecurity(f"{where} must have one token of printable ASCII characters without blanks")
    return text


def _machine_authorities() -> bytes | None:
    """The authorities that this machine trusts, PEM; gRPC's own list knows none that an administrator has added."""
    context = ssl.create_default_context()
    found = context.get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in found).encode() or None
