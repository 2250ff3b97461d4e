"""The settings of the inference-server, read once from environment variables.

Owns their names, defaults and rules. Must not know what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_process.environ import InvalidSetting, log_level, port, seconds, whole_number

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server is told.

    MODELS_DIR: where the runs' models lie; it must be there.
    GRPC_HOST, GRPC_PORT: where it listens; port 0 picks a free one.
    METRICS_PORT: where Prometheus reads /metrics; unset: nowhere. LOG_LEVEL: debug, info, warning or error.
    MODEL_CACHE_BYTES: memory for loaded models; the least recently used ones go.
    MAX_BATCH_OBSERVATIONS: observations in one ActBatch. MAX_MESSAGE_BYTES: size of a request.
    INFERENCE_THREADS: threads for models that take longer than a millisecond (default: one for each CPU).
    STOP_GRACE_SECONDS: how long calls that are under way at SIGTERM may take to end.
    """

    models_dir: Path = field(default_factory=lambda: Path("models").absolute())
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 50051
    metrics_port: int | None = None
    log_level: str = "info"
    model_cache_bytes: int = 1024 * _MIB
    max_batch_observations: int = 4096
    max_message_bytes: int = 64 * _MIB
    inference_threads: int = os.cpu_count() or 1
    stop_grace_seconds: float = 10.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables; an empty one counts as unset. Raises InvalidSetting naming the variable and the rule."""
        default = cls()
        return cls(
            models_dir=_folder(environ, "MODELS_DIR", default.models_dir),
            grpc_host=environ.get("GRPC_HOST") or default.grpc_host,
            grpc_port=port(environ, "GRPC_PORT", default.grpc_port),
            metrics_port=port(environ, "METRICS_PORT", 0) if environ.get("METRICS_PORT") else None,
            log_level=log_level(environ, default.log_level),
            model_cache_bytes=whole_number(environ, "MODEL_CACHE_BYTES", default.model_cache_bytes, _MIB, 1 << 50),
            max_batch_observations=whole_number(
                environ, "MAX_BATCH_OBSERVATIONS", default.max_batch_observations, 1, 10_000_000
            ),
            max_message_bytes=whole_number(
                environ, "MAX_MESSAGE_BYTES", default.max_message_bytes, 1024, (1 << 31) - 1
            ),
            inference_threads=whole_number(environ, "INFERENCE_THREADS", default.inference_threads, 1, 1024),
            stop_grace_seconds=seconds(environ, "STOP_GRACE_SECONDS", default.stop_grace_seconds),
        )


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    path = Path(environ.get(name) or default).absolute()
    if not path.is_dir():
        raise InvalidSetting(name, f"must be a folder that is there, and {path} is none")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InvalidSetting(name, f"must be a folder this user may read, and {path} is none")
    return path
