"""How many bytes a trainer needs at least, from declared spaces and hyperparameters, before anything is allocated.

Owns the estimate and the bound of a trainer's memory. All numbers are Python's, so none can overflow. Must not know how
spaces are declared; stdlib only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aisandbox_crds.algorithms import ALGORITHMS, has_parameter
from aisandbox_crds.hyperparameters import DEFAULT_QUANTILES, Hyperparameters, setting
from aisandbox_crds.policy_kwargs import QUANTILES
from aisandbox_crds.spec import Algorithm

SHARE_OF_MACHINE = 0.75
"""The part of the machine's memory, or of its container's limit, that one trainer may take by default."""
MOST_BYTES = 2**63 - 1
_LEAST_BOUND = 2 * 1024**3
_FLOAT = 4
_COPIES_OF_WEIGHTS = 4
"""Weights, gradients and the two running averages of Adam."""
_STATES_IN_ROLLOUT = 4
"""The hidden and the cell state of the LSTMs of the policy and of the value network, stored with each step."""
_GATES = 4
"""Of an LSTM; each has weights for the inputs and for the hidden state."""
_TENSORS_OF_PAIRS = 3
"""That a loss of quantiles has at the same time: for each pair of a quantile and a target."""
_LSTM_HIDDEN_SIZE, _LSTM_LAYERS = 256, 1
"""sb3-contrib's defaults."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class SpaceSize:
    """``stored``: bytes of one value in a buffer; ``features``: numbers of one value as a network's input or output."""

    stored: int
    features: int

    def __add__(self, other: SpaceSize) -> SpaceSize:
        return SpaceSize(self.stored + other.stored, self.features + other.features)

    def times(self, number: int) -> SpaceSize:
        """Of ``number`` such values."""
        return SpaceSize(self.stored * number, self.features * number)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes of the largest parts of a trainer."""

    buffer: int
    """The replay buffer or the rollout buffer."""
    network: int
    """The weights of the networks, with gradients and the optimizer's state."""
    batch: int
    """Inputs of the network for one minibatch, one-hot where the space is discrete, and what its layers compute."""

    @property
    def total(self) -> int:
        """The sum."""
        return self.buffer + self.network + self.batch

    def rule(self, bound: int) -> str | None:
        """Why a trainer of at most ``bound`` bytes cannot take this; None if it can."""
        if self.total <= bound:
            return None
        parts = {
            f"{self.buffer:,} bytes for the buffer of transitions (buffer_size or n_steps, and the size of the "
            "observations)": self.buffer,
            f"{self.network:,} bytes for the weights of the networks (the number of choices of the spaces, and "
            "policy_kwargs)": self.network,
            f"{self.batch:,} bytes for a minibatch (batch_size, the number of choices of the spaces, and "
            "policy_kwargs)": self.batch,
        }
        largest = max(parts, key=lambda text: parts[text])
        return (
            f"the trainer would need at least {self.total:,} bytes of memory and may take {bound:,} "
            f"(TRAINER_MEMORY_BYTES): {largest}"
        )


