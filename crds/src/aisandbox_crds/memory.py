"""How many bytes a trainer needs at least, from declared spaces and hyperparameters, before anything is allocated.

Owns the estimate and the bound of a trainer's memory. All numbers are Python's, so none can overflow. Must not know how
spaces are declared; stdlib only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aisandbox_crds.algorithms import ALGORITHMS, has_parameter
from aisandbox_crds.hyperparameters import Hyperparameters, setting
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
    """The first and last layer of the networks, with gradients and the optimizer's state."""
    batch: int
    """The inputs of the network for one minibatch, one-hot where the space is discrete."""

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
            f"{self.network:,} bytes for the first and last layers of the networks (the number of choices of the "
            "spaces, and net_arch)": self.network,
            f"{self.batch:,} bytes for a minibatch (batch_size, and the number of choices of the spaces)": self.batch,
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
    traits = ALGORITHMS[algorithm]
    first, last = _layers(hyperparameters, traits.width)
    if traits.off_policy:
        stored = observation.stored * (1 if setting(algorithm, hyperparameters, "optimize_memory_usage") else 2)
        buffer = setting(algorithm, hyperparameters, "buffer_size") * (stored + action.stored + 3 * _FLOAT)
        rows = max(2 * setting(algorithm, hyperparameters, "batch_size"), environments)
        weights = 2 * (observation.features * first + action.features * last)
        if traits.has_critics:
            critics = 2 * _policy_kwargs(hyperparameters).get("n_critics", 2)
            weights += critics * (observation.features + action.features) * first
    else:
        steps = setting(algorithm, hyperparameters, "n_steps") * environments
        masks = action.features if traits.masks else 0
        buffer = steps * (observation.stored + action.stored + (6 + masks) * _FLOAT)
        weights = 2 * observation.features * first + action.features * last
        if traits.recurrent:
            layers, hidden = _memory_size(hyperparameters)
            buffer += steps * _STATES_IN_ROLLOUT * layers * hidden * _FLOAT
            weights += 2 * _GATES * hidden * (observation.features + (2 * layers - 1) * hidden)
        given = setting(algorithm, hyperparameters, "batch_size") if has_parameter(algorithm, "batch_size") else None
        batch = given or steps
        rows = max(min(batch, steps), environments)
    return MemoryNeed(
        buffer=buffer,
        network=_COPIES_OF_WEIGHTS * _FLOAT * weights,
        batch=rows * (observation.features + action.features) * _FLOAT,
    )


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


def _memory_size(hyperparameters: Hyperparameters) -> tuple[int, int]:
    """Layers of the LSTM, and the numbers of a layer's hidden state."""
    kwargs = _policy_kwargs(hyperparameters)
    return kwargs.get("n_lstm_layers", _LSTM_LAYERS), kwargs.get("lstm_hidden_size", _LSTM_HIDDEN_SIZE)


def _layers(hyperparameters: Hyperparameters, default: int) -> tuple[int, int]:
    """The widths of the first and of the last hidden layer, the largest of all networks."""
    net_arch = _policy_kwargs(hyperparameters).get("net_arch")
    networks = list(net_arch.values()) if isinstance(net_arch, Mapping) else [net_arch]
    shapes = [network for network in networks if isinstance(network, list | tuple) and network]
    widths = [(network[0], network[-1]) for network in shapes if all(isinstance(width, int) for width in network)]
    return max((one for one, _ in widths), default=default), max((other for _, other in widths), default=default)
