"""The end of a run: ``completion.complete``, a row a rule."""

from dataclasses import replace

import pytest
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_crds.status_values import EarlyStop, Failure
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.completion import complete
from operator_objects import NOW, RUNNING, ended_pod, ending, job, pod, run, running_pod, spec
from rule_cases import Decided, check, observed, table

SUCCEEDED = Decided(Phase.SUCCEEDED, Reason.SUCCEEDED)
CANCELLED = Decided(Phase.CANCELLED, Reason.CANCELLED)
ACTIVE, CANCEL = run(RUNNING), run(RUNNING, of=spec(cancel=True))
GAVE_UP = job(end="Failed", end_reason="BackoffLimitExceeded", failed=4)
UNREACHABLE = Failure("SimulatorUnreachable", "no answer from sim:1")
UNSUPPORTED = Failure("UnsupportedActionSpace", "Box")

ENOUGH = replace(ending(1, 0), early_stop=EarlyStop("RewardReached", "enough"))


@table(
    ("a Job that has not finished decides nothing", observed(ACTIVE, job(active=1), running_pod()), None),
    ("a complete Job is a success", observed(ACTIVE, job(end="Complete")), SUCCEEDED),
    (
        "a run that a rule of its spec has ended is a success for that reason",
        observed(ACTIVE, job(end="Complete"), ended_pod(0, termination_message=ENOUGH)),
        Decided(Phase.SUCCEEDED, "RewardReached", message="enough"),
    ),
    ("a complete Job is a success also under a cancel", observed(CANCEL, job(end="Complete")), SUCCEEDED),
    (
        "a failed Job fails the run with the reason of its last trainer",
        observed(ACTIVE, GAVE_UP, ended_pod(75, termination_message=ending(4, 75, failure=UNREACHABLE))),
        Decided(
            Phase.FAILED, "SimulatorUnreachable", message="no answer from sim:1 (attempt 4, given up after 3 restarts)"
        ),
    ),
    ("a failed Job under a cancel is cancelled", observed(CANCEL, GAVE_UP), CANCELLED),
    ("without a Job and a pod nothing is known", observed(ACTIVE), None),
    (
        "a trainer that was done before its Job was deleted has succeeded",
        observed(ACTIVE, None, ended_pod(0)),
        SUCCEEDED,
    ),
    (
        "exit code 0 in a pod that failed is not a success",
        observed(ACTIVE, None, ended_pod(0, phase="Failed")),
        None,
    ),
    (
        "another exit code is not a success though the pod succeeded",
        observed(ACTIVE, None, ended_pod(1, phase="Succeeded")),
        None,
    ),
    (
        "a recorded message of a trainer that was done is a success without its pod",
        observed(ACTIVE, recorded_messages=(ending(1, 0),)),
        SUCCEEDED,
    ),
    (
        "a recorded message of a trainer that was stopped is not a success",
        observed(ACTIVE, recorded_messages=(ending(1, 143),)),
        None,
    ),
    (
        "a pod that may still run is waited for",
        observed(ACTIVE, None, ended_pod(0), pod(name="walk-b", phase="Running")),
        None,
    ),
    (
        "a permanent failure before the Job was deleted fails the run",
        observed(ACTIVE, None, ended_pod(78, termination_message=ending(1, 78, failure=UNSUPPORTED))),
        Decided(Phase.FAILED, "UnsupportedActionSpace", message="Box"),
    ),
    (
        "a permanent failure under a cancel is left to the cancel",
        observed(CANCEL, None, ended_pod(78, termination_message=ending(1, 78, failure=UNSUPPORTED))),
        None,
    ),
    (
        "a trainer that was done before the cancel stopped its Job has succeeded",
        observed(CANCEL, job(is_suspended=True), ended_pod(0)),
        SUCCEEDED,
    ),
    (
        "a Job that is being stopped is waited for",
        observed(CANCEL, job(is_suspended=True), running_pod(deletion_time=NOW)),
        None,
    ),
)
def test_end_of_a_run(state: ObservedState, decided: Decided | None) -> None:
    check(complete(state), decided)


@pytest.mark.parametrize(
    ("reason", "said", "shown"),
    [
        ("InvalidRun", "start_from.take: needs start_from.zip", "spec.startFrom.take: needs startFrom.zip"),
        (
            "InvalidRun",
            "lessons: need a run's parameters; seed: is 1",
            "spec.lessons: need a run's parameters; spec.seed: is 1",
        ),
        ("InvalidRun", "demonstrations.batch_size: is 1", "spec.demonstrations.batchSize: is 1"),
        (
            "InvalidHyperparameter",
            "hyperparameters.n_steps: see total_timesteps",
            "spec.hyperparameters.n_steps: see totalTimesteps",
        ),
        (
            "CannotStartFrom",
            "start_from: the file 'team/total_timesteps.zip' and team/stop_when.zip",
            "spec.startFrom: the file 'team/total_timesteps.zip' and team/stop_when.zip",
        ),
        (
            "InvalidRun",
            "lessons[0].parameters: 'stop_when' and \"it's; seed: x\" are not declared",
            "spec.lessons[0].parameters: 'stop_when' and \"it's; seed: x\" are not declared",
        ),
        ("InvalidRun", "the actions of the environment; seed: x", "the actions of the environment; seed: x"),
        ("CannotTrain", "seed: total_timesteps", "seed: total_timesteps"),
        ("InvalidHyperparameter", "unexpected argument start_from", "unexpected argument start_from"),
    ],
)
def test_conditions_of_a_failure_name_the_fields_of_the_resource_and_its_status_those_of_a_call(
    reason: str, said: str, shown: str
) -> None:
    failure = Failure(reason, said)
    decision = complete(observed(ACTIVE, None, ended_pod(78, termination_message=ending(1, 78, failure=failure))))
    assert decision is not None
    assert (decision.message, decision.failure) == (shown, failure)
