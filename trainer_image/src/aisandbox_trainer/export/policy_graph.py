"""The policy as it is served: one torch module from raw observations and noise to the simulator's actions.

Owns what surrounds an SB3 policy when it acts: inputs, SB3's preprocessing, recurrent state, the choice of an action
from the policy's distribution, clipping and rescaling. Must not know ONNX, files or the training loop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store.served_model import CELL_STATE_INPUT, HIDDEN_STATE_INPUT
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.errors import CannotExport
from aisandbox_trainer.export.acting_parts import ActingParts, acting_parts
from aisandbox_trainer.export.action_heads import BitsHead, BoxHead, ChoiceHead, ChoicesHead
from aisandbox_trainer.export.action_masks import LARGEST_NOISE, BitsMask, ChoicesMask
from aisandbox_trainer.export.leaf_inputs import LeafInput

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Noise:
    """How the noise of a policy is drawn: ``size`` numbers an observation; ``epsilon`` only for epsilon-greedy."""

    kind: pb.NoiseKind.ValueType
    size: int
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class StateTensor:
    """A part of a recurrent policy's state: the name of its input, and the shape for one observation."""

    name: str
    shape: tuple[int, ...]


class RecurrentLayer(nn.Module):
    """The LSTM of a policy, which takes one observation of each of N episodes at a time."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    @property
    def state(self) -> tuple[StateTensor, ...]:
        """The tensors of its state."""
        shape = self.lstm.num_layers, self.lstm.hidden_size
        return StateTensor(HIDDEN_STATE_INPUT, shape), StateTensor(CELL_STATE_INPUT, shape)

    def forward(
        self, features: th.Tensor, hidden: th.Tensor, cell: th.Tensor, episode_start: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """What follows the features [N, size], and the next state.

        States are [N, layers, hidden size]; where ``episode_start`` [N] is 1, they are zeros.
        """
        starts = episode_start.reshape(1, -1, 1) > 0.0
        # Not multiplied by 0: a state that was never written may hold NaN.
        before = (th.where(starts, 0.0, each.transpose(0, 1)) for each in (hidden, cell))
        output, (hidden, cell) = self.lstm(features.unsqueeze(0), tuple(before))
        return output.squeeze(0), hidden.transpose(0, 1), cell.transpose(0, 1)


class PolicyGraph(nn.Module):
    """A copy of a policy's acting part with everything around it.

    ``forward(*leaves, *state, noise)``: one tensor a leaf of the observation space, then, for a recurrent policy, one
    for each of ``state`` and float32 [N] (1: an episode starts), then float32 [N or 1, noise.size]; with a ``mask``,
    uint8 [N or 1, size] follows. Gives the actions, float32 [N, *shape] for a Box, otherwise int64 [N] or
    [N, dimensions]; for a recurrent policy a tuple of them and of the next state. With zero noise the actions are the
    mode of the policy's distribution. It shares no tensor with the policy it was made from.
    """

    def __init__(
        self,
        inputs: Sequence[LeafInput],
        policy: _Actor,
        head: nn.Module,
        noise: Noise,
        mask: ChoicesMask | BitsMask | None = None,
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.actor = policy
        self.head = head
        self.noise = noise
        self.mask = mask
        self.requires_grad_(False)
        self.eval()

    @property
    def leaves(self) -> list[LeafInput]:
        """The inputs, in the order of the observation space's leaves."""
        return [leaf for leaf in self.inputs if isinstance(leaf, LeafInput)]

    @property
    def state(self) -> tuple[StateTensor, ...]:
        """What the policy keeps between two observations; empty if it is not recurrent."""
        recurrent = self.actor.recurrent
        return recurrent.state if recurrent is not None else ()

    @property
    def mask_size(self) -> int:
        """The number of values of a mask; 0 without one."""
        return 0 if self.mask is None else sum(self.mask.counts)

    def scores(
        self, leaves: Sequence[th.Tensor], state_and_starts: Sequence[th.Tensor] = ()
    ) -> tuple[th.Tensor, th.Tensor, tuple[th.Tensor, ...]]:
        """For a batch of observations the latent features, the last layer's output, and the next state.

        That output are logits, means or Q-values. ``state_and_starts``: of the observations before, and of episodes.
        """
        values = [leaf(value) for leaf, value in zip(self.inputs, leaves, strict=True)]
        latent, scores, state = self.actor(values, state_and_starts)
        return latent, scores, state

    def forward(self, *inputs: th.Tensor) -> th.Tensor | tuple[th.Tensor, ...]:
        """The actions for a batch of observations, noise and masks, and the next state of a recurrent policy."""
        leaves = len(self.inputs)
        known = leaves + (len(self.state) + 1 if self.state else 0)
        latent, scores, state = self.scores(inputs[:leaves], inputs[leaves:known])
        noise, *masks = inputs[known:]
        if self.mask is not None:
            scores, noise = self.mask(scores, *masks), noise.clamp(-LARGEST_NOISE, LARGEST_NOISE)
        actions: th.Tensor = self.head(latent, scores, noise)
        return (actions, *state) if state else actions


