"""The state of a recurrent policy in the middle of an episode, as the bytes that a client keeps between two calls.

A state is the digest of the model that gave it (32 bytes), then the numbers of its tensors, one tensor after another in
C order, float32 little-endian. Owns that form and its checks; every error names the field and the rule. Must not know
the runtime or where a model comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store.served_model import EPISODE_START_INPUT, next_state_output
from aisandbox_wire import all_finite
from numpy.typing import NDArray

from aisandbox_inference.errors import InvalidField

Array = NDArray[Any]
Feed = dict[str, Array]

NEEDED = (
    "the policy is recurrent: send the state of the last response of the same episode, or episode_start with the first "
    "observation of an episode"
)
_NOT_FINITE = "has numbers that are not finite, and is not a state that the service has given"
_FLOAT32 = np.dtype("<f4")
_DIGEST_BYTES = 32
_DIGEST_PREFIX = "sha256:"


def model_of(state: bytes, field: str) -> str:
    """The digest of the model that gave the state. Raises InvalidField."""
    if not state:
        raise InvalidField(field, NEEDED)
    if len(state) < _DIGEST_BYTES:
        raise InvalidField(field, f"has {len(state)} bytes, and is not a state that the service has given")
    return _DIGEST_PREFIX + state[:_DIGEST_BYTES].hex()


class EpisodeStates:
    """The states of one model, whose state is ``tensors``."""

    def __init__(self, digest: str, tensors: Sequence[pb.StateTensor]) -> None:
        self._digest = digest
        self._prefix = bytes.fromhex(digest.removeprefix(_DIGEST_PREFIX))
        self._tensors = tuple((tensor.name, tuple(tensor.shape)) for tensor in tensors)
        self._size = sum(math.prod(shape) for _, shape in self._tensors)
        self._bytes = _DIGEST_BYTES + self._size * _FLOAT32.itemsize

    @property
    def size(self) -> int:
        """How many numbers a state has."""
        return self._size

    @property
    def input_types(self) -> dict[str, np.dtype[Any]]:
        """The dtype of every input of the ONNX file that belongs to the state."""
        return dict.fromkeys((*(name for name, _ in self._tensors), EPISODE_START_INPUT), np.dtype(np.float32))

    @property
    def outputs(self) -> list[str]:
        """The outputs of the ONNX file with the next state."""
        return [next_state_output(name) for name, _ in self._tensors]

    def beginning(self, count: int) -> Feed:
        """The inputs for the first observations of ``count`` episodes."""
        return self._feed(np.zeros((count, self._size), np.float32), np.ones(count, np.float32))

    def from_state(self, state: bytes) -> Feed:
        """The inputs for ActRequest.state. Raises InvalidField for one that this model has not given."""
        self._check(state, "state")
        numbers = np.frombuffer(state, _FLOAT32, offset=_DIGEST_BYTES).reshape(1, self._size)
        if not all_finite(numbers):
            raise InvalidField("state", _NOT_FINITE)
        return self._feed(numbers, np.zeros(1, np.float32))

    def from_states(self, states: Sequence[bytes], starts: Sequence[bool], count: int, most: int) -> Feed:
        """The inputs for ActBatchRequest.state and episode_start, of ``count`` observations.

        Raises InvalidField for states of more than ``most`` bytes together, which the response would have, for a number
        of states that is not that of the observations, and as ``from_state``.
        """
        if count * self._bytes > most:
            rule = (
                f"are {count:,}, whose states of {self._bytes:,} bytes each are more than the {most:,} bytes that a "
                f"message may have (MAX_MESSAGE_BYTES): send at most {most // self._bytes:,} in a call"
            )
            raise InvalidField("observations", rule)
        for field, given in (("state", states), ("episode_start", starts)):
            if len(given) not in (0, count):
                raise InvalidField(
                    field, f"has {len(given)} entries for {count} observations: send one for each, or none"
                )
        begins = np.array(starts, np.float32) if len(starts) else np.zeros(count, np.float32)
        numbers = np.zeros((count, self._size), np.float32)
        for row in np.flatnonzero(begins == 0).tolist():
            state = states[row] if len(states) else b""
            self._check(state, f"state[{row}]")
            numbers[row] = np.frombuffer(state, _FLOAT32, offset=_DIGEST_BYTES)
        if not all_finite(numbers):
            raise InvalidField(f"state[{int(np.argmin(np.isfinite(numbers).all(axis=1)))}]", _NOT_FINITE)
        return self._feed(numbers, begins)

    def to_bytes(self, values: Sequence[Array]) -> list[bytes]:
        """The states of N observations from the outputs [N, *shape] of :attr:`outputs`."""
        count = len(values[0])
        numbers = np.concatenate([value.reshape(count, -1) for value in values], axis=1).astype(_FLOAT32, copy=False)
        return [self._prefix + row.tobytes() for row in numbers]

    def _check(self, state: bytes, field: str) -> None:
        digest = model_of(state, field)
        if digest != self._digest:
            raise InvalidField(field, f"belongs to the model {digest}, and the model {self._digest} answers")
        if len(state) != self._bytes:
            raise InvalidField(field, f"has {len(state)} bytes, and a state of this model has {self._bytes}")

    def _feed(self, numbers: Array, starts: Array) -> Feed:
        feed, offset = {}, 0
        for name, shape in self._tensors:
            size = math.prod(shape)
            feed[name] = numbers[:, offset : offset + size].reshape(len(numbers), *shape)
            offset += size
        feed[EPISODE_START_INPUT] = starts
        return feed
