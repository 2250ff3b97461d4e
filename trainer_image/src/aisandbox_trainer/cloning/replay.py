"""Recorded steps as the first of a replay buffer. Must not know losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import structlog
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from aisandbox_trainer.checkpoints.rollback import truncate_stored_episodes
from aisandbox_trainer.cloning.examples import Examples
from aisandbox_trainer.cloning.recorded_env import ROWS_BETWEEN_CHECKS, rows_of

log = structlog.get_logger(__name__)


def fill_replay_buffer(model: OffPolicyAlgorithm, examples: Examples) -> int:
    """Adds the recorded steps, the newest if there are more than the buffer holds; returns how many.

    The buffer has a column for each environment: each gets its share, one step after the other, as an environment would
    have given it. What is left over by the number of environments is not added.
    """
    buffer: Any = model.replay_buffer
    columns: int = buffer.n_envs
    length = min(len(examples.steps) // columns, int(buffer.buffer_size))
    rows = examples.steps[len(examples.steps) - length * columns :].reshape(columns, length)
    ended = examples.terminated | examples.truncated
    for step in range(length):
        if step % ROWS_BETWEEN_CHECKS == 0:
            examples.check()
        now = rows[:, step]
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in examples.truncated[now] & ~examples.terminated[now]]
        buffer.add(
            rows_of(examples.seen.observations, now),
            rows_of(examples.seen.observations, now + 1),
            examples.actions[now],
            examples.seen.rewards[now],
            ended[now].astype(np.float32),
            infos,
        )
    truncate_stored_episodes(model)
    log.info("recorded steps added to the replay buffer", steps=length * columns)
    return length * columns
