"""What one owner may take of the service, a row a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aisandbox_access import OWNER_ANNOTATION
from aisandbox_api.errors import LimitReached
from aisandbox_api.owner_quotas import OwnerLimits
from aisandbox_api.settings import OwnerQuotas
from aisandbox_crds import Phase, TrainingRun, TrainingRunStatus

NONE = OwnerQuotas(0, 0, 0, 0)


def runs(run: TrainingRun, *phases: Phase, owner: str = "alice") -> list[TrainingRun]:
    return [
        replace(run, name=f"r{i}", status=TrainingRunStatus(phase), annotations={OWNER_ANNOTATION: owner})
        for i, phase in enumerate(phases)
    ]


@pytest.mark.parametrize(
    ("quotas", "phases", "why"),
    [
        (replace(NONE, max_runs_per_owner=2), (Phase.FAILED, Phase.SUCCEEDED), "has 2 runs, and the limit MAX_RUNS_"),
        (
            replace(NONE, max_unfinished_runs_per_owner=2),
            (Phase.SUSPENDED, Phase.RUNNING, Phase.FAILED),
            "has 2 runs that are not done, and the limit MAX_UNFINISHED_RUNS_PER_OWNER is 2",
        ),
        (replace(NONE, max_pending_runs_per_owner=1), (Phase.PENDING, Phase.RUNNING), "has 1 pending runs"),
    ],
)
def test_owner_at_a_limit_is_refused_and_others_are_not(
    run: TrainingRun, quotas: OwnerQuotas, phases: tuple[Phase, ...], why: str
) -> None:
    limits, have = OwnerLimits(quotas), runs(run, *phases)
    with pytest.raises(LimitReached, match=f"'alice' {why}"), limits.start("alice", have):
        pass
    with limits.start("bob", have):
        pass
    with limits.start("alice", have[1:-1]):
        pass


def test_starts_at_the_same_time_count(run: TrainingRun) -> None:
    limits = OwnerLimits(replace(NONE, max_pending_runs_per_owner=2))
    with (
        limits.start("alice", []),
        limits.start("alice", []),
        pytest.raises(LimitReached),
        limits.start("alice", []),
    ):
        pass
    with limits.start("alice", []):
        pass


def test_starts_in_a_minute_are_limited() -> None:
    now = 0.0
    limits = OwnerLimits(replace(NONE, max_starts_per_minute=2), lambda: now)
    for _ in range(2):
        with limits.start("alice", []):
            pass
    with pytest.raises(LimitReached, match="has started 2 runs within a minute"), limits.start("alice", []):
        pass
    with limits.start("bob", []):
        pass
    now = 30.0
    with limits.start("alice", []):
        pass
