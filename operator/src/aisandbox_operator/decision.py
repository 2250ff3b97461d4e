"""What a policy decides about a run."""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds.status import Failure, Phase


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make the run's Job; ``failures_before`` is what its backoff limit has lost already."""

    suspended: bool
    failures_before: int


@dataclass(frozen=True, slots=True)
class SuspendJob:
    """Set the Job's ``spec.suspend``. ``uid`` keeps another Job of the same name safe."""

    uid: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job and, first, its pods."""

    uid: str


Action = CreateJob | SuspendJob | DeleteJob


@dataclass(frozen=True, slots=True)
class Decision:
    """The phase a run is in, why, and what is to be done.

    ``reason`` (one CamelCase word) and ``message`` speak of the condition Running. ``failure`` goes with Failed.
    ``look_again``: seconds after which time alone may change the decision. ``is_queued``: Kueue holds the run back.
    ``is_trouble``: a person may have to act. ``has_stalled``: no progress for too long.
    ``keeps_status``: nothing is to be written, whatever the other fields say.
    """

    phase: Phase
    reason: str
    message: str = ""
    failure: Failure | None = None
    action: Action | None = None
    look_again: float | None = None
    is_queued: bool = False
    is_trouble: bool = False
    has_stalled: bool = False
    keeps_status: bool = False
