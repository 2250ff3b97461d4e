"""A small recurrent ONNX policy: its scores are those of all observations of the episode so far, added up."""

from __future__ import annotations

from typing import Any

import numpy as np
from aisandbox_model_store.served_model import GoldenExamples
from onnx import TensorProto, helper
from onnx_policies import GOLDEN_ROWS, Array, LinearPolicy, constant, stored

_STEPS_SHAPE = (2, 3)


class SummingPolicy(LinearPolicy):
    """``state_h`` [N, 1, scores] are the scores so far; ``state_c`` [N, 2, 3] has the number of observations."""

    @property
    def state(self) -> dict[str, tuple[int, ...]]:
        return {"state_h": (1, self.size), "state_c": _STEPS_SHAPE}

    def act_in_episode(self, observations: list[Array]) -> Array:
        """The actions for one episode, [steps, ...], of observations [steps, *shape] a leaf."""
        return self._actions(self.scores(observations).cumsum(axis=0))

    def golden(self) -> bytes:
        observations = self.sample(2 * GOLDEN_ROWS)
        noise = self.random.normal(size=(2 * GOLDEN_ROWS, self.size)).astype(np.float32)
        noise[:GOLDEN_ROWS] = 0
        starts = np.zeros(2 * GOLDEN_ROWS, np.float32)
        starts[[0, GOLDEN_ROWS]] = 1
        scores = self.scores(observations)
        sums = np.concatenate([scores[:GOLDEN_ROWS].cumsum(axis=0), scores[GOLDEN_ROWS:].cumsum(axis=0)])
        return GoldenExamples(
            observations=tuple(stored(leaf) for leaf in observations),
            noise=stored(noise),
            actions=stored(self._actions(sums + noise)),
            episode_start=stored(starts),
        ).to_bytes()

    def _actions(self, scores: Array) -> Array:
        """What the head chooses for scores."""
        zeros = [np.zeros((len(scores), *leaf.shape), np.float32) for leaf in self.leaves]
        return self.act(zeros, scores - self.bias)

    def _memory_nodes(
        self, linear: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]
    ) -> str:
        for name, shape in self.state.items():
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]))
            outputs.append(helper.make_tensor_value_info(f"next_{name}", TensorProto.FLOAT, ["N", *shape]))
        inputs.append(helper.make_tensor_value_info("episode_start", TensorProto.FLOAT, ["N"]))
        initializers += [
            constant("one", np.ones((), np.float32)),
            constant("column", np.array([-1, 1, 1], np.int64)),
            constant("flat_state", np.array([-1, self.size], np.int64)),
            constant("state_shape", np.array([-1, 1, self.size], np.int64)),
        ]
        nodes += [
            helper.make_node("Sub", ["one", "episode_start"], ["not_start"]),
            helper.make_node("Reshape", ["not_start", "column"], ["kept"]),
            helper.make_node("Mul", ["state_h", "kept"], ["sum_before"]),
            helper.make_node("Reshape", ["sum_before", "flat_state"], ["flat_sum"]),
            helper.make_node("Add", [linear, "flat_sum"], ["sum"]),
            helper.make_node("Reshape", ["sum", "state_shape"], ["next_state_h"]),
            helper.make_node("Mul", ["state_c", "kept"], ["steps_before"]),
            helper.make_node("Add", ["steps_before", "one"], ["next_state_c"]),
        ]
        return "sum"
