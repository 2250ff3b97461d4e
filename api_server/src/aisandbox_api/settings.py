"""The service's settings, read once from environment variables.

Owns their names, ranges and defaults. Must not know what they are used for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from aisandbox_access import AccessSettings
from aisandbox_crds import MOST_BYTES, TRAINER_NUMBERS
from aisandbox_environment import DIAGNOSTICS, simulator_networks
from aisandbox_process import (
    InvalidHostPort,
    InvalidSetting,
    choice,
    is_loopback,
    log_level,
    port,
    positive_number,
    seconds,
    split_host_port,
    switch,
    whole_number,
)
from aisandbox_process.tls import ServerFiles, server_files

from aisandbox_api.environment_modules import ANY, SETTING, read_patterns
from aisandbox_api.output_files import OVERWRITE
from aisandbox_api.output_files import SETTING as OVERWRITE_SETTING

BACKENDS = ("local", "kubernetes")
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "[::1]", "localhost")
LAUNCHERS = ("warm", "process")
TRAINER_SWITCHES = ("FAST_UPDATE", "GRPC_DIRECT")
"""What trainers inherit, as TRAINER_NUMBERS, and is on or off."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


@dataclass(frozen=True, slots=True)
class OwnerQuotas:
    """What one owner may have; 0: any number."""

    max_unfinished_runs_per_owner: int = 100
    """Runs that wait, train or are suspended."""

    max_pending_runs_per_owner: int = 50
    """Runs that wait for a trainer."""

    max_runs_per_owner: int = 0
    """Runs that are kept, those that are done too."""

    max_starts_per_minute: int = 60
    """Starts in a minute; a retry with the same request_id is none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the service. Each field is the variable of the same name in capitals; paths are absolute."""

    grpc_host: str = "127.0.0.1"
    """The address to listen on, an IP address or host name of this machine; 0.0.0.0 for all of them."""

    grpc_port: int = 50051
    """The TCP port to listen on, 0 to 65535; 0 picks a free one."""

    models_dir: Path = field(default_factory=lambda: Path("models").absolute())
    """The folder of runs and models; created if it is missing. One service at a time, with the local backend."""

    checkpoint_dir: Path | None = None
    """The folder of checkpoints; created if it is missing. None: ``models_dir``."""

    log_level: str = "info"
    """debug, info, warning or error; for the service and its trainers."""

    max_concurrent_runs: int = os.cpu_count() or 1
    """Local backend: the number of trainer slots, 1 to 10,000. Default: one for each CPU."""

    max_pending_runs: int = 100
    """The number of runs that may wait for a trainer, 0 to 1,000,000; a start beyond it is refused."""

    inference_address: str | None = None
    """host:port of an inference-server for the calls about policies. None: this service refuses them.

    With the Kubernetes backend also kubernetes:///SERVICE:PORT, for every ready pod of a Service of the namespace.
    """

    stop_grace_seconds: float = 30.0
    """Seconds, 0 to 86,400, that calls (at most 10) and the last checkpoint of a local trainer may take at a stop."""

    metrics_port: int | None = None
    """The TCP port of /metrics for Prometheus, 0 to 65535, at ``grpc_host``; 0 picks a free one. None: not served."""

    trainer_launcher: str = "warm" if os.name == "posix" else "process"
    """Local backend: "warm" forks trainers from a loaded fork server (POSIX), "process" starts a process for each."""

    backend: str = "local"
    """"local": runs are folders and child processes; "kubernetes": they are TrainingRun resources."""

    pod_namespace: str = ""
    """Kubernetes backend: the namespace of the runs; required."""

    progress_audience: str = "aisandbox-progress"
    """Kubernetes backend: the audience that the tokens of trainers must have."""

    deleted_run_retention_seconds: float = 604_800.0
    """Kubernetes backend: seconds, 0 to 10 years, before the files of a deleted run are removed. Default: a week."""

    max_connection_age_seconds: float = 0.0
    """Seconds, 0 to 86,400, after which clients are asked to connect again; calls continue. 0: never."""

    max_suspended_runs: int = 100
    """The number of runs that may be suspended, 1 to 1,000,000; while there are so many, a start is refused."""

    simulator_diagnostics: bool = True
    """Whether errors say what is at an address where no simulator answers, such as a server without HTTP/2.

    Default: only if the service listens on this machine's own addresses; others could look around in its network.
    """

    replicas_address: str | None = None
    """Where the other replicas of this service are, for simulators that are attached to them. None: there are none.

    With the Kubernetes backend kubernetes:///SERVICE:PORT, for every ready pod of a Service of the namespace; else
    host:port, or several of them with commas. Its own address may be among them.
    """

    trainer_address: str | None = None
    """host:port to listen on for trainers and for nobody else; port 0 picks a free one.

    Trainers report their progress there, list attached simulators and have sessions with them; nothing else is served
    there, and progress not at ``grpc_port``. None: with the local backend a free port of 127.0.0.1, else ``grpc_port``.
    """

    tls: ServerFiles | None = None
    """TLS_CERT_FILE, TLS_KEY_FILE and, for clients with certificates of their own, TLS_CLIENT_CA_FILE. None: no TLS.

    Of ``grpc_port``, ``http_port`` and, where it is not a loopback address, ``trainer_address``.
    """

    tls_ca_file: Path | None = None
    """PEM: who may sign the certificates of inference-servers and other replicas. None: they are called without TLS."""

    max_simulators: int = 10_000
    """The number of simulators that may be attached to this process, 0 to 1,000,000; one beyond it is refused."""

    http_port: int | None = None
    """The TCP port of HTTP and WebSockets, 0 to 65535, at ``grpc_host``; 0 picks a free one. None: not served."""

    http_origins: tuple[str, ...] = ()
    """The origins of pages that may use ``http_port``, with commas; * means all. Empty: this machine and host."""

    access: AccessSettings = field(default_factory=AccessSettings)
    """Who may call."""

    quotas: OwnerQuotas = OwnerQuotas()
    """What one owner may have, where callers are authenticated."""

    default_deadline_seconds: int = 0
    """The activeDeadlineSeconds of runs that a start call begins, up to 10 years; 0: none."""

    environment_modules: tuple[str, ...] | None = None
    """Patterns of the modules that Gymnasium ids may name ("my_package:MyEnv-v0"), with commas, as ``my_envs,lab.*``.

    None: with the local backend any, if only this machine may call and callers are not authenticated, else none;
    with the Kubernetes backend any, since a trainer's pod has no modules but those of its image.
    """

    overwrite_outputs: str = "owner"
    """Whose runs may write over a final model at a ``model_output_path``: "owner", those of the same owner (without
    authentication all have the same), or "never"."""

    @property
    def allowed_modules(self) -> tuple[str, ...]:
        """The patterns, with the default in the place of None."""
        if self.environment_modules is not None:
            return self.environment_modules
        is_private = is_loopback(self.grpc_host) and self.access.auth == "off" and not self.access.insecure
        return ANY if is_private or self.backend == "kubernetes" else ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables; an empty one counts as unset. Raises InvalidSetting naming the variable."""
        for name in TRAINER_NUMBERS:
            positive_number(environ, name, 1)
        for name in TRAINER_SWITCHES:
            switch(environ, name, default=True)
        whole_number(environ, "TRAINER_MEMORY_BYTES", 1, 1, MOST_BYTES)  # of the trainers too
        simulator_networks(environ)
        default = cls()
        backend = choice(environ, "BACKEND", default.backend, BACKENDS)
        if backend == "kubernetes" and not environ.get("POD_NAMESPACE"):
            raise InvalidSetting("POD_NAMESPACE", "must be the namespace of the runs when BACKEND is kubernetes")
        models_dir = _folder(environ, "MODELS_DIR", default.models_dir)
        grpc_host = environ.get("GRPC_HOST") or default.grpc_host
        return cls(
            grpc_host=grpc_host,
            grpc_port=port(environ, "GRPC_PORT", default.grpc_port),
            models_dir=models_dir,
            checkpoint_dir=_folder(environ, "CHECKPOINT_DIR", models_dir) if environ.get("CHECKPOINT_DIR") else None,
            log_level=log_level(environ, default.log_level),
            max_concurrent_runs=whole_number(environ, "MAX_CONCURRENT_RUNS", default.max_concurrent_runs, 1, 10_000),
            max_pending_runs=whole_number(environ, "MAX_PENDING_RUNS", default.max_pending_runs, 0, 1_000_000),
            max_suspended_runs=whole_number(environ, "MAX_SUSPENDED_RUNS", default.max_suspended_runs, 1, 1_000_000),
            inference_address=environ.get("INFERENCE_ADDRESS") or None,
            stop_grace_seconds=seconds(environ, "STOP_GRACE_SECONDS", default.stop_grace_seconds),
            max_connection_age_seconds=seconds(
                environ, "MAX_CONNECTION_AGE_SECONDS", default.max_connection_age_seconds
            ),
            replicas_address=environ.get("REPLICAS_ADDRESS") or None,
            trainer_address=_trainer_address(environ, backend),
            tls=server_files(environ),
            tls_ca_file=Path(environ["TLS_CA_FILE"]).absolute() if environ.get("TLS_CA_FILE") else None,
            max_simulators=whole_number(environ, "MAX_SIMULATORS", default.max_simulators, 0, 1_000_000),
            http_port=port(environ, "HTTP_PORT", 0) if environ.get("HTTP_PORT") else None,
            http_origins=_origins(environ),
            access=AccessSettings.from_environ(environ),
            quotas=_quotas(environ),
            default_deadline_seconds=whole_number(environ, "DEFAULT_DEADLINE_SECONDS", 0, 0, 10 * 365 * 86_400),
            environment_modules=_modules(environ),
            overwrite_outputs=choice(environ, OVERWRITE_SETTING, default.overwrite_outputs, OVERWRITE),
            metrics_port=port(environ, "METRICS_PORT", 0) if environ.get("METRICS_PORT") else None,
            simulator_diagnostics=switch(
                environ, DIAGNOSTICS, default=grpc_host in LOOPBACK_HOSTS and backend == "local"
            ),
            trainer_launcher=_launcher(environ, default.trainer_launcher),
            backend=backend,
            pod_namespace=environ.get("POD_NAMESPACE") or "",
            progress_audience=environ.get("PROGRESS_AUDIENCE") or default.progress_audience,
            deleted_run_retention_seconds=seconds(
                environ, "DELETED_RUN_RETENTION_SECONDS", default.deleted_run_retention_seconds, 10 * 365 * 86_400
            ),
        )


def _quotas(environ: Mapping[str, str]) -> OwnerQuotas:
    default = OwnerQuotas()
    return OwnerQuotas(
        **{
            each.name: whole_number(environ, each.name.upper(), getattr(default, each.name), 0, 1_000_000)
            for each in fields(OwnerQuotas)
        }
    )


def _trainer_address(environ: Mapping[str, str], backend: str) -> str | None:
    text = environ.get("TRAINER_ADDRESS") or None
    if text is not None:
        try:
            host, _ = split_host_port(text, lowest_port=0)
        except InvalidHostPort as error:
            raise InvalidSetting("TRAINER_ADDRESS", f"{text[:80]!r} {error.problem}: must be host:port") from None
        if backend == "local" and environ.get("TLS_CERT_FILE") and not is_loopback(host):
            rule = "must be an address of this machine only, where its trainers are, which do not use TLS"
            raise InvalidSetting("TRAINER_ADDRESS", f"{rule}, got {text[:80]!r}")
    return text


def _launcher(environ: Mapping[str, str], default: str) -> str:
    launcher = choice(environ, "TRAINER_LAUNCHER", default, LAUNCHERS)
    if launcher == "warm" and os.name != "posix":
        raise InvalidSetting("TRAINER_LAUNCHER", "warm needs fork, which this system does not have; use process")
    return launcher


def _modules(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    text = environ.get(SETTING) or ""
    try:
        return read_patterns(text) if text else None
    except ValueError as error:
        rule = "must be names of modules with commas, such as my_envs,lab.*; * means all"
        raise InvalidSetting(SETTING, f"{rule}, got {str(error)[:80]!r}") from None


def _origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    entries = tuple(part.strip() for part in environ.get("HTTP_ORIGINS", "").split(",") if part.strip())
    for entry in entries:
        if entry not in ("*", "null") and _ORIGIN.fullmatch(entry) is None:
            rule = "must be origins with commas, such as https://example.com or http://localhost:8000, null, or *"
            raise InvalidSetting("HTTP_ORIGINS", f"{rule}, got {entry[:80]!r}")
    return entries


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    """The folder, created if it is missing, so that a service that cannot write there says so when it starts."""
    path = Path(environ.get(name) or default).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(name, f"cannot create the folder {path}: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidSetting(name, f"the folder {path} is not writable by this user")
    return path
