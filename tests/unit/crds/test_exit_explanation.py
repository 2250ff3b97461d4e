"""Why a trainer ended: from its exit code, signal and termination message to a failure, a row a rule."""

import pytest
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status_values import Failure
from aisandbox_crds.trainer_exit import (
    LONGEST_MESSAGE,
    TerminationMessage,
    backoff_limit_failure,
    bounded_failure,
    deadline_failure,
    explain_exit,
)

MORE = "a larger machine"
SAID = TerminationMessage(1, 0, exit_code=78, failure=Failure("InvalidHyperparameter", "gamma: too large"))


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (137, Reason.TRAINER_KILLED, "SIGKILL"),
        (-9, Reason.TRAINER_KILLED, "a larger machine"),
        (143, Reason.TRAINER_STOPPED, "SIGTERM"),
        (-15, Reason.TRAINER_STOPPED, "SIGTERM"),
        (1, Reason.TRAINER_CRASHED, "exit code 1"),
        (75, Reason.TRAINER_CRASHED, "exit code 75"),
        (139, Reason.TRAINER_CRASHED, "exit code 139"),
        (None, Reason.TRAINER_CRASHED, "unknown reason"),
    ],
)
def test_exit_without_a_termination_message_is_explained(code: int | None, reason: Reason, words: str) -> None:
    failure = explain_exit(code, log_tail="boom", more_memory=MORE)
    assert failure.reason == reason
    assert words in failure.message
    assert failure.message.endswith("; its last lines: boom")
    assert "its last lines" not in explain_exit(code, more_memory=MORE).message


def test_termination_message_is_the_explanation_whatever_the_exit_code() -> None:
    assert explain_exit(137, SAID, "boom", oom_killed=True, more_memory=MORE) == SAID.failure


def test_termination_message_without_a_failure_explains_nothing() -> None:
    failure = explain_exit(137, TerminationMessage(1, 0, exit_code=143), oom_killed=True, more_memory=MORE)
    assert failure.reason == Reason.OOM_KILLED
    assert MORE in failure.message


@pytest.mark.parametrize("reason", ["not a word", "", "x" * 200, "9lives"])
def test_reason_that_the_resource_would_refuse_is_replaced(reason: str) -> None:
    assert bounded_failure(reason, "text") == Failure(Reason.TRAINER_FAILED, "text")


def test_message_is_bounded() -> None:
    assert bounded_failure("Internal", "x" * LONGEST_MESSAGE).message == "x" * LONGEST_MESSAGE
    assert bounded_failure("Internal", "x" * 5000).message == "x" * LONGEST_MESSAGE + "..."


def test_deadline_names_its_seconds() -> None:
    assert "(30 s)" in deadline_failure(30).message
    assert deadline_failure(None).reason == Reason.DEADLINE_EXCEEDED


def test_spent_backoff_limit_keeps_the_reason_of_the_last_attempt() -> None:
    failure = backoff_limit_failure(Failure("DiskFull", "no space"), attempt=4, restarts=3)
    assert failure == Failure("DiskFull", "no space (attempt 4, given up after 3 restarts)")
