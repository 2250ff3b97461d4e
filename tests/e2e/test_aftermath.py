"""What must be true when everything else has been tested: no error was logged, nothing has crashed."""

from __future__ import annotations

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from cluster import Cluster
from pod_logs import PodLogs, errors_in, settle
from waiting import wait_until

PARTS = ("aisandbox-operator", "aisandbox-api", "aisandbox-inference")


def test_unreachable_simulator_fails_the_run_with_its_address(
    unreachable_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    status = wait_until(
        lambda: service.GetTrainingStatus(pb.StatusRequest(run_id=unreachable_run), timeout=20),
        lambda status: status.is_done,
        seconds=480,
        every=1,
    )
    assert status.phase == pb.PHASE_FAILED
    assert status.failure.reason == "SimulatorUnreachable"
    assert "nobody" in status.failure.message
    assert cluster.condition(unreachable_run, "Failed")["reason"] == "SimulatorUnreachable"


@pytest.mark.smoke
@pytest.mark.parametrize("part", PARTS)
def test_log_holds_no_error(part: str, pod_logs: PodLogs) -> None:
    settle()
    lines = list(pod_logs.lines(part))
    assert len(lines) > 0
    assert errors_in(iter(lines)) == []


@pytest.mark.smoke
@pytest.mark.parametrize("part", PARTS)
def test_part_is_ready_and_no_container_restarted(part: str, cluster: Cluster) -> None:
    cluster.until_rolled_out(part)
    for pod in cluster.pods_with(f"app.kubernetes.io/name={part}"):
        for status in pod.status.container_statuses:
            assert status.restart_count == 0, (pod.metadata.name, status.last_state)
