"""The errors of the command line: the message that is printed, and the exit code.

Owns the tree of errors. Must not know any command or call; :mod:`.rpc_errors` translates gRPC's statuses.

    CliError                the base; exit code 1
    ├── Failed              the service or the simulator reported an error; exit code 1
    ├── UsageError          invalid arguments or an invalid request; exit code 2
    └── Unavailable         no server answered in time; exit code 3; the same command may succeed later

Exit codes of every command: 0 success, 1 failure, 2 wrong usage, 3 service unavailable, 130 interrupted.
"""

from __future__ import annotations

from aisandbox_process import printable


class CliError(Exception):
    """A command failed. ``hint`` says what to do about it; empty if there is nothing to say."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def lines(self) -> list[str]:
        """What is printed: the cause, then the hint."""
        hint = [f"  {line}" for line in self.hint.splitlines()]
        return [printable(line) for line in [*f"error: {self}".split("\n"), *hint]]


class Failed(CliError):
    """The service or the simulator answered with an error."""


class UsageError(CliError):
    """The arguments are invalid, or the service refused them as invalid."""

    exit_code = 2


class Unavailable(CliError):
    """No server answered in time."""

    exit_code = 3
