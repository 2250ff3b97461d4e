"""What the command line says when something went wrong, and the exit code it ends with.

Owns the tree of errors and the translation of gRPC statuses into sentences. Must not know any command.

    CliError                the base; exit code 1
    ├── Failed              the service answered, and the answer is no; exit code 1
    ├── Misused             what was typed is not allowed; exit code 2
    └── Unreachable         nobody answered in time; exit code 3, the same command may succeed later

Exit codes of every command: 0 done, 1 failed, 2 wrong usage, 3 unavailable, 130 interrupted.
"""

from __future__ import annotations

import grpc

from aisandbox_cli.program import command


class CliError(Exception):
    """A command that cannot go on. ``hint`` says what to do about it; empty when there is nothing to say."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def lines(self) -> list[str]:
        """What is printed: the cause, then what to do."""
        return [f"error: {self}", *([f"  {self.hint}"] if self.hint else [])]


class Failed(CliError):
    """The service or the simulator answered, and the answer is no."""


class Misused(CliError):
    """What was typed breaks a rule of the command or of the service."""

    exit_code = 2


class Unreachable(CliError):
    """Nobody answered in time."""

    exit_code = 3


HINTS = {
    grpc.StatusCode.NOT_FOUND: "`{runs}` lists the runs.",
    grpc.StatusCode.ALREADY_EXISTS: "Choose another --request-id, or leave it out.",
    grpc.StatusCode.UNIMPLEMENTED: "The server at this address does not offer this call; check --address.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Try again later, or ask for less.",
}


def from_rpc_error(error: grpc.RpcError, address: str) -> CliError:
    """The error of a command whose call to the service at ``address`` ended with ``error``."""
    code, details = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unreachable(
            f"the service at {address} does not answer ({details or 'UNAVAILABLE'})",
            f"Start one with `{command('up')}`, or name another with --address or AISANDBOX_ADDRESS.",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(f"the service at {address} did not answer in time", "It may be overloaded; try again.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return Misused(f"refused (INVALID_ARGUMENT): {'; '.join(_violations(error)) or details}")
    return Failed(f"{details or 'the call failed'} ({code.name})", HINTS.get(code, "").format(runs=command("runs")))


def _violations(error: grpc.RpcError) -> list[str]:
    """``field: rule`` for every violation in the google.rpc.BadRequest details, if there are any."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except ValueError:  # code and details disagree: the server is to blame, the plain message is still good
        return []
    found: list[str] = []
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Is(request.DESCRIPTOR) and detail.Unpack(request):
            found.extend(_sentence(violation.field, violation.description) for violation in request.field_violations)
    return found


def _sentence(field: str, rule: str) -> str:
    return rule if not field or rule.startswith(field) else f"{field}: {rule}"
