"""Writes exported policies, and what the service answers with them, for the tests of the C# package AISandbox.Policy.

    python tests/support/dotnet_policies.py FOLDER

Each policy is a folder with the files of a published model and ``expected.json``:

    observations  rows of numbers, as in ActRequest
    modes         the actions for them
    noise         rows of the input "noise"
    samples       the actions with that noise
    masks         rows of the input "action_mask", and "masked" and "masked_samples": the actions that they allow
    firsts        the modes, each of the first observation of an episode: others than the ones above if recurrent
    frames        with a frame stack: single observations of one episode, in order
    stacked       the actions for them, stacked by stable-baselines3's VecFrameStack
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from aisandbox_inference.episode_states import EpisodeStates
from aisandbox_inference.observations import Observations
from aisandbox_inference.onnx_session import SessionRunner, create_session
from aisandbox_trainer.export.action_masks import sample_masks
from aisandbox_wire import MaskLayout, draw_noise, leaves
from exported_policies import CASES, OBSERVATIONS, Case, Exported, export, name_of, observations
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

Array = NDArray[Any]
_ROWS = 12


def chosen(case: Case) -> bool:
    """Whether C# is tested with the case: every space and algorithm, but not each with every other."""
    product = case == Case(case.algorithm, case.observation, case.action)
    return not (product and case.algorithm is PPO) or case.action == "box" or case.observation in ("vector", "dict")


def write(folder: Path) -> None:
    """Write all policies, and in the end the file "made"."""
    for index, case in enumerate(filter(chosen, CASES)):
        exported = export(case)
        target = folder / f"{index:02d}-{hashlib.sha256(name_of(case).encode()).hexdigest()[:6]}"
        target.mkdir(parents=True, exist_ok=True)
        for name, data in exported.files.items():
            (target / name).write_bytes(data)
        document = {"name": name_of(case), **_expected(exported, case)}
        (target / "expected.json").write_text(json.dumps(document))
    (folder / "made").write_text("")


def _expected(exported: Exported, case: Case) -> dict[str, Any]:
    random = np.random.default_rng(11)
    rows = _numbers(observations(exported.observed, _ROWS, random))
    noise = _noise(exported, _ROWS, random)
    document = {
        "observations": rows.tolist(),
        "modes": _act(exported, rows).tolist(),
        "noise": noise.tolist(),
        "samples": _act(exported, rows, noise).tolist(),
        "firsts": _act(exported, rows, firsts=True).tolist(),
    }
    if exported.description.mask_size:
        (action,) = leaves(exported.description.action_space)
        masks = sample_masks(MaskLayout.of(action).counts, _ROWS, random)
        document["masks"] = masks.tolist()
        document["masked"] = _act(exported, rows, masks=masks).tolist()
        document["masked_samples"] = _act(exported, rows, noise, masks).tolist()
    if case.frame_stack > 1:
        plain: Any = OBSERVATIONS[case.observation]
        frames = observations(plain, 2 * case.frame_stack, random)
        stacking = StackedObservations(1, case.frame_stack, plain)
        first: Array = stacking.reset(frames[:1]).copy()
        later = [stacking.update(frame[None], np.array([False]), [{}])[0].copy() for frame in frames[1:]]
        document["frames"] = _numbers(frames).tolist()
        document["stacked"] = _act(exported, _numbers(np.concatenate([first, *later]))).tolist()
    return document


def _numbers(rows: Any) -> Array:
    """Observations as in ActRequest: [N, elements] float32, one leaf after another."""
    parts = list(rows.values()) if isinstance(rows, dict) else [rows]
    return np.concatenate([np.asarray(part, np.float32).reshape(len(part), -1) for part in parts], axis=1)


def _noise(exported: Exported, count: int, random: np.random.Generator) -> Array:
    description = exported.description
    return draw_noise(random, description.noise_kind, count, description.noise_size, 0.5)


def _act(
    exported: Exported,
    rows: Array,
    noise: Array | None = None,
    masks: Array | None = None,
    firsts: bool = False,
) -> Array:
    """The actions of the inference-server, [N, numbers], one observation at a time as Act has them.

    Of a recurrent policy those for one episode, or with ``firsts`` for the first observations of as many episodes.
    """
    inputs = Observations(leaves(exported.description.observation_space, "observation_space"))
    states = EpisodeStates(f"sha256:{'0' * 64}", exported.description.state)
    runner = SessionRunner(create_session(exported.files["policy.onnx"]), ["action", *states.outputs])
    actions = []
    state = states.beginning(1)
    for index, row in enumerate(rows):
        feed = inputs.from_numbers(row.tolist())
        if exported.description.state:
            feed |= state
        if noise is not None:
            feed["noise"] = noise[index : index + 1]
        if masks is not None:
            feed["action_mask"] = masks[index : index + 1]
        action, *following = runner.run(feed, 1)
        if following and not firsts:
            state = states.from_state(states.to_bytes(following)[0])
        actions.append(action.reshape(-1))
    return np.stack(actions)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