def memory_need(
    algorithm: Algorithm,
    hyperparameters: Hyperparameters,
    observation: SpaceSize,
    action: SpaceSize,
    environments: int,
) -> MemoryNeed:
    """The estimate for vectors; of an image's network only the buffers are counted (pass its ``features`` as 0)."""
    observation = observation.times(hyperparameters.frame_stack or 1)
    if ALGORITHMS[algorithm].off_policy:
        sizes = _replay_sizes(algorithm, hyperparameters, observation, action)
    else:
        sizes = _rollout_sizes(algorithm, hyperparameters, observation, action, environments)
    rows = max(sizes.rows, environments)
    return MemoryNeed(
        buffer=sizes.buffer,
        network=_COPIES_OF_WEIGHTS * _FLOAT * sizes.weights + _FLOAT * sizes.target_weights,
        batch=_FLOAT * (rows * (observation.features + action.features) + sizes.batch * sizes.learned),
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """``buffer`` in bytes; else numbers are counted: ``rows`` of inputs, and ``learned`` from each step of a batch."""

    buffer: int
    weights: int
    target_weights: int
    rows: int
    batch: int
    learned: int


def _replay_sizes(
    algorithm: Algorithm, hyperparameters: Hyperparameters, observation: SpaceSize, action: SpaceSize
) -> _Sizes:
    traits, kwargs = ALGORITHMS[algorithm], _policy_kwargs(hyperparameters)
    stored = observation.stored * (1 if setting(algorithm, hyperparameters, "optimize_memory_usage") else 2)
    batch = setting(algorithm, hyperparameters, "batch_size")
    quantiles = kwargs.get(QUANTILES, DEFAULT_QUANTILES[algorithm]) if algorithm in DEFAULT_QUANTILES else 1
    if traits.has_critics:
        critics, widths = kwargs.get("n_critics", 2), _widths(hyperparameters, "qf", traits.width)
        values = critics * _weights(observation.features + action.features, widths, quantiles)
        actor = _weights(observation.features, _widths(hyperparameters, "pi", traits.width), action.features)
    else:
        critics, widths = 1, _widths(hyperparameters, "", traits.width)
        values, actor = _weights(observation.features, widths, action.features * quantiles), 0
    dropped_name = "top_quantiles_to_drop_per_net"
    dropped = setting(algorithm, hyperparameters, dropped_name) if has_parameter(algorithm, dropped_name) else 0
    pairs = quantiles * critics * (quantiles - dropped) if algorithm in DEFAULT_QUANTILES else 0
    return _Sizes(
        buffer=setting(algorithm, hyperparameters, "buffer_size") * (stored + action.stored + 3 * _FLOAT),
        weights=values + actor,
        target_weights=values if has_parameter(algorithm, "tau") else 0,
        rows=2 * batch,
        batch=batch,
        learned=sum(widths) + _TENSORS_OF_PAIRS * pairs,
    )


def _rollout_sizes(
    algorithm: Algorithm,
    hyperparameters: Hyperparameters,
    observation: SpaceSize,
    action: SpaceSize,
    environments: int,
) -> _Sizes:
    traits = ALGORITHMS[algorithm]
    steps = setting(algorithm, hyperparameters, "n_steps") * environments
    masks = action.features if traits.masks else 0
    stored = observation.stored + action.stored + (6 + masks) * _FLOAT
    inputs, weights, units = observation.features, 0, 0
    if traits.recurrent:
        layers, hidden = _lstm_size(hyperparameters)
        stored += _STATES_IN_ROLLOUT * layers * hidden * _FLOAT
        lstms = 2 if _policy_kwargs(hyperparameters).get("enable_critic_lstm", True) else 1
        weights = lstms * _GATES * hidden * (observation.features + (2 * layers - 1) * hidden)
        inputs, units = hidden, layers * hidden
    for part, outputs in (("pi", action.features), ("vf", 1)):
        widths = _widths(hyperparameters, part, traits.width)
        weights += _weights(inputs, widths, outputs)
        units += sum(widths)
    given = setting(algorithm, hyperparameters, "batch_size") if has_parameter(algorithm, "batch_size") else None
    batch = min(given or steps, steps)
    return _Sizes(steps * stored, weights, 0, rows=batch, batch=batch, learned=units)


def _weights(inputs: int, widths: Sequence[int], outputs: int) -> int:
    """Of the dense layers from ``inputs`` through ``widths`` to ``outputs``, without biases."""
    return sum(one * other for one, other in pairwise((inputs, *widths, outputs)))


def default_memory_bound() -> int:
    """SHARE_OF_MACHINE of the machine's memory, or of the limit of this process's container if that is less."""
    known = [value for value in (_machine_memory(), _container_limit()) if value]
    return max(int(min(known) * SHARE_OF_MACHINE), min(*known, _LEAST_BOUND)) if known else MOST_BYTES


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container_limit() -> int | None:
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return int(text)
    return None


def _policy_kwargs(hyperparameters: Hyperparameters) -> Mapping[str, Any]:
    return hyperparameters.keywords.get("policy_kwargs") or {}


def _lstm_size(hyperparameters: Hyperparameters) -> tuple[int, int]:
    """Layers of the LSTM, and the numbers of a layer's hidden state."""
    kwargs = _policy_kwargs(hyperparameters)
    return kwargs.get("n_lstm_layers", _LSTM_LAYERS), kwargs.get("lstm_hidden_size", _LSTM_HIDDEN_SIZE)


def _widths(hyperparameters: Hyperparameters, part: str, default: int) -> list[int]:
    """The widths of the hidden layers of a part of net_arch: pi, vf or qf, or "" where there is one part."""
    net_arch = _policy_kwargs(hyperparameters).get("net_arch")
    if isinstance(net_arch, Mapping):
        net_arch = net_arch.get(part, [])
    return [default, default] if net_arch is None else net_arch
