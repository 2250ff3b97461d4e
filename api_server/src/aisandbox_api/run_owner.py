"""Whose a run is: an annotation that only the service writes. Must not know who may do what with it."""

from __future__ import annotations

from aisandbox_access import ANONYMOUS, OWNER_ANNOTATION
from aisandbox_crds import TrainingRun


def owner_of(run: TrainingRun) -> str:
    """The name of the principal that started the run; ANONYMOUS if it was started without one."""
    return run.annotations.get(OWNER_ANNOTATION, ANONYMOUS)