class _Actor(nn.Module):
    """The acting part of an SB3 policy: preprocessed leaves to latent features and scores."""

    def __init__(self, policy: BasePolicy, keys: Sequence[str], parts: ActingParts) -> None:
        super().__init__()
        self.keys = list(keys)
        self.observation_space = policy.observation_space
        self.normalize_images = policy.normalize_images
        # A copy, because export happens during training, which must not notice: no mode is switched, no device changed.
        self.extractor, self.body, self.last = copy.deepcopy((parts.extractor, parts.body, parts.last))
        self.recurrent = RecurrentLayer(copy.deepcopy(parts.lstm)) if parts.lstm is not None else None
        self.to("cpu")

    def forward(
        self, values: list[th.Tensor], state_and_starts: Sequence[th.Tensor]
    ) -> tuple[th.Tensor, th.Tensor, tuple[th.Tensor, ...]]:
        observation: Any = values[0]
        if isinstance(self.observation_space, spaces.Dict):
            observation = dict(zip(self.keys, values, strict=True))
        features = self.extractor(preprocess_obs(observation, self.observation_space, self.normalize_images))
        state: tuple[th.Tensor, ...] = ()
        if self.recurrent is not None:
            features, *following = self.recurrent(features, *state_and_starts)
            state = tuple(following)
        latent = self.body(features)
        return latent, self.last(latent), state


def build_policy_graph(
    model: BaseAlgorithm,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    vec_normalize: VecNormalize | None,
) -> PolicyGraph:
    """The graph of a model's policy between the simulator's spaces.

    Whether images were transposed for the policy is seen from the shapes. Raises CannotExport for a policy of a family
    that :func:`acting_parts` does not have or spaces that do not belong to the model, NonFiniteTraining for parameters
    that are NaN or infinite.
    """
    policy: BasePolicy = model.policy
    parts = acting_parts(policy)
    check_finite(model)
    pairs = _leaf_spaces(observation_space, policy.observation_space)
    inputs = [LeafInput(key, space, inner, vec_normalize) for key, space, inner in pairs]
    actor = _Actor(policy, [key for key, _, _ in pairs], parts)
    if parts.values:
        n = _same_choices(action_space, policy.action_space)
        epsilon = float(getattr(model, "exploration_rate", 0.0))
        noise = Noise(pb.NOISE_KIND_EPSILON_GREEDY, n[0], epsilon)
        return PolicyGraph(inputs, actor, ChoiceHead(_start(action_space)), noise)
    head, noise = _head(policy, parts, action_space)
    return PolicyGraph(inputs, actor, head, noise, _mask(action_space) if parts.masked else None)


def _head(policy: BasePolicy, parts: ActingParts, action_space: gym.Space[Any]) -> tuple[nn.Module, Noise]:
    if isinstance(action_space, spaces.Box) and isinstance(policy.action_space, spaces.Box):
        if (action_space.shape or (1,)) != policy.action_space.shape:
            raise CannotExport(f"action_space: {action_space} does not fit the policy's {policy.action_space}")
        std = copy.deepcopy(parts.std).cpu() if parts.std is not None else th.zeros(1)
        head = BoxHead(action_space, policy.action_space, std, parts.by_state, parts.squashed)
        return head, Noise(pb.NOISE_KIND_NORMAL, head.size)
    choices = _same_choices(action_space, policy.action_space)
    if isinstance(action_space, spaces.Discrete):
        return ChoiceHead(_start(action_space)), Noise(pb.NOISE_KIND_GUMBEL, choices[0])
    if isinstance(action_space, spaces.MultiDiscrete):
        return ChoicesHead(choices), Noise(pb.NOISE_KIND_GUMBEL, sum(choices))
    return BitsHead(), Noise(pb.NOISE_KIND_LOGISTIC, len(choices))


def _mask(action_space: gym.Space[Any]) -> ChoicesMask | BitsMask:
    choices = _same_choices(action_space, action_space)
    return BitsMask(len(choices)) if isinstance(action_space, spaces.MultiBinary) else ChoicesMask(choices)


def _same_choices(space: gym.Space[Any], policy_space: gym.Space[Any]) -> list[int]:
    """How many values each dimension of the discrete action space has."""
    found = []
    for each in (space, policy_space):
        if isinstance(each, spaces.Discrete):
            found.append([int(each.n)])
        elif isinstance(each, spaces.MultiDiscrete):
            found.append([int(n) for n in each.nvec.ravel()])
        elif isinstance(each, spaces.MultiBinary):
            found.append([2] * int(np.prod(each.shape)))
    if len(found) != 2 or found[0] != found[1] or type(space) is not type(policy_space):
        raise CannotExport(f"action_space: {space} does not fit the policy's {policy_space}")
    return found[0]


def _start(space: gym.Space[Any]) -> int:
    return int(space.start) if isinstance(space, spaces.Discrete) else 0


def _leaf_spaces(
    space: gym.Space[Any], policy_space: gym.Space[Any]
) -> list[tuple[str, gym.Space[Any], gym.Space[Any]]]:
    if isinstance(space, spaces.Dict) != isinstance(policy_space, spaces.Dict):
        raise CannotExport(f"observation_space: {space} does not fit the policy's {policy_space}")
    if not isinstance(space, spaces.Dict) or not isinstance(policy_space, spaces.Dict):
        return [("", space, policy_space)]
    if space.spaces.keys() != policy_space.spaces.keys():  # checkpoints of earlier versions have them sorted
        raise CannotExport(
            f"observation_space: keys {list(space.spaces)} are not the policy's {list(policy_space.spaces)}"
        )
    return [(key, space[key], policy_space[key]) for key in space.spaces]
