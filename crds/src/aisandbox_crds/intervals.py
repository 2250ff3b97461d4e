"""How often a run saves and evaluates: the rules behind the zeros of the spec, for every process the same."""

from __future__ import annotations

from aisandbox_crds.spec import TrainingRunSpec

MAX_DEFAULT_CHECKPOINT_INTERVAL = 100_000


def effective_checkpoint_interval(spec: TrainingRunSpec) -> int:
    """Environment steps between checkpoints, at least 1; unless said, a tenth of the run, at most 100,000."""
    default = min(max(spec.total_timesteps // 10, 1), MAX_DEFAULT_CHECKPOINT_INTERVAL)
    return spec.checkpoint_every_timesteps or default


def effective_evaluation_interval(spec: TrainingRunSpec) -> int | None:
    """Environment steps of training between evaluations; unless said, as between checkpoints. None: no evaluation."""
    if spec.evaluation is None:
        return None
    return spec.evaluation.every_timesteps or effective_checkpoint_interval(spec)
