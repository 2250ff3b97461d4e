"""One loaded policy: a verified ONNX file in a session, ready to act.

Owns the check that the file keeps its contract (DescribeModelResponse in policy_trainer.proto) and gives the golden
actions. Must not know files, selectors or gRPC.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store import Bundle
from aisandbox_model_store.served_model import (
    ACTION_OUTPUT,
    EPISODE_START_INPUT,
    GOLDEN_FILE,
    MASK_INPUT,
    METADATA_FILE,
    NOISE_INPUT,
    POLICY_FILE,
)
from aisandbox_wire import NOISE_KINDS, Leaf, WireError, all_finite, draw_noise, leaves
from google.protobuf import json_format
from numpy.typing import NDArray

from aisandbox_inference.episode_states import EpisodeStates
from aisandbox_inference.errors import InvalidField, UnusableModel
from aisandbox_inference.golden import Golden, parse_golden
from aisandbox_inference.masks import Masks
from aisandbox_inference.observations import Feed, Observations
from aisandbox_inference.onnx_file import problem_of
from aisandbox_inference.onnx_session import SessionRunner, create_session

Array = NDArray[Any]

_SESSION_BYTES = 160 * 1024
_COPIES_OF_WEIGHTS = 3
_ONNX_TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(uint8)": np.dtype(np.uint8)}
_MEASURED_BATCH = 32


def memory_needed(onnx_size: int) -> int:
    """Return about how many bytes a policy takes in memory: the file, its weights unpacked and packed, the session."""
    return _SESSION_BYTES + _COPIES_OF_WEIGHTS * onnx_size


class Policy:
    """A policy of a run. Thread-safe."""

    def __init__(self, run_id: str, bundle: Bundle, random: np.random.Generator) -> None:
        """Make a session of verified bytes and replay the golden examples. Raises UnusableModel."""
        self.run_id = run_id
        self.digest = bundle.published.digest
        self.timesteps = bundle.published.timesteps
        self._random = random
        try:
            self.onnx = bundle.files[POLICY_FILE]
            self.file_digest = f"sha256:{bundle.published.manifest.files[POLICY_FILE].sha256}"
            self.description = _describe(run_id, bundle)
            golden = parse_golden(bundle.files[GOLDEN_FILE])
            observation_leaves = leaves(self.description.observation_space, "observation_space")
            (self._action,) = leaves(self.description.action_space, "action_space")
            if problem := problem_of(self.onnx):
                raise UnusableModel(self.digest, f"{POLICY_FILE} {problem}")
            self._session = create_session(self.onnx)
            self.masks = Masks(self.description.mask_size, self._action)
        except KeyError as error:
            raise UnusableModel(self.digest, f"the file {error} is missing") from error
        except (WireError, ValueError) as error:
            raise UnusableModel(self.digest, str(error)) from error
        self.observations = Observations(observation_leaves)
        self.states = EpisodeStates(self.digest, self.description.state) if self.description.state else None
        self.memory = memory_needed(len(self.onnx))
        self._check_contract()
        self._replay(golden, observation_leaves)
        self._first_seconds, self._next_seconds = self._measure(golden.select(np.zeros(1, np.int64)))
        self._runner = SessionRunner(self._session, self._outputs)

    def act(self, feed: Feed, count: int, stochastic: bool) -> Array:
        """Return ``count`` actions: float32 [count, *shape] for a Box, otherwise int64 [count] or [count, dimensions].

        Raises InvalidField if the observations are so large that the actions are not finite.
        """
        return self.act_and_remember(feed, count, stochastic)[0]

    def act_and_remember(self, feed: Feed, count: int, stochastic: bool) -> tuple[Array, list[bytes]]:
        """As ``act``, with the next states, one for each observation; none if the policy is not recurrent.

        ``feed`` has the inputs of ``observations`` and, if there are some, of ``states``.
        """
        if stochastic:
            feed = {**feed, NOISE_INPUT: self._noise(count)}
        actions, *following = self._runner.run(feed, count)
        if actions.dtype.kind == "f" and not all_finite(actions):
            raise InvalidField("observation", "has numbers so large that the action is not finite")
        return actions, self.states.to_bytes(following) if self.states is not None else []

    def _noise(self, count: int) -> Array:
        description = self.description
        return draw_noise(self._random, description.noise_kind, count, description.noise_size, description.epsilon)

    def expected_seconds(self, count: int) -> float:
        """Return about how long ``act`` takes for ``count`` observations, as measured when the policy was loaded."""
        return self._first_seconds + (count - 1) * self._next_seconds

    @property
    def _outputs(self) -> list[str]:
        return [ACTION_OUTPUT, *(self.states.outputs if self.states is not None else ())]

    def _check_contract(self) -> None:
        inputs = {entry.name: entry.type for entry in self._session.get_inputs()}
        expected = {**self.observations.input_types, **(self.states.input_types if self.states is not None else {})}
        if set(inputs) != set(expected):
            raise UnusableModel(self.digest, f"its inputs are {sorted(inputs)} instead of {sorted(expected)}")
        for name, dtype in expected.items():
            if _ONNX_TYPES.get(inputs[name]) != dtype:
                raise UnusableModel(self.digest, f"its input {name} is {inputs[name]} instead of {dtype.name}")
        optional = {NOISE_INPUT: "tensor(float)"} | ({MASK_INPUT: "tensor(uint8)"} if self.masks.size else {})
        found = {entry.name: entry.type for entry in self._session.get_overridable_initializers()}
        if found != optional:
            raise UnusableModel(self.digest, f"its inputs with a default are {found} instead of {optional}")
        outputs = {entry.name for entry in self._session.get_outputs()}
        if missing := [name for name in self._outputs if name not in outputs]:
            raise UnusableModel(self.digest, f'it has no output "{missing[0]}"')
        if self.description.noise_kind not in NOISE_KINDS or self.description.noise_size < 1:
            raise UnusableModel(self.digest, f"{METADATA_FILE} has no noise_kind or no noise_size")

    def _replay(self, golden: Golden, observation_leaves: tuple[Leaf, ...]) -> None:
        if len(golden.observations) != len(observation_leaves):
            raise UnusableModel(self.digest, "its golden examples are for another observation space")
        shape, dtype = self._action.shape, np.float32 if self._action.kind == "box" else np.int64
        if golden.actions.shape[1:] != shape or golden.actions.dtype != dtype:
            raise UnusableModel(self.digest, "its golden actions are for another action space")
        if (0 if golden.action_mask is None else golden.action_mask.shape[1]) != self.masks.size:
            raise UnusableModel(self.digest, "its golden examples have masks of another size")
        if (golden.episode_start is not None) != (self.states is not None):
            raise UnusableModel(self.digest, "its golden examples are not those of a policy with the same state")
        # Most calls leave inputs with a default out: the examples that need none are replayed in that way too.
        for examples, whole in ((golden, True), (golden.without_defaults(), False)):
            if len(examples.actions) and (why := examples.difference(self._run_golden(examples, whole))):
                raise UnusableModel(self.digest, f"it gives {why}")

    def _run_golden(self, examples: Golden, whole: bool) -> Array:
        """Return the actions; ``whole``: with noise and masks."""
        feed = dict(zip(self.observations.input_types, examples.observations, strict=True))
        if whole:
            feed[NOISE_INPUT] = examples.noise
            if examples.action_mask is not None:
                feed[MASK_INPUT] = examples.action_mask
        try:
            if self.states is not None and examples.episode_start is not None:
                return self._run_in_order(self.states, feed, examples.episode_start)
            action: Array = self._session.run([ACTION_OUTPUT], feed)[0]
        except Exception as error:  # the runtime's errors have no common base
            raise UnusableModel(self.digest, f"it fails on its golden examples: {error}") from error
        return action

    def _run_in_order(self, states: EpisodeStates, feed: Feed, starts: Array) -> Array:
        """The actions for examples of episodes, each with the state that the one before it has left."""
        state = states.beginning(1)
        actions = []
        for row in range(len(starts)):
            one = {name: values[row : row + 1] for name, values in feed.items()}
            state[EPISODE_START_INPUT] = starts[row : row + 1]
            action, *following = self._session.run(self._outputs, {**one, **state})
            state = dict(zip(state, [*following, state[EPISODE_START_INPUT]], strict=True))
            actions.append(action)
        return np.concatenate(actions)

    def _measure(self, row: Golden) -> tuple[float, float]:
        """Return the seconds of a first observation and of each further one in a call; ``row`` is one example."""
        many = row.select(np.zeros(_MEASURED_BATCH, np.int64))
        one = min(self._timed(row) for _ in range(3))
        return one, max(0.0, min(self._timed(many) for _ in range(2)) - one) / (_MEASURED_BATCH - 1)

    def _timed(self, examples: Golden) -> float:
        feed = dict(zip(self.observations.input_types, examples.observations, strict=True))
        if self.states is not None:
            feed |= self.states.beginning(len(examples.actions))
        start = time.perf_counter()
        self._session.run(self._outputs, feed)
        return time.perf_counter() - start


def _describe(run_id: str, bundle: Bundle) -> pb.DescribeModelResponse:
    description = pb.DescribeModelResponse()
    try:
        json_format.Parse(bundle.files[METADATA_FILE], description, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{METADATA_FILE}: {error}") from error
    description.run_id = run_id
    description.model = bundle.published.digest
    description.model_timesteps = bundle.published.timesteps
    return description
