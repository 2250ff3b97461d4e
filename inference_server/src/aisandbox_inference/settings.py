"""The settings of the inference-server, read once from environment variables.

Owns their names, defaults and rules. Must not know what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_inference.errors import InvalidSetting

LOG_LEVELS = ("debug", "info", "warning", "error")
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
        log_level = (environ.get("LOG_LEVEL") or default.log_level).lower()
        if log_level not in LOG_LEVELS:
            raise InvalidSetting("LOG_LEVEL", f"must be one of {', '.join(LOG_LEVELS)}, and is {log_level[:80]!r}")
        metrics_port = _whole(environ, "METRICS_PORT", 0, 0, 65_535)
        return cls(
            models_dir=_folder(environ, "MODELS_DIR", default.models_dir),
            grpc_host=environ.get("GRPC_HOST") or default.grpc_host,
            grpc_port=_whole(environ, "GRPC_PORT", default.grpc_port, 0, 65_535),
            metrics_port=metrics_port if environ.get("METRICS_PORT") else None,
            log_level=log_level,
            model_cache_bytes=_whole(environ, "MODEL_CACHE_BYTES", default.model_cache_bytes, _MIB, 1 << 50),
            max_batch_observations=_whole(
                environ, "MAX_BATCH_OBSERVATIONS", default.max_batch_observations, 1, 10_000_000
            ),
            max_message_bytes=_whole(environ, "MAX_MESSAGE_BYTES", default.max_message_bytes, 1024, (1 << 31) - 1),
            inference_threads=_whole(environ, "INFERENCE_THREADS", default.inference_threads, 1, 1024),
            stop_grace_seconds=_seconds(environ, "STOP_GRACE_SECONDS", default.stop_grace_seconds),
        )


def _whole(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InvalidSetting(name, f"must be a whole number from {low} to {high}, and is {text[:80]!r}")
    return number


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise InvalidSetting(name, f"must be seconds, 0 to 86400, and is {text[:80]!r}")
    return seconds


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    path = Path(environ.get(name) or default).absolute()
    if not path.is_dir():
        raise InvalidSetting(name, f"must be a folder that is there, and {path} is none")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InvalidSetting(name, f"must be a folder this user may read, and {path} is none")
    return path
