"""An exported policy against its golden examples, run by onnx's reference evaluator, which is slow.

Must not know how the policy was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aisandbox_model_store.served_model import (
    EPISODE_START_INPUT,
    GOLDEN_ABSOLUTE_TOLERANCE,
    GOLDEN_FILE,
    GOLDEN_RELATIVE_TOLERANCE,
    MASK_INPUT,
    NOISE_INPUT,
    POLICY_FILE,
    GoldenExamples,
    StoredTensor,
    next_state_output,
)
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]


def check_parity(files: Mapping[str, bytes]) -> None:
    """Runs an exported policy on its golden examples. Raises ValueError for actions that are not those of PyTorch."""
    examples = GoldenExamples.from_bytes(files[GOLDEN_FILE])
    evaluator = ReferenceEvaluator(files[POLICY_FILE])
    states = {name: shape for name, shape in _inputs(evaluator) if next_state_output(name) in evaluator.output_names}
    known = {NOISE_INPUT, MASK_INPUT, EPISODE_START_INPUT, *states}
    leaves = [name for name in evaluator.input_names if name not in known]
    feed = {name: _array(stored) for name, stored in zip(leaves, examples.observations, strict=True)}
    feed[NOISE_INPUT] = _array(examples.noise)
    if examples.action_mask is not None:
        feed[MASK_INPUT] = _array(examples.action_mask)
    if examples.episode_start is None:
        (actions,) = evaluator.run(None, feed)
    else:
        feed[EPISODE_START_INPUT] = _array(examples.episode_start)
        actions = _in_order(evaluator, feed, states)
    expected = _array(examples.actions)
    if not np.allclose(actions, expected, GOLDEN_RELATIVE_TOLERANCE, GOLDEN_ABSOLUTE_TOLERANCE):
        raise ValueError("the exported policy acts differently from the trained one")


def _in_order(evaluator: ReferenceEvaluator, feed: Mapping[str, Array], states: Mapping[str, list[int]]) -> Array:
    """The actions, with the state of each example for the next one. ``states``: the shape of one observation's."""
    state = {name: np.zeros((1, *shape), np.float32) for name, shape in states.items()}
    actions = []
    for row in range(len(feed[NOISE_INPUT])):
        one = {name: array[row : row + 1] for name, array in feed.items()}
        outputs = dict(zip(evaluator.output_names, evaluator.run(None, {**one, **state}), strict=True))
        state = {name: outputs[next_state_output(name)] for name in states}
        actions.append(outputs[evaluator.output_names[0]])
    return np.concatenate(actions)


def _inputs(evaluator: ReferenceEvaluator) -> list[tuple[str, list[int]]]:
    """The name and the extents behind the first one of each input."""
    types: list[Any] = list(evaluator.input_types)
    shapes = [[extent.dim_value for extent in type_.tensor_type.shape.dim[1:]] for type_ in types]
    return list(zip(evaluator.input_names, shapes, strict=True))


def _array(stored: StoredTensor) -> Array:
    return np.frombuffer(stored.data, np.dtype(stored.dtype).newbyteorder("<")).reshape(stored.shape)
