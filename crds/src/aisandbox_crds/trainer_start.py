"""How a trainer is started: the environment variables of its process.

Owns their names and forms. Must not know who starts trainers (a Job's pod template, a parent process).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aisandbox_crds.codec import spec_from_json, spec_to_json
from aisandbox_crds.errors import FieldError, InvalidRun, short_repr
from aisandbox_crds.naming import is_run_name
from aisandbox_crds.spec import TrainingRunSpec

LOG_LEVELS = ("debug", "info", "warning", "error")
TRAINER_NUMBERS = (
    "SIMULATOR_PATIENCE_SECONDS",
    "SIMULATOR_TIMEOUT_SECONDS",
    "SIMULATOR_OPEN_TIMEOUT_SECONDS",
    "DISK_PATIENCE_SECONDS",
    "EARLIER_RUN_PATIENCE_SECONDS",
    "EVALUATION_EPISODE_STEPS",
    "TORCH_NUM_THREADS",
)
"""Settings of a trainer, numbers above 0, that whoever starts it passes on unchanged: it checks them when it starts
itself, because a trainer that cannot read them fails its run."""


SECRET_VARIABLES = ("PROGRESS_TOKEN", "CHECKPOINT_KEY")
"""Variables that a trainer takes out of ``os.environ`` once it has read them: what its run starts has neither."""
_KEY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TrainerStart:
    """One attempt at a run.

    ``attempt`` counts from 1 and is the fence of what is written; None: the trainer claims the next one from the run's
    folder. ``run_uid`` tells the run from an earlier one of the same name, whose files it must not take for its own.
    ``progress_address`` None: progress is not reported.
    With ``progress_ca_file`` that is reached by TLS, with a certificate signed by one of the authorities in that file.
    ``session_socket``: a Unix socket of the same service, for sessions with the simulators of its pools.
    The token is in ``progress_token`` or, where it is renewed, in ``progress_token_file``, read before each use.
    ``stop_with_parent``: end of file on stdin means SIGTERM. ``checkpoint_key``: hexadecimal, what this run signs its
    checkpoints with, and reads them only if they are; None: they are neither signed nor checked. With
    ``accept_unsigned_checkpoints`` those without a keyed digest are read too: an attempt had no key.
    """

    run_id: str
    attempt: int | None
    spec: TrainingRunSpec
    models_dir: Path
    checkpoint_dir: Path
    progress_address: str | None = None
    progress_token: str | None = None
    progress_token_file: Path | None = None
    progress_ca_file: Path | None = None
    session_socket: Path | None = None
    termination_message_path: Path | None = None
    log_level: str = "info"
    stop_with_parent: bool = False
    run_uid: str = ""
    checkpoint_key: str | None = None
    accept_unsigned_checkpoints: bool = False

    def to_environ(self) -> dict[str, str]:
        """The variables to set for the trainer; what is None is left out."""
        values: dict[str, str | Path | None] = {
            "RUN_ID": self.run_id,
            "RUN_UID": self.run_uid or None,
            "RUN_ATTEMPT": None if self.attempt is None else str(self.attempt),
            "RUN_SPEC": json.dumps(spec_to_json(self.spec), separators=(",", ":")),
            "MODELS_DIR": self.models_dir,
            "CHECKPOINT_DIR": self.checkpoint_dir,
            "PROGRESS_ADDRESS": self.progress_address,
            "PROGRESS_TOKEN": self.progress_token,
            "PROGRESS_TOKEN_FILE": self.progress_token_file,
            "PROGRESS_CA_FILE": self.progress_ca_file,
            "SESSION_SOCKET": self.session_socket,
            "TERMINATION_MESSAGE_PATH": self.termination_message_path,
            "LOG_LEVEL": self.log_level,
            "STOP_WITH_PARENT": "true" if self.stop_with_parent else "false",
            "CHECKPOINT_KEY": self.checkpoint_key,
            "ACCEPT_UNSIGNED_CHECKPOINTS": "true" if self.accept_unsigned_checkpoints else None,
        }
        return {name: str(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> TrainerStart:
        """Reads what :meth:`to_environ` wrote; CHECKPOINT_DIR defaults to MODELS_DIR. Raises InvalidRun.

        The spec's types are checked, not its values: that is :func:`aisandbox_crds.validation.validate_spec`.
        """
        errors: list[FieldError] = []
        run_id = _read(environ, "RUN_ID", errors)
        if run_id and not is_run_name(run_id):
            errors.append(
                FieldError("RUN_ID", f"must be a DNS-1123 label of at most 52 characters, got {short_repr(run_id)}")
            )
        attempt = environ.get("RUN_ATTEMPT", "")
        if attempt and not (attempt.isascii() and attempt.isdigit() and len(attempt) < 10 and int(attempt) >= 1):
            errors.append(FieldError("RUN_ATTEMPT", f"must be a whole number from 1, got {short_repr(attempt)}"))
        models_dir = _read(environ, "MODELS_DIR", errors)
        log_level = (environ.get("LOG_LEVEL") or "info").lower()
        if log_level not in LOG_LEVELS:
            errors.append(
                FieldError("LOG_LEVEL", f"must be one of {', '.join(LOG_LEVELS)}, got {short_repr(log_level)}")
            )
        stop = _read_switch(environ, "STOP_WITH_PARENT", errors)
        unsigned = _read_switch(environ, "ACCEPT_UNSIGNED_CHECKPOINTS", errors)
        key = environ.get("CHECKPOINT_KEY") or None
        if key is not None and not _KEY.fullmatch(key):
            errors.append(FieldError("CHECKPOINT_KEY", "must be 64 hexadecimal digits"))
        spec = _read_spec(_read(environ, "RUN_SPEC", errors), errors)
        if errors or spec is None:
            raise InvalidRun(errors)
        return cls(
            run_id=run_id,
            attempt=int(attempt) if attempt else None,
            spec=spec,
            models_dir=Path(models_dir),
            checkpoint_dir=Path(environ.get("CHECKPOINT_DIR") or models_dir),
            progress_address=environ.get("PROGRESS_ADDRESS") or None,
            progress_token=environ.get("PROGRESS_TOKEN") or None,
            progress_token_file=_path(environ.get("PROGRESS_TOKEN_FILE")),
            progress_ca_file=_path(environ.get("PROGRESS_CA_FILE")),
            session_socket=_path(environ.get("SESSION_SOCKET")),
            termination_message_path=_path(environ.get("TERMINATION_MESSAGE_PATH")),
            log_level=log_level,
            stop_with_parent=stop,
            run_uid=environ.get("RUN_UID", ""),
            checkpoint_key=key,
            accept_unsigned_checkpoints=unsigned,
        )


def spec_for_trainer(spec: TrainingRunSpec) -> TrainingRunSpec:
    """The spec that a trainer gets: without the fields that only its backend needs (suspend, resources, ...).

    So a run that is suspended and resumed, or moved to other nodes, is to its trainer the same run. Fill in the seed
    first: without one, a trainer draws another at every attempt.
    """
    return replace(
        spec,
        suspend=False,
        cancel=False,
        ttl_seconds_after_finished=None,
        resources={},
        node_selector={},
        tolerations=(),
        priority_class_name="",
        labels={},
        pod_template=None,
    )


def _read(environ: Mapping[str, str], name: str, errors: list[FieldError]) -> str:
    value = environ.get(name, "")
    if not value:
        errors.append(FieldError(name, "the variable is not set"))
    return value


def _read_switch(environ: Mapping[str, str], name: str, errors: list[FieldError]) -> bool:
    value = (environ.get(name) or "false").lower()
    if value not in ("true", "false"):
        errors.append(FieldError(name, f"must be true or false, got {short_repr(value)}"))
    return value == "true"


def _read_spec(text: str, errors: list[FieldError]) -> TrainingRunSpec | None:
    if not text:
        return None
    try:
        return spec_from_json(json.loads(text))
    except InvalidRun as error:
        errors.extend(error.errors)
    except (ValueError, RecursionError):
        errors.append(FieldError("RUN_SPEC", f"is not JSON: {short_repr(text)}"))
    return None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
