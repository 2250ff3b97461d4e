"""A spec that breaks a rule: ``invalid_spec.reject_invalid_spec``, a row a rule."""

from dataclasses import replace

from aisandbox_crds.pod_template import PodSpec, PodTemplate
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.invalid_spec import reject_invalid_spec, reject_what_is_not_allowed
from operator_objects import RUNNING, job, run, spec
from rule_cases import Decided, check, observed, table

ASKS = spec(pod_template=PodTemplate(spec=PodSpec(service_account_name="admin")))
PROBLEM = "spec.hyperparameters.gamma: must be at most 1"
SUSPENDED = observed(run(replace(RUNNING, phase=Phase.SUSPENDED), problem=PROBLEM, of=spec(suspend=True)))


@table(
    ("a valid spec is accepted", observed(run()), None),
    (
        "an invalid spec fails the run before it has a Job",
        observed(run(problem=PROBLEM)),
        Decided(Phase.FAILED, Reason.INVALID_RUN, message=PROBLEM),
    ),
    ("a spec that has become invalid keeps its Job", observed(run(RUNNING, problem=PROBLEM), job(active=1)), None),
    ("a spec that has become invalid keeps its run while that is suspended without a Job", SUSPENDED, None),
    (
        "what can be changed while a run is suspended is looked at again",
        replace(SUSPENDED, run=replace(SUSPENDED.run, problem_may_be_new=True)),
        Decided(Phase.FAILED, Reason.INVALID_RUN, message=PROBLEM),
    ),
    ("an invalid spec can be cancelled", observed(run(problem=PROBLEM, of=spec(cancel=True))), None),
    (
        "a spec that cannot be read fails the run also with a Job",
        observed(run(RUNNING, spec=None, problem="spec.algorithm: is required"), job(active=1)),
        Decided(Phase.FAILED, Reason.INVALID_RUN, message="spec.algorithm: is required"),
    ),
    (
        "a spec that cannot be read for no known reason fails the run",
        observed(run(spec=None)),
        Decided(Phase.FAILED, Reason.INVALID_RUN, message="cannot be read"),
    ),
)
def test_invalid_spec(state: ObservedState, decided: Decided | None) -> None:
    check(reject_invalid_spec(state), decided)


@table(
    ("a run that asks for nothing is accepted", observed(run()), None),
    (
        "a run that asks for what the administrator does not allow fails before it has a Job",
        observed(run(of=ASKS)),
        Decided(
            Phase.FAILED,
            Reason.NOT_ALLOWED,
            message="spec.podTemplate.spec.serviceAccountName: 'admin' is not allowed; the administrator allows none",
        ),
    ),
    ("a run that has its Job continues when less is allowed", observed(run(RUNNING, of=ASKS), job(active=1)), None),
    (
        "a run that waits for its next Job is looked at again, as its place can be changed meanwhile",
        observed(run(RUNNING, of=ASKS)),
        Decided(
            Phase.FAILED,
            Reason.NOT_ALLOWED,
            message="spec.podTemplate.spec.serviceAccountName: 'admin' is not allowed; the administrator allows none",
        ),
    ),
    ("what is not allowed can be cancelled", observed(run(of=replace(ASKS, cancel=True))), None),
)
def test_what_is_not_allowed(state: ObservedState, decided: Decided | None) -> None:
    check(reject_what_is_not_allowed(state), decided)
