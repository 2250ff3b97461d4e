"""Whether ``start_from`` of a spec means something: rules across its fields, the algorithm and the hyperparameters.

Their CEL is in :mod:`aisandbox_crds.generate.cross_field_rules`, apart from what follows from hyperparameters. Must
not know where runs and files are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.errors import FieldError
from aisandbox_crds.hyperparameters import Hyperparameters
from aisandbox_crds.spec import StartFrom, TakenPart, TrainingRunSpec

_FIELD = "start_from"


def start_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    """What of ``spec.start_from`` cannot be; a value that breaks a rule of its own field is another's."""
    start = spec.start_from
    if start is None:
        return
    yield from _source_errors(start)
    if start.zip and spec.demonstrations is not None and _overlap(start.zip, spec.demonstrations.file):
        yield FieldError("demonstrations.file", f"must be another file than {_FIELD}.zip, and neither inside the other")
    if len(set(start.take)) < len(start.take):
        yield FieldError(f"{_FIELD}.take", "must have each part once")
    if not start.checkpoint:
        for part in (TakenPart.OPTIMIZER, TakenPart.REPLAY_BUFFER):
            if part in start.take:
                yield FieldError(f"{_FIELD}.take", f"{part} is a part of a checkpoint only: set {_FIELD}.checkpoint")
    if TakenPart.NORMALIZATION in start.take:
        if start.zip:
            yield FieldError(f"{_FIELD}.take", "a zip file of stable-baselines3 has no normalization")
        if hyperparameters.normalize is None:
            yield FieldError(f"{_FIELD}.take", "normalization needs the hyperparameter normalize")
    if TakenPart.REPLAY_BUFFER in start.take and not ALGORITHMS[spec.algorithm].off_policy:
        having = ", ".join(algorithm for algorithm, traits in ALGORITHMS.items() if traits.off_policy)
        yield FieldError(f"{_FIELD}.take", f"{spec.algorithm} has no replay buffer; {having} have one")


def _source_errors(start: StartFrom) -> Iterator[FieldError]:
    if bool(start.run) == bool(start.zip):
        yield FieldError(_FIELD, "must have exactly one of run and zip")
    elif start.zip and (start.model or start.checkpoint):
        yield FieldError(f"{_FIELD}.{'model' if start.model else 'checkpoint'}", "is of a run: set run, and no zip")
    elif start.model and start.checkpoint:
        yield FieldError(f"{_FIELD}.checkpoint", "must not be set beside model")


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are of one file, or one of them is in the place of a folder of the other."""
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)
