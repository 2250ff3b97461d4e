"""RecurrentPPO of sb3-contrib, whose LSTMs see a sequence of an update at once instead of a step at a time.

Owns how sequences pass an LSTM; the update is sb3-contrib's own, with autograd. Must not know losses or optimizers.
"""

from __future__ import annotations

from typing import Any

import torch as th
from torch import nn

from aisandbox_trainer import _sb3_contrib_internals
from aisandbox_trainer.fast_updates.rollout import shrink
from aisandbox_trainer.fast_updates.self_test import SelfTested, same_update
from aisandbox_trainer.fast_updates.single_steps import SingleStepRecurrentPPO


class FastRecurrentPPO(SelfTested, SingleStepRecurrentPPO):
    """RecurrentPPO with any policy, on any device."""

    def train(self) -> None:
        """One update from the rollout buffer."""
        if self.passes("update", self._updates_the_same):
            self.fast_train()
        else:
            self.sb3_train()

    def sb3_train(self) -> None:
        """SB3's own update."""
        super().train()

    def fast_train(self) -> None:
        """The same update, faster."""
        with _sb3_contrib_internals.sequences_processed_by(self.policy, process_sequence):
            super().train()

    def _updates_the_same(self) -> bool:
        return same_update(self, lambda twin: twin.sb3_train(), lambda twin: twin.fast_train(), _prepare)


def process_sequence(
    theirs: _sb3_contrib_internals.ProcessSequence,
    features: th.Tensor,
    lstm_states: tuple[th.Tensor, th.Tensor],
    episode_starts: th.Tensor,
    lstm: nn.LSTM,
) -> Any:
    """The outputs [sequences * steps, size] of an LSTM, and its last states; ``theirs``: SB3's function for the same.

    A rollout buffer begins a new sequence where an episode starts, so that only the first step of one may reset the
    states. A sequence that does not hold this, and an LSTM whose results depend on how it is called, are SB3's.
    """
    n_seq = lstm_states[0].shape[1]
    starts = episode_starts.reshape((n_seq, -1))
    if lstm.dropout or lstm.bidirectional or th.any(starts[:, 1:] != 0.0):
        return theirs(features, lstm_states, episode_starts, lstm)
    kept = (1.0 - starts[:, 0]).view(1, n_seq, 1)
    sequence = features.reshape((n_seq, -1, lstm.input_size)).swapaxes(0, 1)
    output, last = lstm(sequence, (kept * lstm_states[0], kept * lstm_states[1]))
    return th.flatten(output.transpose(0, 1), start_dim=0, end_dim=1), last


def _prepare(twin: Any) -> None:
    """Makes the update of a copy short, with an episode that starts in the midst of it, after states that are not 0."""
    shrink(twin)
    buffer = twin.rollout_buffer
    buffer.episode_starts = buffer.episode_starts.copy()
    buffer.episode_starts[buffer.buffer_size // 2] = 1.0
