"""The settings of the inference-server, read once from environment variables.

Owns their names, defaults and ranges. Must not know what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_access import AccessSettings
from aisandbox_process import InvalidSetting, log_level, port, seconds, whole_number
from aisandbox_process.tls import ServerFiles, server_files

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, each named after its environment variable in lower case."""

    models_dir: Path = field(default_factory=lambda: Path("models").absolute())
    """The folder of the runs' models; must exist and be readable."""
    grpc_host: str = "127.0.0.1"
    """The address to listen on."""
    grpc_port: int = 50051
    """The port to listen on; 0 picks a free one."""
    tls: ServerFiles | None = None
    """TLS_CERT_FILE, TLS_KEY_FILE and, for clients with certificates of their own, TLS_CLIENT_CA_FILE. None: no TLS."""
    metrics_port: int | None = None
    """The port of /metrics, /livez and /readyz, at GRPC_HOST, without TLS; None (unset): they are not served."""
    log_level: str = "info"
    """debug, info, warning or error."""
    model_cache_bytes: int = 1024 * _MIB
    """Memory for loaded models, at least 1 MiB; the least recently used ones are evicted."""
    max_batch_observations: int = 4096
    """Observations in one ActBatch, 1 to 10,000,000."""
    max_message_bytes: int = 64 * _MIB
    """Bytes of a request, 1024 to 2^31 - 1."""
    inference_threads: int = os.cpu_count() or 1
    """Threads for models that take longer than a millisecond, 1 to 1024."""
    stop_grace_seconds: float = 10.0
    """How long calls that are running at SIGTERM may take to end."""
    max_connection_age_seconds: float = 300.0
    """Seconds after which clients are asked to connect again, so that they find new servers; 0: never."""
    access: AccessSettings = field(default_factory=AccessSettings)
    """Who may call."""
    pod_namespace: str = ""
    """The namespace of the runs; needed with AUTH kubernetes."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables; an empty one counts as unset. Raises InvalidSetting naming the variable and the rule."""
        default = cls()
        return cls(
            models_dir=_folder(environ, "MODELS_DIR", default.models_dir),
            grpc_host=environ.get("GRPC_HOST") or default.grpc_host,
            grpc_port=port(environ, "GRPC_PORT", default.grpc_port),
            tls=server_files(environ),
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
            max_connection_age_seconds=seconds(
                environ, "MAX_CONNECTION_AGE_SECONDS", default.max_connection_age_seconds
            ),
            access=AccessSettings.from_environ(environ),
            pod_namespace=environ.get("POD_NAMESPACE") or "",
        )


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    path = Path(environ.get(name) or default).absolute()
    if not path.is_dir():
        raise InvalidSetting(name, f"must be an existing folder, got {path}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InvalidSetting(name, f"must be a folder that this user may read, got {path}")
    return path
