"""A spec that no trainer can do: told at once, in words, rather than by a Job that fails."""

from __future__ import annotations

from aisandbox_crds.status import Failure, Phase

from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation


def invalid(situation: Situation) -> Decision | None:
    """The spec breaks a rule that the resource's schema cannot say.

    A run that has its Job already is left to its trainer: rules may have become stricter since it was started.
    """
    run = situation.run
    if run.spec is not None and (not run.problem or run.spec.cancel or situation.job is not None):
        return None
    problem = (run.problem or "spec: cannot be read")[:4000]
    return Decision(Phase.FAILED, "InvalidRun", problem, Failure("InvalidRun", problem))
