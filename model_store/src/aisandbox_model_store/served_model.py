"""The files of a published model: what the trainer writes and every reader of a model relies on.

Owns the file names, the names of the inputs, the output and the metadata properties of the ONNX file, the JSON form of
the golden examples and the tolerances of their comparison. The shapes and dtypes of the inputs and the values of the
noise are specified by DescribeModelResponse and NoiseKind in policy_trainer.proto (``aisandbox_wire.noise`` draws
them). Must not know ONNX, NumPy or how a policy is computed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

POLICY_FILE = "policy.onnx"
METADATA_FILE = "metadata.json"
"""A DescribeModelResponse in protobuf's JSON form."""
GOLDEN_FILE = "golden.json"

NOISE_INPUT = "noise"
"""float32 [N or 1, noise_size]; its default is zeros [1, noise_size], which broadcast: the mode of the policy."""
MASK_INPUT = "action_mask"
"""uint8 [N or 1, mask_size], only of a policy with masks; its default is ones: every action is allowed."""
EPISODE_START_INPUT = "episode_start"
"""Of a recurrent policy: float32 [N], 1 for the first observation of an episode."""
HIDDEN_STATE_INPUT, CELL_STATE_INPUT = "state_h", "state_c"
"""Of a policy with an LSTM: float32 [N, layers, hidden size]."""
ACTION_OUTPUT = "action"
DESCRIPTION_PROPERTY = "aisandbox.description"
"""The metadata property of the ONNX file with the contents of METADATA_FILE, for a reader that has this file alone."""
GOLDEN_PROPERTY = "aisandbox.golden"
"""The metadata property of the ONNX file with the contents of GOLDEN_FILE."""

GOLDEN_RELATIVE_TOLERANCE = 1e-3
GOLDEN_ABSOLUTE_TOLERANCE = 1e-4
"""How far the action of a Box may be from the golden one; all other actions must be equal.

The absolute one is a share of the largest golden action of that dimension, and of 1 if that is smaller. float32 sums in
another order differ by about 1e-6 of what is summed."""


def observation_input(key: str) -> str:
    """Return the name of the ONNX input for the entry ``key`` of a Dict space; "" is a space that is not a Dict."""
    return f"observation.{key}" if key else "observation"


def next_state_output(state_input: str) -> str:
    """Return the name of the ONNX output whose value is the input ``state_input`` of the next observation."""
    return f"next_{state_input}"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """An array: NumPy's name of its dtype, its shape, and its elements in C order, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class GoldenExamples:
    """N observations with noise, and the actions the trainer's own policy chose for them.

    ``observations``: one tensor [N, *shape] for each leaf of the observation space, in the dtype of the ONNX input.
    ``noise``: float32 [N, noise_size]. ``actions``: float32 [N, *shape] for a Box, otherwise int64. ``action_mask``:
    uint8 [N, mask_size], None for a policy without masks. ``episode_start``: float32 [N], only of a recurrent policy;
    each example has the state that the one before it has left, and is the first of an episode where it is 1.
    """

    observations: tuple[StoredTensor, ...]
    noise: StoredTensor
    actions: StoredTensor
    action_mask: StoredTensor | None = None
    episode_start: StoredTensor | None = None

    def to_bytes(self) -> bytes:
        """Return the contents of golden.json; a tensor is ``{"dtype", "shape", "data": base64}``."""
        document: dict[str, Any] = {
            "observations": [_to_json(tensor) for tensor in self.observations],
            "noise": _to_json(self.noise),
            "actions": _to_json(self.actions),
        }
        if self.action_mask is not None:
            document["action_mask"] = _to_json(self.action_mask)
        if self.episode_start is not None:
            document["episode_start"] = _to_json(self.episode_start)
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> GoldenExamples:
        """Parse golden.json. Raises ValueError unless it has the form above with at least one example."""
        try:
            document = json.loads(data)
            observations = tuple(_from_json(tensor) for tensor in document["observations"])
            mask, starts = (
                _from_json(document[name]) if name in document else None for name in ("action_mask", "episode_start")
            )
            noise, actions = _from_json(document["noise"]), _from_json(document["actions"])
            examples = cls(observations, noise, actions, mask, starts)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{GOLDEN_FILE} is malformed ({error!r})") from error
        tensors = (*observations, noise, actions, *(each for each in (mask, starts) if each is not None))
        counts = {tensor.shape[0] if tensor.shape else 0 for tensor in tensors}
        if len(counts) != 1 or min(counts) < 1:
            raise ValueError(f"{GOLDEN_FILE} has {sorted(counts)} examples, expected one number of at least 1")
        return examples


def _to_json(tensor: StoredTensor) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "shape": list(tensor.shape), "data": base64.b64encode(tensor.data).decode()}


def _from_json(document: Any) -> StoredTensor:
    shape = tuple(int(extent) for extent in document["shape"])
    return StoredTensor(str(document["dtype"]), shape, base64.b64decode(document["data"], validate=True))
