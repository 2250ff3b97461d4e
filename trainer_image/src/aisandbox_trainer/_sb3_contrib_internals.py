"""Every name of sb3-contrib that is not public, in one place.

As :mod:`aisandbox_trainer._sb3_internals` for stable-baselines3, with the same upper bound: there is no public way to
read or set the LSTM state of a policy while its model trains, or to say how sequences pass it. Must not know runs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm

LstmState = tuple[NDArray[Any], ...]
"""Hidden and cell state of the policy's LSTM, then of the value network's; float32 [layers, environments, size]."""


ProcessSequence = Callable[[th.Tensor, Any, th.Tensor, th.nn.LSTM], Any]
"""Features, states, episode starts and an LSTM -> its outputs and last states."""


@contextlib.contextmanager
def sequences_processed_by(policy: Any, process: Callable[..., Any]) -> Iterator[None]:
    """Lets a policy with LSTMs call ``process``, whose first argument is SB3's own function for the same."""
    policy._process_sequence = functools.partial(process, type(policy)._process_sequence)
    try:
        yield
    finally:
        del policy._process_sequence


def lstm_state(model: BaseAlgorithm) -> LstmState | None:
    """A copy of the LSTM state of the episodes in progress; None for a model without one."""
    if not isinstance(model, RecurrentPPO):
        return None
    states: Any = model._last_lstm_states
    return tuple(np.array(tensor.cpu().numpy()) for pair in (states.pi, states.vf) for tensor in pair)


def set_lstm_state(model: BaseAlgorithm, stored: LstmState) -> None:
    """Sets what :func:`lstm_state` returned."""
    assert isinstance(model, RecurrentPPO)  # noqa: S101 -- only such a model has one
    policy, policy_cell, value, value_cell = (th.tensor(array, device=model.device) for array in stored)
    model._last_lstm_states = RNNStates((policy, policy_cell), (value, value_cell))  # type: ignore[assignment]


def resize_lstm_state(model: BaseAlgorithm) -> None:
    """Gives a recurrent model an empty state for its number of environments, and room for it in the rollout buffer."""
    if isinstance(model, RecurrentPPO):
        buffer: Any = model.rollout_buffer
        steps, layers, _, size = buffer.hidden_state_shape
        buffer.hidden_state_shape = (steps, layers, model.n_envs, size)
        empty = np.zeros((layers, model.n_envs, size), np.float32)
        set_lstm_state(model, (empty, empty, empty, empty))
