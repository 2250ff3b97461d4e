"""How the help of commands looks where typer's own way misleads.

Owns that difference. Must not know any command.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class Command(TyperCommand):
    """A command whose flags do not look as if they wanted a value, and whose arguments have their own names only."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, `--help` among them."""
        return _without_misleading_types(super().get_params(ctx))


class Group(TyperGroup):
    """As :class:`Command`, for the program itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, `--help` among them."""
        return _without_misleading_types(super().get_params(ctx))


def _without_misleading_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag and parameter.metavar is None:
            parameter.metavar = ""  # typer would show <bool>
        elif isinstance(parameter, TyperArgument) and parameter.metavar:
            parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # <list[str]> beside RUN...
    return parameters
