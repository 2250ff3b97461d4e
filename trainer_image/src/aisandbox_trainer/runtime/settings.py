"""A trainer's settings that depend on where it runs, read from environment variables. Must not know the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from aisandbox_crds import MOST_BYTES, FieldError, InvalidRun, default_memory_bound
from aisandbox_process import InvalidSetting, positive_number, seconds, switch, whole_number


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults are those without a variable."""

    simulator_patience: float = 300.0
    """SIMULATOR_PATIENCE_SECONDS, above 0: how long to retry a simulator that is not available."""
    simulator_timeout: float = 60.0
    """SIMULATOR_TIMEOUT_SECONDS, above 0: how long to wait for the reply to one step; twice as long for a reset."""
    simulator_open_timeout: float = 300.0
    """SIMULATOR_OPEN_TIMEOUT_SECONDS, above 0: how long a simulator may take to open a session, as to load a level."""
    disk_patience: float = 300.0
    """DISK_PATIENCE_SECONDS, above 0: how long a run that is trained waits for space on a full disk."""
    earlier_run_patience: float = 60.0
    """EARLIER_RUN_PATIENCE_SECONDS, above 0: how long the files of an earlier run of this name stay where they are: a
    run that is restored from a backup gets its status, which says that they are its own, only after it was created."""
    evaluation_episode_steps: float = 10_000.0
    """EVALUATION_EPISODE_STEPS, above 0: steps of an evaluation's episodes on average, or ten times those of training
    if these are more, after which it ends with the returns so far."""
    stop_grace: float = 30.0
    """STOP_GRACE_SECONDS, 0 to 86,400: how long after SIGTERM the process may live."""
    memory_bytes: int = field(default_factory=default_memory_bound)
    """TRAINER_MEMORY_BYTES, above 0: the most memory this process may take. Default: 3/4 of the machine's, or of the
    limit of its container."""
    torch_threads: int | None = None
    """TORCH_NUM_THREADS, above 0: PyTorch's threads; None: 1 for small networks, all processors for images."""
    fast_update: bool = True
    """FAST_UPDATE, "on" or "off": whether updates may be computed by :mod:`aisandbox_trainer.fast_updates`."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables named below. Raises InvalidRun."""
        threads = environ.get("TORCH_NUM_THREADS") or None
        default = cls()
        return cls(
            simulator_patience=_number(environ, "SIMULATOR_PATIENCE_SECONDS", default.simulator_patience),
            simulator_timeout=_number(environ, "SIMULATOR_TIMEOUT_SECONDS", default.simulator_timeout),
            simulator_open_timeout=_number(environ, "SIMULATOR_OPEN_TIMEOUT_SECONDS", default.simulator_open_timeout),
            disk_patience=_number(environ, "DISK_PATIENCE_SECONDS", default.disk_patience),
            earlier_run_patience=_number(environ, "EARLIER_RUN_PATIENCE_SECONDS", default.earlier_run_patience),
            evaluation_episode_steps=_number(environ, "EVALUATION_EPISODE_STEPS", default.evaluation_episode_steps),
            stop_grace=_grace(environ, default.stop_grace),
            memory_bytes=_bytes(environ, "TRAINER_MEMORY_BYTES", default.memory_bytes),
            torch_threads=None if threads is None else math.ceil(_number(environ, "TORCH_NUM_THREADS", 1)),
            fast_update=_switch(environ, "FAST_UPDATE"),
        )


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        return positive_number(environ, name, default)
    except InvalidSetting as error:
        raise InvalidRun([FieldError(name, error.rule)]) from None


def _bytes(environ: Mapping[str, str], name: str, default: int) -> int:
    try:
        return whole_number(environ, name, default, 1, MOST_BYTES)
    except InvalidSetting as error:
        raise InvalidRun([FieldError(name, error.rule)]) from None


def _grace(environ: Mapping[str, str], default: float) -> float:
    try:
        return seconds(environ, "STOP_GRACE_SECONDS", default)
    except InvalidSetting as error:
        raise InvalidRun([FieldError("STOP_GRACE_SECONDS", error.rule)]) from None


def _switch(environ: Mapping[str, str], name: str) -> bool:
    try:
        return switch(environ, name, default=True)
    except InvalidSetting as error:
        raise InvalidRun([FieldError(name, error.rule)]) from None
