"""Checks of a start against the runs that there are: the file it will write, and how many of them are suspended.

Must not know what an environment is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aisandbox_crds import TrainingRun
from aisandbox_model_store import OutsideRoot, RunStore

from aisandbox_api.errors import FailedPrecondition, LimitReached
from aisandbox_api.run_owner import owner_of


def check_output(
    run: TrainingRun, others: Iterable[TrainingRun], store: RunStore, kept: frozenset[str] = frozenset()
) -> None:
    """No other unfinished run may be about to write the same file. Raises OutsideRoot, FailedPrecondition. Blocking.

    ``kept``: the names of the finished runs whose file must stay.
    The run itself may be among ``others``: another replica may have accepted a retry of the same start.
    """
    if not run.spec.model_output_path:
        return
    place = store.resolve_output(run.spec.model_output_path)
    for other in others:
        is_over = other.status.phase.is_done and other.name not in kept
        if other.name == run.name or is_over or _resolved(other, store) != place:
            continue
        if other.name in kept:
            raise FailedPrecondition(
                "OutputPathTaken",
                run.spec.model_output_path,
                f"model_output_path: {run.spec.model_output_path!r} is the output of a run of another owner: choose "
                "another path",
            )
        raise FailedPrecondition(
            "OutputPathInUse",
            run.spec.model_output_path,
            f"model_output_path: {run.spec.model_output_path!r} is the output of {_describe(other, run)}",
        )


def _describe(other: TrainingRun, run: TrainingRun) -> str:
    """The unfinished run by its name to its owner, and to others without: its name says what they may not see."""
    if owner_of(other) != owner_of(run):
        return "a run of another owner, which has not ended: choose another path"
    return f"run {other.name!r}, which has not ended: choose another path, or cancel that run"


def check_suspended(runs: Iterable[TrainingRun], limit: int) -> None:
    """A start is refused while ``limit`` runs are suspended: each of them is kept. Raises LimitReached."""
    suspended = sum(run.spec.suspend and not run.status.phase.is_done for run in runs)
    if suspended >= limit:
        raise LimitReached(
            "MAX_SUSPENDED_RUNS",
            f"{suspended} runs are suspended, and the limit MAX_SUSPENDED_RUNS is {limit}: resume or cancel one, or "
            "raise MAX_SUSPENDED_RUNS",
        )


def _resolved(run: TrainingRun, store: RunStore) -> Path | None:
    try:
        return store.resolve_output(run.spec.model_output_path) if run.spec.model_output_path else None
    except OutsideRoot:  # a link or a folder was put there after it was accepted
        return None
