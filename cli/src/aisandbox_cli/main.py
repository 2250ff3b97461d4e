"""The program `aisandbox`: its list of commands, its help, and the exit code of an error.

Owns the list of commands. Imports only the module of the command that runs. Must not know what a command does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import copy_context
from difflib import SequenceMatcher
from importlib import import_module
from typing import Any

from aisandbox_process import set_up_grpc

TRAIN, USE, SERVERS = "Training", "Trained policies", "Servers and tools"
# command -> (module, function, section of the help)
COMMANDS = {
    "demo": ("commands.demo", "demo", TRAIN),
    "train": ("commands.train", "train", TRAIN),
    "record": ("commands.record", "record", TRAIN),
    "runs": ("commands.runs", "runs", TRAIN),
    "status": ("commands.runs", "status", TRAIN),
    "watch": ("commands.runs", "watch", TRAIN),
    "cancel": ("commands.runs", "cancel", TRAIN),
    "suspend": ("commands.runs", "suspend", TRAIN),
    "resume": ("commands.runs", "resume", TRAIN),
    "act": ("commands.act", "act", USE),
    "model": ("commands.model", "model", USE),
    "login": ("commands.login", "login", SERVERS),
    "logout": ("commands.login", "logout", SERVERS),
    "whoami": ("commands.login", "whoami", SERVERS),
    "up": ("commands.up", "up", SERVERS),
    "host-gymnasium": ("commands.simulators", "host_gymnasium", SERVERS),
    "simulators": ("commands.simulators", "simulators", SERVERS),
    "check-simulator": ("commands.check_simulator", "check_simulator", SERVERS),
    "version": ("program", "version", SERVERS),
}
# Commands whose arguments may be negative numbers: -0.5 is not an option of theirs.
NEGATIVE_NUMBERS_ALLOWED = frozenset({"act"})
# The similarity (0 to 1) from which an unknown command gets a suggestion; unrelated words have less than 0.5.
SUGGESTION_THRESHOLD = 0.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; see :mod:`aisandbox_cli.errors`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        set_up_grpc(few_connections=given[:1] == ["host-gymnasium"])
    try:
        return _run(given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _run(given: list[str]) -> int:
    # Imported here: grpc reads the variables that set_up_grpc sets when it is imported.
    from aisandbox_cli.errors import CliError

    try:
        _check_known(given)
        # In a context of its own: what its options say ends with the command.
        copy_context().run(application(given[0] if given else ""), args=given, prog_name="aisandbox")
    except CliError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)
        return error.exit_code
    return 0


def _check_known(given: list[str]) -> None:
    """Raises UsageError for a command that does not exist, with the most similar one as a suggestion."""
    from aisandbox_cli.errors import UsageError
    from aisandbox_cli.program import command

    typed = given[0] if given else "--help"
    if typed.startswith("-") or typed in COMMANDS:
        return

    def similarity(name: str) -> float:  # "chek" is similar to "check" and less so to "check-simulator"
        forms = (name, name[: len(typed)], *name.split("-"))
        return max(SequenceMatcher(None, typed.lower(), form).ratio() for form in forms)

    nearest = max(COMMANDS, key=similarity)
    suggestion = f" Did you mean {nearest!r}?" if similarity(nearest) >= SUGGESTION_THRESHOLD else ""
    raise UsageError(f"unknown command {typed!r}.{suggestion}", f"`{command('--help')}` lists the commands.")


def application(command: str) -> Any:
    """The typer application with only ``command``, or with all commands if ``command`` is not one of them."""
    import typer

    from aisandbox_cli.channel_options import with_channel_options

    typer_command, typer_group = _typer_classes()
    app = typer.Typer(
        name="aisandbox",
        cls=typer_group,
        help="Train a policy against a simulator over gRPC, then use it to control the simulator.\n\n"
        "Start with `aisandbox demo`: it shows everything in one to two minutes.",
        epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 3 service unavailable, 130 interrupted.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_no_options)
    for name in [command] if command in COMMANDS else COMMANDS:
        module, function, section = COMMANDS[name]
        app.command(
            name,
            cls=typer_command,
            rich_help_panel=section,
            context_settings={"ignore_unknown_options": name in NEGATIVE_NUMBERS_ALLOWED},
        )(with_channel_options(getattr(import_module(f"aisandbox_cli.{module}"), function)))
    return app


def _no_options() -> None:
    """The program has no options of its own; with a callback typer keeps the name of a single command."""


def _typer_classes() -> tuple[Any, Any]:
    """Typer's command and group, without the types that typer shows for flags and for arguments with a metavar."""
    from typer import BadParameter
    from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

    def without_types(parameters: list[Any]) -> list[Any]:
        for parameter in parameters:
            if isinstance(parameter, TyperOption) and parameter.is_flag and parameter.metavar is None:
                parameter.metavar = ""  # typer would show <bool>
            elif isinstance(parameter, TyperArgument) and parameter.metavar:
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # <list[str]> after RUN...
        return parameters

    class Command(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            return without_types(super().get_params(ctx))

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            try:
                return super().parse_args(ctx, args)
            except BadParameter as error:
                error.message = error.message.removeprefix("Value error, ")  # pydantic's, which typer passes on
                raise

    class Group(TyperGroup):
        def get_params(self, ctx: Any) -> list[Any]:
            return without_types(super().get_params(ctx))

    return Command, Group
