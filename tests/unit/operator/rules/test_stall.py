"""When a running trainer counts as stalled: ``stall.seconds_to_stall``, a row a rule."""

from dataclasses import replace

import pytest
from aisandbox_crds.status import Progress
from aisandbox_operator.observed_objects import ObservedPod
from aisandbox_operator.rules.stall import seconds_to_stall
from operator_objects import RUNNING, SETTINGS, ago, job, pod, run, running_pod
from rule_cases import observed

STALL = SETTINGS.stall_seconds


@pytest.mark.parametrize(
    ("reported", "current_pod", "seconds"),
    [
        pytest.param("2026-03-01T11:59:00Z", running_pod(started=ago(9000)), STALL - 60, id="the last report counts"),
        pytest.param("2026-03-01T11:00:00Z", running_pod(started=ago(40)), STALL - 40, id="a later start counts"),
        pytest.param(None, running_pod(started=ago(40)), STALL - 40, id="without a report the start counts"),
        pytest.param("soon", running_pod(started=ago(40)), STALL - 40, id="what is not a time does not count"),
        pytest.param(None, pod(), STALL, id="without either it has not begun"),
        pytest.param("2026-03-01T11:00:00Z", running_pod(started=ago(9000)), STALL - 3600, id="it may be over"),
    ],
)
def test_last_sign_of_progress_counts(reported: str | None, current_pod: ObservedPod, seconds: float) -> None:
    status = replace(RUNNING, progress=Progress(last_updated_time=reported))
    assert seconds_to_stall(observed(run(status), job(active=1), current_pod)) == seconds
