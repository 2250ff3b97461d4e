"""What the status of a gRPC call means to a user: a message, a hint and an exit code.

Must not know any command.
"""

from __future__ import annotations

import grpc
from aisandbox_process import split_host_port
from aisandbox_process.tls import connection_problem, speaks_tls

from aisandbox_cli.errors import CliError, Failed, Unavailable, UsageError
from aisandbox_cli.program import command
from aisandbox_cli.service_address import ServiceAddress

_TLS_HINT = "--tls-ca names the CA of its certificate, --tls-server-name the name that it is for."
HINTS = {
    grpc.StatusCode.NOT_FOUND: "`{runs}` lists the runs.",
    grpc.StatusCode.ALREADY_EXISTS: "Choose another --request-id, or omit it.",
    grpc.StatusCode.UNIMPLEMENTED: "The server at this address does not offer this call; check --address.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Try again later, or reduce the request.",
}


def from_rpc_error(error: grpc.RpcError, at: ServiceAddress) -> CliError:
    """The error of a command whose call to the service at ``at`` ended with ``error``."""
    code, details, address = error.code(), (error.details() or "").strip(), at.target
    if code is grpc.StatusCode.UNAVAILABLE:
        if problem := _tls_problem(at, details):
            return problem
        return Unavailable(
            f"the service at {address} does not answer ({details or 'UNAVAILABLE'})",
            f"Start a service with `{command('up')}`, or set its address with --address or AISANDBOX_ADDRESS.",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the service at {address} did not answer in time", "It may be overloaded; try again.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return UsageError(f"refused (INVALID_ARGUMENT): {'; '.join(_violations(error)) or details}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        hint = f"Name a file with a token by --token-file, or store one with `{command(f'login {address}')}`."
        return Failed(f"the service at {address} requires authentication: {details or 'UNAUTHENTICATED'}", hint)
    return Failed(f"{details or 'the call failed'} ({code.name})", HINTS.get(code, "").format(runs=command("runs")))


def _tls_problem(at: ServiceAddress, details: str) -> CliError | None:
    """The error, if it is TLS that keeps this program from calling the service, and not the service's absence."""
    security = at.security
    host, port = split_host_port(at.target.removeprefix("dns:///"))
    if security.tls:
        authorities = str(security.ca_file or "")
        if problem := connection_problem(details, name=security.server_name or host, ca_file=authorities):
            return Failed(f"the service at {at.target} cannot be called: {problem}", _TLS_HINT)
    elif speaks_tls(host, port):
        return Failed(f"the service at {at.target} uses TLS", f"Use https://{at.target}, or --tls-ca with its CA.")
    return None


def _violations(error: grpc.RpcError) -> list[str]:
    """``field: rule`` for every violation in the google.rpc.BadRequest details; empty without such details."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except ValueError:  # code and details disagree: a bug of the server; the plain message is still useful
        return []
    found: list[str] = []
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Is(request.DESCRIPTOR) and detail.Unpack(request):
            found.extend(_sentence(violation.field, violation.description) for violation in request.field_violations)
    return found


def _sentence(field: str, rule: str) -> str:
    return rule if not field or rule.startswith(field) else f"{field}: {rule}"
