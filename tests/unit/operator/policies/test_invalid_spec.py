"""A spec that breaks a rule: ``invalid_spec.reject_invalid_spec``, a row a rule."""

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.policies.invalid_spec import reject_invalid_spec
from operator_objects import RUNNING, job, run, spec
from policy_rules import Decided, check, observed, table

PROBLEM = "spec.hyperparameters.gamma: must be at most 1"


@table(
    ("a valid spec is accepted", observed(run()), None),
    (
        "an invalid spec fails the run before it has a Job",
        observed(run(problem=PROBLEM)),
        Decided(Phase.FAILED, Reason.INVALID_RUN, message=PROBLEM),
    ),
    ("a spec that has become invalid keeps its Job", observed(run(RUNNING, problem=PROBLEM), job(active=1)), None),
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
