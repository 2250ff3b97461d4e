"""Checks of what a run is to start from, or to learn from: another run that fits it, and files that exist.

Whether the networks fit is known to the trainer, before its first step; spaces are compared where the environment has
declared them. Must not know backends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import PurePosixPath

import structlog
from aisandbox.v1 import tensor_pb2
from aisandbox_crds import (
    Demonstrations,
    FieldError,
    InvalidRun,
    StartFrom,
    TakenPart,
    TrainingRun,
    TrainingRunSpec,
    normalized_output_path,
    parse_hyperparameters,
    trained_algorithm,
)
from aisandbox_environment import Spec
from aisandbox_model_store import (
    ModelStoreError,
    OutsideRoot,
    RunStore,
    StartingPoint,
    find_file,
    find_published,
    open_regular,
    read_regular,
)
from aisandbox_wire import WireError, same_form
from google.protobuf import json_format

from aisandbox_api.errors import InvalidRequest

log = structlog.get_logger()

_SPACES = {"observation_space": "observations", "action_space": "actions"}
_LARGEST_LEARNER = 16 * 1024 * 1024
_PARQUET = b"PAR1"
"""The first bytes of every Parquet file."""
_DEMONSTRATIONS = "demonstrations.file"
_LARGEST_DIGESTED = 256 * 1024 * 1024
"""Bytes of demonstrations whose digest a start call waits for, a few seconds on a slow volume."""


def check_source(spec: TrainingRunSpec, source: TrainingRun) -> None:
    """Whether a run with ``spec`` may start from the run ``source``, by what both ask for. Raises InvalidRequest.

    Whoever may call, and whose the source is, is for the caller to know.
    """
    start = spec.start_from
    if start is None:
        return
    errors = []
    if trained_algorithm(source.spec.algorithm, masks=True) != trained_algorithm(spec.algorithm, masks=True):
        rule = f"{source.name!r} is trained with {source.spec.algorithm}, and this run with {spec.algorithm}"
        errors.append(FieldError("start_from.run", rule))
    elif TakenPart.NORMALIZATION in start.take and not _normalizes(source.spec):
        errors.append(FieldError("start_from.take", f"{source.name!r} is trained without normalize"))
    if errors:
        raise InvalidRequest(errors)


def writers_of(path: str, runs: Iterable[TrainingRun]) -> list[str]:
    """The names of the runs that write, or have written, their final zip file to ``path``.

    Some disks take names that differ in case for the same file, so they count as the same here.
    """
    wanted = str(PurePosixPath(path)).casefold()
    paths = [(run.name, normalized_output_path(run.spec.model_output_path)) for run in runs]
    return [name for name, path in paths if path is not None and str(path).casefold() == wanted]


def demonstrations_digest(store: RunStore, demonstrations: Demonstrations) -> str:
    """The digest of the file; of a large one, the digest that is asked for, which the trainer compares. Blocking.

    Raises InvalidRequest if it is not there, has another digest, or does not begin as a Parquet file does.
    """
    file = demonstrations.file
    digest = demonstrations.digest
    try:
        with open_regular(store.resolve_output(file)) as opened:
            is_large = os.fstat(opened.fileno()).st_size > _LARGEST_DIGESTED
            begins = opened.read(len(_PARQUET)) == _PARQUET
        if begins and not is_large:
            digest = find_file(store, file, digest).digest
    except FileNotFoundError as error:
        raise InvalidRequest([FieldError(_DEMONSTRATIONS, f"there is no file {file!r} in MODELS_DIR")]) from error
    except OutsideRoot as error:
        raise InvalidRequest([FieldError(_DEMONSTRATIONS, error.rule)]) from error
    except ModelStoreError as error:
        raise InvalidRequest([FieldError(_DEMONSTRATIONS, str(error))]) from error
    if not begins:
        rule = f"{file!r} is no Parquet file: `aisandbox record` writes demonstrations"
        raise InvalidRequest([FieldError(_DEMONSTRATIONS, rule)])
    return digest


def starting_digest(store: RunStore, start: StartFrom, declared: Spec | None = None) -> str:
    """The digest of what a run is to start from. Blocking.

    ``declared``: what the environment of the run declares, where that is known. Raises InvalidRequest if it is not
    there, is damaged or was trained on other spaces.
    """
    try:
        if start.zip:
            return find_file(store, start.zip, start.digest).digest
        found = find_published(store, start.run, start.model, start.checkpoint, start.digest)
        if declared is not None and (difference := _difference(found, declared)):
            raise InvalidRequest([FieldError("start_from.run", f"{found.name} does not fit: {difference}")])
        return found.digest
    except FileNotFoundError as error:
        raise InvalidRequest([FieldError("start_from.zip", f"there is no file {start.zip!r} in MODELS_DIR")]) from error
    except OutsideRoot as error:
        raise InvalidRequest([FieldError("start_from.zip", error.rule)]) from error
    except ModelStoreError as error:
        field = "zip" if start.zip else "checkpoint" if start.checkpoint else "model" if start.model else "run"
        raise InvalidRequest([FieldError(f"start_from.{field}", str(error))]) from error


def _difference(found: StartingPoint, declared: Spec) -> str:
    """Which of its spaces has another form than the run's; "" if none has, or they are not known.

    The trainer compares them too.
    """
    path = found.learner_path
    if path is None:
        return ""
    try:
        learner = json.loads(read_regular(path, _LARGEST_LEARNER, path.parents[2]))  # below the run's folder
        theirs = [json_format.ParseDict(learner[name], tensor_pb2.Space()) for name in _SPACES]
        for name, one, own in zip(_SPACES, theirs, (declared.observation_space, declared.action_space), strict=True):
            if not same_form(one, own):
                return f"its {_SPACES[name]} are {_text(one)}, and this run's are {_text(own)}"
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError, json_format.ParseError, WireError):
        log.info("the spaces of what a run starts from are not known", path=found.relative)
    return ""


def _text(space: tensor_pb2.Space) -> str:
    return json.dumps(json_format.MessageToDict(space), separators=(",", ":"))[:300]


def _normalizes(spec: TrainingRunSpec) -> bool:
    try:
        return parse_hyperparameters(spec.algorithm, spec.hyperparameters).normalize is not None
    except InvalidRun:  # of an earlier version; its trainer knows better
        return True
