"""The command `aisandbox`: which commands there are, and what becomes of their errors.

Owns the list of commands. Modules of commands are imported when they are asked for, because a probe of a container runs
`aisandbox healthcheck` every few seconds and must not pay for the rest. Must not know what a command does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

TRAIN, USE, RUN_SERVERS = "Train", "Use a policy", "Servers and checks"
# command -> (module, function, panel of the help)
COMMANDS = {
    "demo": ("demo", "demo", TRAIN),
    "train": ("training", "train", TRAIN),
    "runs": ("runs", "runs", TRAIN),
    "status": ("runs", "status", TRAIN),
    "watch": ("runs", "watch", TRAIN),
    "cancel": ("runs", "cancel", TRAIN),
    "suspend": ("runs", "suspend", TRAIN),
    "resume": ("runs", "resume", TRAIN),
    "act": ("acting", "act", USE),
    "model": ("model", "model", USE),
    "up": ("service", "up", RUN_SERVERS),
    "host-gymnasium": ("simulators", "host_gymnasium", RUN_SERVERS),
    "check-simulator": ("simulators", "check_simulator", RUN_SERVERS),
    "healthcheck": ("probe", "healthcheck", RUN_SERVERS),
    "version": ("version", "version", RUN_SERVERS),
}
# Arguments such as -0.5 are numbers, not options.
NUMBERS_ALLOWED = frozenset({"act"})
# From how much likeness on (0 to 1) a command may have been meant; of two words with nothing in common it is below 0.5.
LIKE = 0.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; see :mod:`aisandbox_cli.errors`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        set_up_grpc(few_connections=given[:1] == ["host-gymnasium"])
    try:
        if given[:1] == ["healthcheck"]:
            from aisandbox_cli.healthcheck import quick

            code = quick(given[1:])
            if code is not None:
                return code
        return _run(given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _run(given: list[str]) -> int:
    from aisandbox_cli.errors import CliError

    try:
        _check_known(given)
        application(given[0] if given else "")(args=given, prog_name="aisandbox")
    except CliError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)
        return error.exit_code
    return 0


def _check_known(given: list[str]) -> None:
    """Raises Misused for a command that does not exist, with the one that was perhaps meant."""
    from difflib import SequenceMatcher

    from aisandbox_cli.errors import Misused
    from aisandbox_cli.program import command

    typed = given[0] if given else "--help"
    if typed.startswith("-") or typed in COMMANDS:
        return

    def likeness(name: str) -> float:  # "chek" is much of "check" and little of "check-simulator"
        forms = (name, name[: len(typed)], *name.split("-"))
        return max(SequenceMatcher(None, typed.lower(), form).ratio() for form in forms)

    nearest = max(COMMANDS, key=likeness)
    meant = f" Did you mean {nearest!r}?" if likeness(nearest) >= LIKE else ""
    raise Misused(f"no command {typed!r}.{meant}", f"`{command('--help')}` lists the commands.")


def application(command: str) -> Any:
    """The typer application with ``command``, or with every command when there is none of that name."""
    import typer

    from aisandbox_cli.help import Command, Group

    app = typer.Typer(
        name="aisandbox",
        cls=Group,
        help="Train a policy against a simulation over gRPC, then drive the simulation with it.\n\n"
        "New here? `aisandbox demo` shows everything in about a minute.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the service is unavailable, 130 interrupted.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nothing)
    for name in [command] if command in COMMANDS else COMMANDS:
        module, function, panel = COMMANDS[name]
        app.command(
            name,
            cls=Command,
            rich_help_panel=panel,
            context_settings={"ignore_unknown_options": name in NUMBERS_ALLOWED},
        )(getattr(import_module(f"aisandbox_cli.{module}"), function))
    return app


def _nothing() -> None:
    """Makes typer keep the command's name when there is only one."""
