"""What a run starts from, and what it learns from first: found on the volume, held to its digest, and read.

What was found first is recorded in the run's own folder, so that every attempt uses the same. Where it can be is for
:mod:`aisandbox_model_store` to know. Must not know models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import structlog
from aisandbox_crds import Artifact, DemonstrationSettings, StartFrom, TakenPart
from aisandbox_environment import InvalidDemonstrationFile
from aisandbox_model_store import (
    CHECKPOINT_ZIP,
    LARGEST_LEARNER,
    LEARNER_FILE,
    Damaged,
    ModelStoreError,
    RunFolder,
    RunNotFound,
    RunStore,
    StartingPoint,
    Writer,
    digest_of,
    find_published,
    open_file,
    open_regular,
    read_regular,
)

from aisandbox_trainer.checkpoints.files import REPLAY_BUFFER
from aisandbox_trainer.checkpoints.weights import (
    STATISTICS,
    WEIGHTS,
    Weights,
    read_statistics,
    read_weights,
    read_zip,
)
from aisandbox_trainer.errors import CannotStartFrom, InvalidDemonstrations, UnusableFile
from aisandbox_trainer.training.model_signature import ModelSignature
from aisandbox_trainer.training.take_over import SourceModel

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

_LARGEST_RECORD = 64 * 1024
_STAYS = "it must stay until the run has saved its checkpoint of step 0"

log = structlog.get_logger(__name__)


def recorded_source(run: RunFolder) -> Artifact | None:
    """What an earlier attempt has found; None if none has."""
    return _recorded(run.source_path)


def find_demonstrations(
    store: RunStore, demonstrations: DemonstrationSettings, writer: Writer, check: Callable[[], None]
) -> DemonstrationFile:
    """Opens the file, held to its digest, and records it. Its rows are not read yet.

    ``check`` as of :func:`find_source`. Raises InvalidDemonstrations, what the writer raises, OSError.
    """
    from aisandbox_environment import DemonstrationFile  # imports pyarrow, which other runs do not need

    name = f"demonstrations: {demonstrations.file!r}"
    recorded = _recorded(writer.run.demonstrations_path)
    digest = demonstrations.digest or (recorded.digest if recorded is not None else "")
    try:
        found, opened = _open(store, demonstrations.file, digest, check)
        file = DemonstrationFile(opened)
    except FileNotFoundError as error:
        raise InvalidDemonstrations(f"{name} is not in MODELS_DIR: {_STAYS}") from error
    except ModelStoreError as error:
        raise InvalidDemonstrations(f"demonstrations: {error}") from error
    except InvalidDemonstrationFile as error:
        raise InvalidDemonstrations(f"{name} {error}") from error
    artifact = Artifact(found.relative, 0, found.digest)
    if recorded != artifact:
        writer.record_demonstrations(json.dumps(asdict(artifact)).encode())
    log.info("demonstrations found", path=found.relative, digest=found.digest, episodes=file.episodes, steps=file.steps)
    return file


def _open(store: RunStore, path: str, digest: str, check: Callable[[], None]) -> tuple[StartingPoint, BinaryIO]:
    """The file, held to its digest. Raises FileNotFoundError also for a folder or below a file, and as open_file."""
    if (store.models_dir / path).is_dir():  # on Kubernetes an empty one is mounted where there is no file
        raise FileNotFoundError(path)
    try:
        return open_file(store, path, digest, check=check)
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error


def _recorded(path: Path) -> Artifact | None:
    """What a record of :func:`find_source` or :func:`find_demonstrations` says; None if there is none."""
    try:
        return Artifact(**json.loads(read_regular(path, _LARGEST_RECORD)))
    except FileNotFoundError:
        return None
    except (Damaged, ValueError, TypeError) as error:
        log.warning("the record of what the run starts or learns from is damaged", path=str(path), error=str(error))
        return None


def find_source(store: RunStore, start: StartFrom, writer: Writer, check: Callable[[], None]) -> StartingPoint:
    """Finds the source and records it.

    ``check`` is called while a file is read, and may raise. Raises CannotStartFrom, what the writer raises, OSError.
    """
    recorded = recorded_source(writer.run)
    digest = start.digest or (recorded.digest if recorded is not None else "")
    try:
        if start.zip:
            point, file = _open(store, start.zip, digest, check)
            file.close()
        else:
            point = find_published(store, start.run, start.model, start.checkpoint, digest)
    except FileNotFoundError as error:
        named = (
            f"the file {start.zip!r} is not in MODELS_DIR" if start.zip else f"files of the run {start.run!r} are gone"
        )
        raise CannotStartFrom(f"start_from: {named}: {_STAYS}") from error
    except RunNotFound as error:
        raise CannotStartFrom(f"start_from: {error}, or has not begun: {_STAYS}") from error
    except ModelStoreError as error:
        raise CannotStartFrom(f"start_from: {error}") from error
    artifact = Artifact(point.relative, point.timesteps, point.digest)
    if recorded != artifact:
        writer.record_source(json.dumps(asdict(artifact)).encode())
    log.info("the run starts from", path=artifact.path, digest=artifact.digest)
    return point


def read_source(
    source: StartingPoint, take: Collection[TakenPart], largest: int, optimizers: Collection[str]
) -> SourceModel:
    """Reads what a new run takes over. ``largest``: bytes that a file of tensors may have.

    ``optimizers``: the names of those that the run has. Raises CannotStartFrom if it is damaged, was changed or
    deleted meanwhile or lacks a part, OSError.
    """
    try:
        if source.run is None or source.published is None:
            return SourceModel(source.name, _read_file(source, largest))
        source.run.verify(source.published)
        if source.published.manifest.kind == "checkpoint":
            return _checkpoint(source, take, largest, optimizers)
        weights = source.run.weights_of(source.published)
        source.run.verify(weights)
        return SourceModel(source.name, read_weights(weights.path / WEIGHTS), _signature(weights.path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CannotStartFrom(f"start_from: {source.name} was deleted: {_STAYS}") from error
    except (ModelStoreError, UnusableFile) as error:
        raise CannotStartFrom(f"start_from: {source.name} cannot be used: {error}") from error


def _read_file(source: StartingPoint, largest: int) -> Weights:
    """The weights of a file of users. Raises UnusableFile if it is not, or no longer, the one that was found."""
    with open_regular(source.path) as file:
        try:
            return read_zip(file, largest)
        finally:  # compared last: so whatever was written to it since it was found, also while it was read, is noticed
            if digest_of(file) != source.digest:
                raise UnusableFile("it was changed while the run began")


def _checkpoint(
    source: StartingPoint, take: Collection[TakenPart], largest: int, optimizers: Collection[str]
) -> SourceModel:
    folder = source.path
    wanted = optimizers if TakenPart.OPTIMIZER in take else ()
    weights = read_zip(folder / CHECKPOINT_ZIP, largest, optimizers=wanted)
    if TakenPart.NORMALIZATION in take and (folder / STATISTICS).exists():
        weights = replace(weights, statistics=read_statistics(folder / STATISTICS))
    buffer = folder / REPLAY_BUFFER
    return SourceModel(source.name, weights, _signature(folder), buffer if buffer.exists() else None)


def _signature(folder: Path) -> ModelSignature | None:
    try:
        return ModelSignature.from_bytes(read_regular(folder / LEARNER_FILE, LARGEST_LEARNER))
    except FileNotFoundError:
        return None  # of an earlier version: the shapes of the weights are compared
    except ValueError as error:
        raise UnusableFile(str(error)) from error
