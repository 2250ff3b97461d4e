"""The service's settings, read once from environment variables.

Owns their names, defaults and rules. Must not know what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_process.environ import (
    InvalidSetting,
    choice,
    log_level,
    port,
    positive_number,
    seconds,
    whole_number,
)

BACKENDS = ("local", "kubernetes")
LAUNCHERS = ("warm", "process")
TRAINER_NUMBERS = (
    "SIMULATOR_PATIENCE_SECONDS",
    "SIMULATOR_TIMEOUT_SECONDS",
    "DISK_PATIENCE_SECONDS",
    "TORCH_NUM_THREADS",
)


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
    SIMULATOR_PATIENCE_SECONDS, SIMULATOR_TIMEOUT_SECONDS, DISK_PATIENCE_SECONDS and TORCH_NUM_THREADS are the
    trainers', who inherit them; they are only checked, because a trainer that cannot read them fails somebody's run.
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
            positive_number(environ, name, 1)
        default = cls()
        backend = choice(environ, "BACKEND", default.backend, BACKENDS)
        if backend == "kubernetes" and not environ.get("POD_NAMESPACE"):
            raise InvalidSetting("POD_NAMESPACE", "must be the namespace of the runs when BACKEND is kubernetes")
        models_dir = _folder(environ, "MODELS_DIR", default.models_dir)
        return cls(
            grpc_host=environ.get("GRPC_HOST") or default.grpc_host,
            grpc_port=port(environ, "GRPC_PORT", default.grpc_port),
            models_dir=models_dir,
            checkpoint_dir=_folder(environ, "CHECKPOINT_DIR", models_dir) if environ.get("CHECKPOINT_DIR") else None,
            log_level=log_level(environ, default.log_level),
            max_concurrent_runs=whole_number(environ, "MAX_CONCURRENT_RUNS", default.max_concurrent_runs, 1, 10_000),
            max_pending_runs=whole_number(environ, "MAX_PENDING_RUNS", default.max_pending_runs, 0, 1_000_000),
            inference_address=environ.get("INFERENCE_ADDRESS") or None,
            stop_grace_seconds=seconds(environ, "STOP_GRACE_SECONDS", default.stop_grace_seconds),
            metrics_port=port(environ, "METRICS_PORT", 0) if environ.get("METRICS_PORT") else None,
            trainer_launcher=_launcher(environ, default.trainer_launcher),
            backend=backend,
            pod_namespace=environ.get("POD_NAMESPACE") or "",
            progress_audience=environ.get("PROGRESS_AUDIENCE") or default.progress_audience,
            deleted_run_retention_seconds=seconds(
                environ, "DELETED_RUN_RETENTION_SECONDS", default.deleted_run_retention_seconds, 10 * 365 * 86_400
            ),
        )


def _launcher(environ: Mapping[str, str], default: str) -> str:
    launcher = choice(environ, "TRAINER_LAUNCHER", default, LAUNCHERS)
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
