"""The service's settings, read once from environment variables.

Owns their names, defaults and rules. Must not know what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_crds.trainer_start import LOG_LEVELS

from aisandbox_api.errors import InvalidSetting

BACKENDS = ("local", "kubernetes")
LAUNCHERS = ("warm", "process")
TRAINER_NUMBERS = ("SIMULATOR_PATIENCE_SECONDS", "SIMULATOR_TIMEOUT_SECONDS", "TORCH_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service is told. Seconds and counts; paths are absolute.

    GRPC_HOST, GRPC_PORT: where it listens; port 0 picks a free one.
    MODELS_DIR, CHECKPOINT_DIR: where runs and models, and checkpoints, lie; None is the first.
    LOG_LEVEL: debug, info, warning or error, for the service and its trainers.
    MAX_CONCURRENT_RUNS: trainers at a time (default: one for each CPU). MAX_PENDING_RUNS: runs that may wait for one.
    INFERENCE_ADDRESS: host:port of an inference-server that answers Act and its kin.
    STOP_GRACE_SECONDS: how long a trainer may take to write a checkpoint before it is killed.
    METRICS_PORT: where Prometheus reads /metrics; unset: nowhere.
    TRAINER_LAUNCHER: "warm" forks trainers from a process that has loaded everything (POSIX), "process" starts a new
    process for each.
    BACKEND: "local" keeps runs in folders and trains them in child processes; "kubernetes" keeps them as TrainingRun
    resources of POD_NAMESPACE. The two that follow are its own, as MAX_CONCURRENT_RUNS, STOP_GRACE_SECONDS for
    trainers and TRAINER_LAUNCHER are the local one's; MAX_PENDING_RUNS bounds with both the runs that do not train yet.
    PROGRESS_AUDIENCE: the audience that trainers' tokens must have.
    DELETED_RUN_RETENTION_SECONDS: how long the files of a deleted run stay.
    SIMULATOR_PATIENCE_SECONDS, SIMULATOR_TIMEOUT_SECONDS and TORCH_NUM_THREADS are the trainers', who inherit them;
    they are only checked, because a trainer that cannot read them fails somebody's run.
    """

    grpc_host: str = "127.0.0.1"
    grpc_port: int = 50051
    models_dir: Path = field(default_factory=lambda: Path("models").absolute())
    checkpoint_dir: Path | None = None
    log_level: str = "info"
    max_concurrent_runs: int = os.cpu_count() or 1
    max_pending_runs: int = 100
    inference_address: str | None = None
    stop_grace_seconds: float = 30.0
    metrics_port: int | None = None
    trainer_launcher: str = "warm" if os.name == "posix" else "process"
    backend: str = "local"
    pod_namespace: str = ""
    progress_audience: str = "aisandbox-progress"
    deleted_run_retention_seconds: float = 604_800.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables; an empty one counts as unset. Raises InvalidSetting naming the variable."""
        for name in TRAINER_NUMBERS:
            _check_positive(environ, name)
        backend = _choice(environ, "BACKEND", cls().backend, BACKENDS)
        if backend == "kubernetes" and not environ.get("POD_NAMESPACE"):
            raise InvalidSetting("POD_NAMESPACE", "must be the namespace of the runs when BACKEND is kubernetes")
        models_dir = _folder(environ, "MODELS_DIR", cls().models_dir)
        return cls(
            grpc_host=environ.get("GRPC_HOST") or cls().grpc_host,
            grpc_port=_number(environ, "GRPC_PORT", cls().grpc_port, 0, 65535),
            models_dir=models_dir,
            checkpoint_dir=_folder(environ, "CHECKPOINT_DIR", models_dir) if environ.get("CHECKPOINT_DIR") else None,
            log_level=_choice(environ, "LOG_LEVEL", cls().log_level, LOG_LEVELS),
            max_concurrent_runs=_number(environ, "MAX_CONCURRENT_RUNS", cls().max_concurrent_runs, 1, 10_000),
            max_pending_runs=_number(environ, "MAX_PENDING_RUNS", cls().max_pending_runs, 0, 1_000_000),
            inference_address=environ.get("INFERENCE_ADDRESS") or None,
            stop_grace_seconds=_seconds(environ, "STOP_GRACE_SECONDS", cls().stop_grace_seconds),
            metrics_port=_number(environ, "METRICS_PORT", 0, 0, 65535) if environ.get("METRICS_PORT") else None,
            trainer_launcher=_launcher(environ),
            backend=backend,
            pod_namespace=environ.get("POD_NAMESPACE") or "",
            progress_audience=environ.get("PROGRESS_AUDIENCE") or cls().progress_audience,
            deleted_run_retention_seconds=_seconds(
                environ, "DELETED_RUN_RETENTION_SECONDS", cls().deleted_run_retention_seconds, 10 * 365 * 86_400
            ),
        )


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InvalidSetting(name, f"must be a whole number from {low} to {high}, got {text[:80]!r}")
    return number


def _seconds(environ: Mapping[str, str], name: str, default: float, most: int = 86_400) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= most:
        raise InvalidSetting(name, f"must be seconds, 0 to {most}, got {text[:80]!r}")
    return seconds


def _check_positive(environ: Mapping[str, str], name: str) -> None:
    """The rule of the trainer's own settings."""
    text = environ.get(name) or "1"
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 10**9:
        raise InvalidSetting(name, f"must be a number above 0 and below 10^9, got {text[:80]!r}")


def _choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = (environ.get(name) or default).lower()
    if text not in allowed:
        raise InvalidSetting(name, f"must be one of {', '.join(allowed)}, got {text[:80]!r}")
    return text


def _launcher(environ: Mapping[str, str]) -> str:
    launcher = _choice(environ, "TRAINER_LAUNCHER", Settings().trainer_launcher, LAUNCHERS)
    if launcher == "warm" and os.name != "posix":
        raise InvalidSetting("TRAINER_LAUNCHER", "warm needs fork, which this system does not have; use process")
    return launcher


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    """The folder, made if it is not there, because a service that cannot write should say so when it starts."""
    path = Path(environ.get(name) or default).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(name, f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidSetting(name, f"the folder {path} is not writable by this user")
    return path
