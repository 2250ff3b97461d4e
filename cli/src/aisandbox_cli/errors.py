"""The errors of the command line: the message that is printed, and the exit code.

Owns the tree of errors and the translation of gRPC statuses into messages. Must not know any command.

    CliError                the base; exit code 1
    ├── Failed              the service or the simulator reported an error; exit code 1
    ├── UsageError          invalid arguments or an invalid request; exit code 2
    └── Unavailable         no server answered in time; exit code 3; the same command may succeed later

Exit codes of every command: 0 success, 1 failure, 2 wrong usage, 3 service unavailable, 130 interrupted.
"""

from __future__ import annotations

import grpc
from aisandbox_process import printable

from aisandbox_cli.program import command


class CliError(Exception):
    """A command failed. ``hint`` says what to do about it; empty if there is nothing to say."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def lines(self) -> list[str]:
        """What is printed: the cause, then the hint."""
        lines = [f"error: {self}", *([f"  {self.hint}"] if self.hint else [])]
        return [printable(part) for line in lines for part in line.split("\n")]


class Failed(CliError):
    """The service or the simulator answered with an error."""


class UsageError(CliError):
    """The arguments are invalid, or the service refused them as invalid."""

    exit_code = 2


class Unavailable(CliError):
    """No server answered in time."""

    exit_code = 3


HINTS = {
    grpc.StatusCode.NOT_FOUND: "`{runs}` lists the runs.",
    grpc.StatusCode.ALREADY_EXISTS: "Choose another --request-id, or omit it.",
    grpc.StatusCode.UNIMPLEMENTED: "The server at this address does not offer this call; check --address.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Try again later, or reduce the request.",
}


def from_rpc_error(error: grpc.RpcError, address: str) -> CliError:
    """The error of a command whose call to the service at ``address`` ended with ``error``."""
    code, details = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"the service at {address} does not answer ({details or 'UNAVAILABLE'})",
            f"Start a service with `{command('up')}`, or set its address with --address or AISANDBOX_ADDRESS.",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the service at {address} did not answer in time", "It may be overloaded; try again.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return UsageError(f"refused (INVALID_ARGUMENT): {'; '.join(_violations(error)) or details}")
    return Failed(f"{details or 'the call failed'} ({code.name})", HINTS.get(code, "").format(runs=command("runs")))


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
