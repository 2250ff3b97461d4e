"""Whether ``demonstrations`` of a spec mean something, beyond the table's ranges.

Their CEL stands with the fields. Must not know where files are or what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aisandbox_crds.demonstrations import Demonstrations
from aisandbox_crds.errors import FieldError
from aisandbox_crds.field_rules import object_errors
from aisandbox_crds.output_path import output_path_problem

_FIELD = "demonstrations"


def demonstration_errors(demonstrations: Demonstrations) -> Iterator[FieldError]:
    """What of ``demonstrations`` breaks a rule."""
    yield from object_errors(demonstrations, f"{_FIELD}.")
    if not demonstrations.file:
        yield FieldError(f"{_FIELD}.file", "is required")
    elif problem := output_path_problem(demonstrations.file):
        yield FieldError(f"{_FIELD}.file", problem)
    rate = demonstrations.learning_rate
    if rate is not None and not 0 < rate <= 1:
        yield FieldError(f"{_FIELD}.learning_rate", f"must be more than 0 and at most 1, got {rate}")
