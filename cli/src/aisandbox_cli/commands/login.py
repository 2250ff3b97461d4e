"""``aisandbox login``, ``logout``, ``whoami``: store how a service is called, for all other commands.

Must not know how it is stored.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_process import printable
from aisandbox_process.tls import InvalidChannelSecurity, checked_token, read_token

from aisandbox_cli import contexts, options
from aisandbox_cli.connection import CALL_TIMEOUT, connect, connect_to
from aisandbox_cli.errors import Failed, UsageError
from aisandbox_cli.rendering import caller_rows, message_json, two_columns
from aisandbox_cli.service_address import ServiceAddress, service_address

ContextName = Annotated[
    str,
    typer.Option(
        "--context",
        envvar=contexts.CONTEXT_VARIABLE,
        metavar="NAME",
        help="The name of this login, where there are several services.",
    ),
]


def login(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="The service: https://HOST:PORT, or HOST:PORT with --tls-ca.")
    ],
    context: ContextName = contexts.DEFAULT_NAME,
    token: Annotated[bool, typer.Option(help="Whether to ask for a token, if there is no --token-file.")] = True,
) -> None:
    """Store the address of a service, its CA and your token for all other commands.

    The token is read from --token-file (`-`: from stdin), or asked for. The
    service is called once with it; nothing is stored if that fails. Files are
    copied to ~/.config/aisandbox, where only you can read them. AISANDBOX_CONTEXT
    selects one of several logins; the options of a command come before them.

    \b
    Examples:
      aisandbox login https://training.example.com:443
      aisandbox login training:50051 --tls-ca ca.crt --token-file token.txt
      aisandbox login https://staging.example.com:443 --context staging
    """  # noqa: D301 - \b keeps the lines apart
    contexts.checked_name(context)
    service = service_address(address, stored=False)
    try:
        text = _token(service.security.token_file, ask=token)
        service = replace(service, security=replace(service.security, token_file=None, token=text))
        caller = _call(service)
        security = service.security
        ca = security.authorities() if security.ca_file is not None else None
        contexts.store(context, service.target, tls=security.tls, server_name=security.server_name, ca=ca, token=text)
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise Failed(f"the login cannot be stored: {error}") from error
    name = "" if caller is None or not caller.name else f" as {printable(caller.name)}"
    print(f"Logged in to {service.target}{name}; this login is {context!r}.", file=sys.stderr)


def whoami(as_json: options.Json = False, address: options.Address = None) -> None:
    """Show your name, roles and permissions at the service.

    \b
    Examples:
      aisandbox whoami
      aisandbox whoami --address https://training.example.com:443 --token-file token.txt
    """  # noqa: D301 - \b keeps the lines apart
    with connect(address) as connection:
        caller = connection.stub.WhoAmI(pb.WhoAmIRequest(), timeout=CALL_TIMEOUT)
    print(message_json(caller) if as_json else two_columns(caller_rows(caller)))


def logout(context: ContextName = "") -> None:
    """Forget a login: delete its token and its CA from this machine.

    \b
    Examples:
      aisandbox logout
      aisandbox logout --context staging
    """  # noqa: D301 - \b keeps the lines apart
    name = context or contexts.current_name()
    try:
        if not name or not contexts.remove(name):
            raise Failed("there is no login to forget" if not name else f"there is no login {name!r}")
    except OSError as error:
        raise Failed(f"the login cannot be forgotten: {error}") from error
    print(f"Forgot the login {name!r}.", file=sys.stderr)


def _token(file: Path | None, *, ask: bool) -> str:
    """Raises InvalidChannelSecurity."""
    if file is not None and str(file) != "-":
        return read_token(file)
    if file is not None:
        return checked_token(sys.stdin.readline().strip(), "stdin")
    if not ask or not sys.stdin.isatty():
        return ""
    typed = getpass("Token (nothing, if the service asks for none): ").strip()
    return checked_token(typed, "what was typed") if typed else ""


def _call(service: ServiceAddress) -> pb.WhoAmIResponse | None:
    """What the service knows of the caller; None if it is of an earlier version, which does not say.

    Raises CliError if it does not answer, or does not authenticate the caller.
    """
    with connect_to(service) as connection:
        try:
            caller: pb.WhoAmIResponse = connection.stub.WhoAmI(pb.WhoAmIRequest(), timeout=CALL_TIMEOUT)
            return caller
        except grpc.RpcError as error:  # an earlier version refuses methods that it does not know, whoever calls
            if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED):
                raise
        try:
            connection.stub.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=1), timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise
    return None
