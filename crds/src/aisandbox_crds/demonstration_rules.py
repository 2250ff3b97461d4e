"""Whether ``demonstrations`` of a spec mean something, beyond the table's ranges.

Their CEL stands with the fields, and that of the algorithm's rule in :mod:`aisandbox_crds.generate.cross_field_rules`.
Must not know where files are or what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aisandbox_crds.demonstrations import DemonstrationSettings
from aisandbox_crds.errors import FieldError
from aisandbox_crds.field_rules import object_errors
from aisandbox_crds.hyperparameters import Hyperparameters, smallest_batch
from aisandbox_crds.output_path import output_path_problem
from aisandbox_crds.spec import TrainingRunSpec

_FIELD = "demonstrations"


def cloning_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    """Why the run's algorithm cannot learn from ``spec.demonstrations`` with what they ask for."""
    fewest = smallest_batch(spec.algorithm, hyperparameters.keywords.get("policy_kwargs", {}))
    if spec.demonstrations is not None and 1 <= spec.demonstrations.batch_size < fewest:
        rule = f"must be at least {fewest} with {spec.algorithm}, for batch normalisation"
        yield FieldError(f"{_FIELD}.batch_size", rule)


def demonstration_errors(demonstrations: DemonstrationSettings) -> Iterator[FieldError]:
    """What of ``demonstrations`` breaks a rule."""
    yield from object_errors(demonstrations, f"{_FIELD}.")
    if not demonstrations.file:
        yield FieldError(f"{_FIELD}.file", "is required")
    elif problem := output_path_problem(demonstrations.file):
        yield FieldError(f"{_FIELD}.file", problem)
    rate = demonstrations.learning_rate
    if rate is not None and not 0 < rate <= 1:
        yield FieldError(f"{_FIELD}.learning_rate", f"must be more than 0 and at most 1, got {rate}")
