"""A spec that breaks a rule that the resource's schema cannot express: the run fails before it has a Job.

Serves every field of the spec that :func:`aisandbox_crds.validation.validate_spec` checks, and ``spec.podTemplate``,
which an administrator limits.
"""

from __future__ import annotations

from aisandbox_crds import Failure, Phase, Reason

from aisandbox_operator.attempt_counts import count_attempts
from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.pod_template_limits import not_allowed, placement_not_allowed


def reject_invalid_spec(state: ObservedState) -> Decision | None:
    """The spec breaks a rule.

    A run that has its Job, or has trained before, continues: rules may have become stricter since it was started. One
    that has no Job is looked at again if the problem is of a field that can be changed meanwhile.
    """
    run = state.run
    has_started = count_attempts(state).attempt > 0 and not run.problem_may_be_new
    if run.spec is not None and (not run.problem or run.spec.cancel or state.job is not None or has_started):
        return None
    problem = (run.problem or "spec: cannot be read")[:4000]
    return Decision(Phase.FAILED, Reason.INVALID_RUN, problem, Failure(Reason.INVALID_RUN, problem))


def reject_what_is_not_allowed(state: ObservedState) -> Decision | None:
    """The run asks for a pod that the administrator does not allow; one that has its Job already continues.

    One that was tried before and waits for its next Job is looked at again: its place can be changed while it waits.
    """
    spec = state.run.spec
    if spec is None or spec.cancel or state.job is not None:
        return None
    allowed, claim = state.settings.trainer_pod_allowed, state.settings.models_claim
    found = (*placement_not_allowed(spec, allowed), *not_allowed(spec.pod_template, allowed, claim))
    errors = [f"spec.{each.field}: {each.rule}" for each in found]
    if not errors:
        return None
    problem = "; ".join(errors)[:4000]
    return Decision(Phase.FAILED, Reason.NOT_ALLOWED, problem, Failure(Reason.NOT_ALLOWED, problem))
