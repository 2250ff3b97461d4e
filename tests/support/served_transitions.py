"""What a learner holds against what simulators of the fault suite have written down as served.

Owns the comparison of a replay buffer and of rollouts with the file ``served`` (faulty_simulator.py). Must not know
what was done to the simulators.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from aisandbox_model_store import CHECKPOINT_ZIP
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints import replay_file
from faulty_simulator import EPISODE, TAUGHT_PARAMETER, mask_of, reward_of
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer

ENVIRONMENTS = 2
"""Of the sessions whose transitions are compared."""


def read_lines(served: Path) -> list[dict[str, Any]]:
    """The lines of the file."""
    if not served.exists():
        return []
    found = []
    for line in served.read_text().splitlines():
        with suppress(ValueError):  # the last one may be half written
            found.append(json.loads(line))
    return found


def check_replay_buffer(served: Path, checkpoint: Path) -> None:
    """Raises AssertionError unless each transition in the checkpoint's replay buffer was served, once."""
    model = DQN.load(checkpoint / CHECKPOINT_ZIP, device="cpu")
    assert model.replay_buffer is None or model.replay_buffer.size() == 0
    space = model.observation_space
    assert space is not None
    buffer = ReplayBuffer(model.buffer_size, space, model.action_space, device="cpu", n_envs=ENVIRONMENTS)
    replay_file.load(model, buffer, checkpoint / checkpoints.REPLAY_BUFFER)
    assert buffer.size() * ENVIRONMENTS == model.num_timesteps, "as many transitions as steps that count"
    actions, seen = _actions(served), set()
    for place in range(buffer.size()):
        for i in range(ENVIRONMENTS):
            before, after = buffer.observations[place, i], buffer.next_observations[place, i]
            session, step, environment, episode = (int(value) for value in after)
            assert tuple(before) == (session, step - 1, environment, episode), f"{before} before {after}"
            assert environment == i
            assert actions[session, step][i] == buffer.actions[place, i, 0], f"another action in {after}"
            assert buffer.rewards[place, i] == np.float32(reward_of(session, step, i)), f"another reward in {after}"
            assert buffer.dones[place, i] == ((step + i) % EPISODE == 0), f"another end in {after}"
            assert (session, step, i) not in seen, f"{after} twice"
            seen.add((session, step, i))


def check_rollouts(served: Path, rollouts: Path, *, masked: bool = False) -> int:
    """Raises AssertionError unless each rollout is steps of one session, in order; returns how many there are.

    ``masked``: the simulators declare action masks, which were obeyed.
    """
    actions = _actions(served)
    files = sorted(rollouts.iterdir(), key=lambda path: int(path.stem))
    for file in files:
        with np.load(file) as rollout:
            observations, taken, rewards = rollout["observations"], rollout["actions"], rollout["rewards"]
        first = observations[0, 0]
        for place in range(len(observations)):
            for i in range(ENVIRONMENTS):
                session, step, environment, _ = (int(value) for value in observations[place, i])
                assert (session, step, environment) == (int(first[0]), int(first[1]) + place, i)
                assert actions[session, step + 1][i] == int(taken[place, i].item())
                assert rewards[place, i] == np.float32(reward_of(session, step + 1, i))
                assert not masked or mask_of(session, step, i)[int(taken[place, i].item())], "a forbidden action"
    return len(files)


def check_parameters(served: Path, allowed: Callable[[float], bool]) -> None:
    """Raises AssertionError unless every session was reset with parameters, and each value that came is allowed."""
    sessions: set[int] = set()
    for line in read_lines(served):
        for parameters in line.get("parameters", ()):
            if TAUGHT_PARAMETER in parameters:
                assert allowed(parameters[TAUGHT_PARAMETER]), parameters
                sessions.add(line["session"])
    assert {line["session"] for line in read_lines(served) if "actions" in line} <= sessions


def _actions(served: Path) -> dict[tuple[int, int], list[int]]:
    return {(line["session"], line["step"]): line["actions"] for line in read_lines(served) if "actions" in line}
