"""Events about a run: which there are, and how they are named."""

from dataclasses import replace

from aisandbox_crds.conditions import ConditionType
from aisandbox_crds.status import Phase
from operator_objects import (
    RUNNING,
    condition,
    ended_pod,
    ending,
    job,
    planned,
    run,
)


def test_end_of_a_run_is_the_same_event_also_after_a_change_of_its_spec() -> None:
    """The event was created, the status could not be written, and then the user suspended the run."""
    done = job(end="Complete"), ended_pod(0, termination_message=ending(1, 0))
    first, second = (planned(run(RUNNING, generation=generation), *done) for generation in (1, 2))
    assert [event.name for event in first.events] == [event.name for event in second.events]


def test_event_is_named_after_its_content() -> None:
    first, second = planned(run()), planned(run())
    assert first.events == second.events
    later = planned(run(replace(RUNNING, attempt=2)))
    assert later.events[0].name != first.events[0].name


def test_retry_is_a_warning() -> None:
    step = planned(run(RUNNING), job(failed=1), ended_pod(137, exit_reason="OOMKilled"))
    assert step.status is not None
    assert step.status.phase is Phase.PENDING
    assert step.status.restarts_count_towards_max == 1
    assert "OOMKilled" in condition(step.status, ConditionType.RUNNING).message
    assert [(event.reason, event.is_warning) for event in step.events] == [("Retrying", True)]
