"""A function that the user names, as one that plays; what it raises is shown as the user's, without our own lines.

Must not know who else plays, or what is done with its actions.
"""

from __future__ import annotations

import importlib
from traceback import StackSummary, TracebackException
from typing import Any

from aisandbox_cli.errors import Failed, UsageError
from aisandbox_cli.program import find_modules_here

_OURS = (__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")


class NamedFunction:
    """The function ``name``, MODULE:FUNCTION, whose module may be in the current folder.

    Raises UsageError if there is none; Failed if its module raises. Later, Failed if the function raises, with episode
    and step (from 0) and the traceback from the user's first line on.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._function = _found(name)
        self._begin = getattr(self._function, "begin_episode", None)
        self._episode, self._step = -1, 0

    def begin_episode(self) -> None:
        """Calls the method of the same name, if there is one."""
        self._episode, self._step = self._episode + 1, 0
        if self._begin is None:
            return
        try:
            self._begin()
        except Exception as error:
            raise _failure(f"--policy {self._name}: begin_episode of episode {self._episode}", error) from error

    def __call__(self, observation: Any, mask: Any) -> Any:
        """What the function returns."""
        try:
            action = self._function(observation, mask)
        except Exception as error:
            where = f"episode {self._episode}, step {self._step}"
            raise _failure(f"--policy {self._name}: the function, at {where},", error) from error
        self._step += 1
        return action


def _found(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"--policy {name}: must be random or MODULE:FUNCTION, as heuristics:drive")
    find_modules_here()
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise _failure(f"--policy {name}: the module", error) from error
        raise UsageError(f"--policy {name}: there is no module {error.name!r} here") from error
    except Exception as error:
        raise _failure(f"--policy {name}: the module", error) from error
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise UsageError(f"--policy {name}: {error}") from error
    if not callable(found):
        raise UsageError(f"--policy {name}: is not a function")
    return found


def _failure(what: str, error: Exception) -> Failed:
    """``what`` raised ``error``: its type, and below the traceback from the user's first line on."""
    told = TracebackException.from_exception(error)
    told.stack = StackSummary.from_list([frame for frame in told.stack if frame.filename not in _OURS])
    lines = told.format() if told.stack else told.format_exception_only()
    return Failed(f"{what} raised {type(error).__name__}", "".join(lines).rstrip())
