"""Which service a command calls, and how: from its options, environment variables and a stored login.

Owns the order of these. Must not know any command or call.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from aisandbox_process import InvalidHostPort, split_host_port
from aisandbox_process.tls import ChannelSecurity, split_scheme

from aisandbox_cli import program
from aisandbox_cli.contexts import Context, current_context
from aisandbox_cli.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "AISANDBOX_ADDRESS"
CERTIFICATE_VARIABLE, KEY_VARIABLE = "AISANDBOX_TLS_CERT", "AISANDBOX_TLS_KEY"

_REPEATED = {"tls_ca": "--tls-ca", "tls_server_name": "--tls-server-name", "token_file": "--token-file"}


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options that every command with an address has. ``on_command_line``: those that are not from variables."""

    tls_ca: str = ""
    tls_server_name: str = ""
    token_file: str = ""
    on_command_line: frozenset[str] = frozenset()


GIVEN: ContextVar[ChannelOptions] = ContextVar("GIVEN", default=ChannelOptions())  # noqa: B039 -- it is immutable
"""Of the command that runs; set while its command line is parsed."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """A service. ``target``: host:port. ``repeated``: the options that the command line of a hint must have."""

    target: str
    security: ChannelSecurity
    repeated: str

    def command(self, text: str) -> str:
        """The command line that a hint shows, which calls the same service."""
        return program.command(text) + self.repeated


def service_address(address: str | None, *, stored: bool = True) -> ServiceAddress:
    """The service that ``address`` names; None or empty: AISANDBOX_ADDRESS, a stored login, this machine.

    ``https://`` or a file of authorities mean TLS. What was stored goes to the service that it was stored for, and to
    no other. ``stored``: whether a login counts. Raises UsageError if the address is none.
    """
    given, login = GIVEN.get(), current_context() if stored else None
    text = address or environment_address() or (login.address if login else DEFAULT_ADDRESS)
    host_port, scheme = split_scheme(text.strip())
    target = checked_address(host_port)
    default = text in (environment_address(), login.address if login else DEFAULT_ADDRESS)
    if login is not None and (login.address != target or scheme not in (None, login.tls)):
        login = None
    return ServiceAddress(target, _security(given, login, scheme), _repeated(given, None if default else text))


def environment_address() -> str:
    """The service's address from the environment variable AISANDBOX_ADDRESS, or an empty string."""
    return os.environ.get(ADDRESS_VARIABLE, "")


def checked_address(text: str) -> str:
    """The address, HOST:PORT with or without ``dns:///``; blanks around it are no part of it. Raises UsageError."""
    address = text.strip()
    try:
        split_host_port(address.removeprefix("dns:///"))
    except InvalidHostPort:
        raise UsageError(f"address {address!r}: must be HOST:PORT, like {DEFAULT_ADDRESS}") from None
    return address


def _security(given: ChannelOptions, login: Context | None, scheme: bool | None) -> ChannelSecurity:
    certificate, key = (_path(os.environ.get(name, "")) for name in (CERTIFICATE_VARIABLE, KEY_VARIABLE))
    ca_file = _path(given.tls_ca) or (login.ca_file if login else None)
    tls = scheme if scheme is not None else ca_file is not None or (login is not None and login.tls)
    return ChannelSecurity(
        tls=tls,
        ca_file=ca_file,
        server_name=given.tls_server_name or (login.server_name if login else ""),
        certificate_file=certificate,
        key_file=key,
        token_file=_path(given.token_file) or (login.token_file if login else None),
    )


def _repeated(given: ChannelOptions, address: str | None) -> str:
    values = {"--address": address} if address else {}
    values |= {option: getattr(given, name) for name, option in _REPEATED.items() if name in given.on_command_line}
    return "".join(f" {option} {program.quoted(value)}" for option, value in values.items())


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None
