"""The options of every command that calls a service: --tls-ca, --tls-server-name, --token-file.

The commands' functions need not know them: what they say is in :data:`.service_address.GIVEN`. Owns their names and
help. Must not know any command.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from aisandbox_cli.service_address import GIVEN, ChannelOptions

_VARIABLES = {
    "tls_ca": "AISANDBOX_TLS_CA",
    "tls_server_name": "AISANDBOX_TLS_SERVER_NAME",
    "token_file": "AISANDBOX_TOKEN_FILE",
}
_METAVARS = {"tls_ca": "FILE", "tls_server_name": "NAME", "token_file": "FILE"}
_HELP = {
    "tls_ca": "PEM: the CA that signed the service's certificate; means TLS.",
    "tls_server_name": "The name that the certificate is for, if not the host of the address.",
    "token_file": "The file with the token for the service; read before each call.",
}
_OF_A_SERVICE = {"address", "attach"}
"""The parameters of a command that calls a service."""


def with_channel_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the options behind its own; itself, if it calls no service."""
    signature = inspect.signature(function, eval_str=True)
    if not _OF_A_SERVICE & signature.parameters.keys():
        return function

    def command(**values: Any) -> Any:
        GIVEN.set(_channel_options({name: values.pop(name) for name in _VARIABLES}))
        return function(**values)

    parameters = [*signature.parameters.values(), *map(_parameter, _VARIABLES)]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__, command.__name__ = function.__doc__, function.__name__
    return command


def _channel_options(values: dict[str, str]) -> ChannelOptions:
    typed = {name for name, value in values.items() if value and value != os.environ.get(_VARIABLES[name])}
    return ChannelOptions(**values, on_command_line=frozenset(typed))


def _parameter(name: str) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        envvar=_VARIABLES[name],
        metavar=_METAVARS[name],
        help=_HELP[name],
        show_default=False,
        rich_help_panel="Connection",
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, option])
