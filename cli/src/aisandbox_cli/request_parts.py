"""The options of ``aisandbox train`` that become messages of their own: what a run starts from, learns from, ends by.

Owns their names, help and notation. Must not know what a start does with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb
from google.protobuf.message import Message

from aisandbox_cli import options
from aisandbox_cli.errors import UsageError

M = TypeVar("M", bound=Message)

STOP_RULES = pb.StopWhen.DESCRIPTOR.fields_by_name
"""The names of --stop-when and their fields."""

CLONING = {
    name: pb.Demonstrations.DESCRIPTOR.fields_by_name[name] for name in ("epochs", "batch_size", "learning_rate")
}
"""The names of --cloning and their fields."""

PARTS: Mapping[str, int] = {
    name.removeprefix("TAKEN_PART_").lower().replace("_", "-"): number
    for name, number in pb.TakenPart.items()
    if number
}
"""The values of --take."""

StartFrom = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Start from the weights of RUN, RUN:best (or latest, final, step:N), RUN:checkpoint, "
        "RUN:checkpoint:N, or of an SB3 zip file, relative to MODELS_DIR; one of more than 256 MiB is read only when "
        "the run begins.",
    ),
]
Take = Annotated[
    list[str] | None,
    typer.Option(metavar="PART", help=f"What else to take over from --start-from: {', '.join(PARTS)}; repeatable."),
]
Demonstrations = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Learn from the episodes of this file of `aisandbox record` first; relative to MODELS_DIR; one of more "
        "than 256 MiB is read only when the run begins.",
    ),
]
Cloning = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=NUMBER",
        help=f"How to learn from --demonstrations: {', '.join(CLONING)}; repeatable.",
    ),
]
StopWhen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE=NUMBER",
        help="End the run early, with its best model, when this is reached; repeatable. "
        f"Rules: {', '.join(STOP_RULES)}.",
    ),
]


def start_from(source: str, take: list[str]) -> pb.StartFrom:
    """The message of ``--start-from SOURCE --take PART``; the service checks the names."""
    if not source:
        raise UsageError("--take: only with --start-from")
    parts = [part.lower().replace("_", "-") for part in take]
    if unknown := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--take {unknown[0]}: must be one of {', '.join(PARTS)}")
    start = pb.StartFrom(take=[PARTS[part] for part in parts])  # type: ignore[misc]
    run, _, selector = source.partition(":")
    kind, _, step = selector.partition(":")
    if source.lower().endswith(".zip") or "/" in source:
        start.zip = source
    elif kind == "checkpoint":
        start.run, start.checkpoint = run, f"step:{step}" if step.isdecimal() else step or "latest"
    else:
        start.run, start.model = run, selector
    return start


def demonstrations(file: str, numbers: list[str]) -> pb.Demonstrations:
    """The message of ``--demonstrations FILE --cloning KEY=NUMBER``."""
    if not file:
        raise UsageError("--cloning: only with --demonstrations")
    return _with_numbers(pb.Demonstrations(file=file), numbers, "--cloning", CLONING)


def stop_when(rules: list[str]) -> pb.StopWhen:
    """The message of ``--stop-when RULE=NUMBER``."""
    return _with_numbers(pb.StopWhen(), rules, "--stop-when", STOP_RULES)


def _with_numbers(message: M, given: list[str], option: str, known: Mapping[str, Any]) -> M:
    """``message`` with the fields that ``option`` gives, as KEY=NUMBER; the service checks the numbers' ranges.

    ``known``: the fields that it may give, by their names.
    """
    for name, text in options.pairs(given, option).items():
        field = known.get(name.replace("-", "_"))
        if field is None:
            raise UsageError(f"{option} {name}: must be one of {', '.join(known)}")
        try:
            number = float(text) if field.cpp_type == field.CPPTYPE_DOUBLE else options.steps(text)
            setattr(message, field.name, number)
        except (ValueError, typer.BadParameter) as error:
            raise UsageError(f"{option} {name}={text}: must be a number; {error}") from error
        if not number and not field.has_presence:  # which says to the service that it was not given
            raise UsageError(f"{option} {name}={text}: must be more than 0")
    return message
