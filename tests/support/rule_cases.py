"""Rows for the tests of the operator's rules: what is observed, and what one rule decides of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.decision import Action, Decision
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.observed_state import ObservedState
from operator_objects import NOW, SETTINGS

Rule = Callable[[ObservedState], Decision | None]


def observed(
    run: ObservedRun, job: ObservedJob | None = None, *pods: ObservedPod, now: datetime = NOW, **related: Any
) -> ObservedState:
    """``related``: more fields of RelatedObjects."""
    return ObservedState(run, RelatedObjects(job, pods, **related), SETTINGS, now)


@dataclass(frozen=True)
class Decided:
    """What a decision must be; ``message`` is a part of it."""

    phase: Phase
    reason: Reason | str
    action: Action | None = None
    requeue_after: float | None = None
    message: str = ""
    flags: frozenset[str] = field(default_factory=frozenset)
    """Which of is_queued, needs_attention, has_stalled, is_uncertain and keeps_status are True."""

    def check(self, decision: Decision | None) -> None:
        assert decision is not None
        assert (decision.phase, decision.reason, decision.action) == (self.phase, self.reason, self.action)
        assert decision.requeue_after == self.requeue_after
        assert self.message in decision.message
        names = ("is_queued", "needs_attention", "has_stalled", "is_uncertain", "keeps_status")
        assert {name for name in names if getattr(decision, name)} == self.flags
        failed = decision.failure is not None
        assert failed == (decision.phase is Phase.FAILED and not decision.keeps_status)
        if decision.failure is not None:
            assert (decision.failure.reason, decision.failure.message) == (decision.reason, decision.message)


Case = tuple[str, ObservedState, Decided | None]


def table(*cases: Case) -> pytest.MarkDecorator:
    """One test for each case, named by its sentence; None: the rule does not apply."""
    return pytest.mark.parametrize(
        ("state", "decided"), [case[1:] for case in cases], ids=[case[0].replace(" ", "_") for case in cases]
    )


def check(decision: Decision | None, decided: Decided | None) -> None:
    """Compares what a rule has decided with what it must decide."""
    if decided is None:
        assert decision is None
    else:
        decided.check(decision)
