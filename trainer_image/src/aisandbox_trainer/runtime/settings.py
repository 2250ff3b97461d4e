"""What of a trainer depends on where it runs, read from environment variables. Must not know the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aisandbox_crds.errors import FieldError, InvalidRun
from aisandbox_process.environ import InvalidSetting, positive_number


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to wait for a simulator, in seconds, and how many threads PyTorch may have (None: what fits).

    ``simulator_patience`` is for one that is not there, ``simulator_timeout`` for one answer to a step.
    """

    simulator_patience: float = 300.0
    simulator_timeout: float = 60.0
    disk_patience: float = 300.0
    torch_threads: int | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables named below. Raises InvalidRun."""
        threads = environ.get("TORCH_NUM_THREADS") or None
        return cls(
            simulator_patience=_number(environ, "SIMULATOR_PATIENCE_SECONDS", cls().simulator_patience),
            simulator_timeout=_number(environ, "SIMULATOR_TIMEOUT_SECONDS", cls().simulator_timeout),
            disk_patience=_number(environ, "DISK_PATIENCE_SECONDS", cls().disk_patience),
            torch_threads=None if threads is None else math.ceil(_number(environ, "TORCH_NUM_THREADS", 1)),
        )


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        return positive_number(environ, name, default)
    except InvalidSetting as error:
        raise InvalidRun([FieldError(name, error.rule)]) from None
