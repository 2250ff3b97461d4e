"""Checks of what a run is to start from, or to learn from: another run that fits it, and files that exist.

Whether the networks fit is known to the trainer, before its first step; spaces are compared where the environment has
declared them. Must not know backends.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

import structlog
from aisandbox.v1 import tensor_pb2
from aisandbox_crds import (
    DemonstrationSettings,
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
    LARGEST_LEARNER,
    CheckpointNotFound,
    Damaged,
    ModelNotFound,
    ModelStoreError,
    OtherDigest,
    OutsideRoot,
    RunNotFound,
    RunStore,
    StartingPoint,
    find_published,
    open_file,
    read_regular,
)
from aisandbox_wire import WireError, form_of, same_form
from google.protobuf import json_format

from aisandbox_api.errors import InvalidRequest

log = structlog.get_logger()

_SPACES = {"observation_space": "observations", "action_space": "actions"}
_PARQUET = b"PAR1"
"""The first bytes of every Parquet file, and the last."""
_SMALLEST_PARQUET = 12
"""Bytes: both, and the length of the metadata between them."""
LARGEST_DIGESTED = 256 * 1024 * 1024
"""Bytes of a file that a start call reads, since its client waits: a few seconds on a slow volume."""


def _is_parquet(file: BinaryIO) -> bool:
    """Whether it begins and ends as one: what was cut off does not."""
    begins = file.read(len(_PARQUET)) == _PARQUET
    try:
        size = file.seek(-len(_PARQUET), os.SEEK_END) + len(_PARQUET)
    except OSError:
        return False
    return begins and file.read() == _PARQUET and size >= _SMALLEST_PARQUET


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of files of users: the field that names one, whether an open file is one, and what is said of another."""

    field: str
    matches: Callable[[BinaryIO], bool]
    problem: str

    @property
    def digest_field(self) -> str:
        """The field of its digest, beside the one that names the file."""
        return f"{self.field.partition('.')[0]}.digest"


_RECORDED = _Kind(
    "demonstrations.file",
    _is_parquet,
    "is not a Parquet file, or is damaged: `aisandbox record` writes demonstrations",
)
_SAVED = _Kind(
    "start_from.zip",
    zipfile.is_zipfile,
    "is not a zip file, or is damaged: model.save() of SB3 writes one",
)


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


async def with_digests(spec: TrainingRunSpec, store: RunStore, declared: Spec | None) -> TrainingRunSpec:
    """The spec with the digests of what its run starts and learns from, which are checked. Raises InvalidRequest.

    ``declared``: what the environment of the run declares, where that is known. A file is read to its end only while
    this is awaited: a stop of the service does not wait for it.
    """
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise CancelledError

    start, demonstrations = spec.start_from, spec.demonstrations
    try:
        if start is not None:
            digest = await asyncio.to_thread(starting_digest, store, start, declared, check)
            start = replace(start, digest=digest)
        if demonstrations is not None:
            digest = await asyncio.to_thread(demonstrations_digest, store, demonstrations, check)
            demonstrations = replace(demonstrations, digest=digest)
    finally:
        cancelled.set()
    return replace(spec, start_from=start, demonstrations=demonstrations)


def demonstrations_digest(
    store: RunStore, demonstrations: DemonstrationSettings, check: Callable[[], None] = lambda: None
) -> str:
    """The digest of the file, or of a large one "", unless a digest is asked for. Blocking.

    ``check`` is called while it is read, and may raise. Raises InvalidRequest if it is not there, has another digest,
    or is no Parquet file by its first and last bytes.
    """
    return _file_digest(store, demonstrations.file, demonstrations.digest, _RECORDED, check)


def starting_digest(
    store: RunStore, start: StartFrom, declared: Spec | None = None, check: Callable[[], None] = lambda: None
) -> str:
    """The digest of what a run is to start from; of a large zip as of :func:`demonstrations_digest`. Blocking.

    ``declared`` as of :func:`with_digests`, ``check`` as of :func:`demonstrations_digest`. Raises InvalidRequest if it
    is not there, is damaged or was trained on other spaces.
    """
    if start.zip:
        return _file_digest(store, start.zip, start.digest, _SAVED, check)
    try:
        found = find_published(store, start.run, start.model, start.checkpoint, start.digest)
    except FileNotFoundError as error:
        raise InvalidRequest([FieldError("start_from.run", f"files of {start.run!r} were deleted")]) from error
    except RunNotFound as error:
        raise InvalidRequest([FieldError("start_from.run", str(error))]) from error
    except ModelStoreError as error:
        field = "checkpoint" if start.checkpoint else "model" if start.model else "run"
        if start.digest and isinstance(error, ModelNotFound | CheckpointNotFound):
            field = "digest"  # which is looked for in place of the selector
        raise InvalidRequest([FieldError(f"start_from.{field}", str(error))]) from error
    if declared is not None and (difference := _difference(found, declared)):
        raise InvalidRequest([FieldError("start_from.run", f"{found.name} does not fit: {difference}")])
    return found.digest


def _file_digest(store: RunStore, file: str, digest: str, kind: _Kind, check: Callable[[], None]) -> str:
    """The digest of a file of users; of one that is larger than a start call reads, the one that is asked for.

    The trainer compares it before it reads the file. Raises InvalidRequest.
    """
    try:
        found, opened = open_file(store, file, digest, largest=LARGEST_DIGESTED, check=check)
        with opened:
            if not kind.matches(opened):
                raise InvalidRequest([FieldError(kind.field, f"{file!r} {kind.problem}")])
            size = os.fstat(opened.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError) as error:  # of a path below a file
        raise InvalidRequest([FieldError(kind.field, f"there is no file {file!r} in MODELS_DIR")]) from error
    except OutsideRoot as error:
        raise InvalidRequest([FieldError(kind.field, error.rule)]) from error
    except OtherDigest as error:
        raise InvalidRequest([FieldError(kind.digest_field, f"the file has the digest {error.found}")]) from error
    except Damaged as error:
        raise InvalidRequest([FieldError(kind.field, f"{file!r} is damaged: {error.why}")]) from error
    if size > LARGEST_DIGESTED:
        log.info("the file is too large for a start call: the trainer reads it", field=kind.field, file=file, size=size)
    return found.digest


def _difference(found: StartingPoint, declared: Spec) -> str:
    """Which of its spaces has another form than the run's; "" if none has, or they are not known.

    The trainer compares them too.
    """
    path = found.learner_path
    if path is None:
        return ""
    try:
        learner = json.loads(read_regular(path, LARGEST_LEARNER, path.parents[2]))  # below the run's folder
        theirs = [json_format.ParseDict(learner[name], tensor_pb2.Space()) for name in _SPACES]
        for name, one, own in zip(_SPACES, theirs, (declared.observation_space, declared.action_space), strict=True):
            if not same_form(one, own):
                return f"its {_SPACES[name]} are {form_of(one)[:300]}, and this run's are {form_of(own)[:300]}"
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError, json_format.ParseError, WireError):
        log.info("the spaces of what a run starts from are not known", path=found.relative)
    return ""


def _normalizes(spec: TrainingRunSpec) -> bool:
    try:
        return parse_hyperparameters(spec.algorithm, spec.hyperparameters).normalize is not None
    except InvalidRun:  # of an earlier version; its trainer knows better
        return True
