"""A simulator's replies are read, and everything in them is checked."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.spec import Spec, read_spec
from aisandbox_wire.errors import InvalidSpace, WireError
from aisandbox_wire.tensors import encode_tensor

BOX = tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2]))
BOUNDED = tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2], low=[0], high=[1]))
DISCRETE = tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2))
BOTH = tensor_pb2.Space(
    dict=tensor_pb2.DictSpace(
        entries=[tensor_pb2.DictEntry(key="a", space=BOX), tensor_pb2.DictEntry(key="b", space=DISCRETE)]
    )
)


def spec(masks: bool = False, observation: tensor_pb2.Space = BOX) -> Spec:
    return read_spec(pb.EnvironmentSpec(observation_space=observation, action_space=DISCRETE, action_masks=masks))


def step(**changes: object) -> pb.StepReply:
    """Three environments of which the last two end, one terminated and one truncated."""
    reply = pb.StepReply(
        observations=[encode_tensor(np.arange(6, dtype=np.float32).reshape(3, 2))],
        rewards=np.array([1, 2, 3], "<f4").tobytes(),
        terminated=b"\0\1\0",
        truncated=b"\0\0\1",
        final_observations=[encode_tensor(np.full((2, 2), 9, np.float32))],
    )
    for name, value in changes.items():
        reply.ClearField(name)  # type: ignore[arg-type]
        reply.MergeFrom(pb.StepReply(**{name: value}))  # type: ignore[arg-type]
    return reply


def test_step_is_read() -> None:
    reply = step()
    reply.episode_metrics.add(environment=2, values={"goals": 3.0})
    result = ReplyReader(spec(), 3).step(reply)
    assert result.observations[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert result.rewards.tolist() == [1, 2, 3]
    assert result.rewards.dtype == np.float32
    assert result.terminated.tolist() == [False, True, False]
    assert result.truncated.tolist() == [False, False, True]
    assert result.ended.tolist() == [1, 2]
    assert result.final_observations[0].tolist() == [[9, 9], [9, 9]]
    assert result.action_masks is None
    assert [(m.environment, dict(m.values)) for m in result.episode_metrics] == [(2, {"goals": 3.0})]


def test_step_in_which_nothing_ends_is_read() -> None:
    result = ReplyReader(spec(), 3).step(step(terminated=b"\0\0\0", truncated=b"\0\0\0", final_observations=[]))
    assert result.ended.tolist() == []
    assert list(result.final_observations) == []


def test_reset_with_masks_and_several_leaves_is_read() -> None:
    reply = pb.ResetReply(
        observations=[encode_tensor(np.ones((2, 2), np.float32)), encode_tensor(np.array([0, 1]))],
        action_masks=b"\1\0\1\1",
    )
    result = ReplyReader(spec(masks=True, observation=BOTH), 2).reset(reply)
    assert [array.tolist() for array in result.observations] == [[[1, 1], [1, 1]], [0, 1]]
    assert result.action_masks is not None
    assert result.action_masks.tolist() == [[True, False], [True, True]]


def tensors(*arrays: np.ndarray) -> list[tensor_pb2.Tensor]:
    return [encode_tensor(array) for array in arrays]


FLOATS = np.zeros((3, 2), np.float32)
BAD: list[tuple[dict[str, object], str]] = [
    ({"observations": []}, "observations: has 0 tensors"),
    ({"observations": tensors(FLOATS, FLOATS)}, "observations: has 2 tensors"),
    ({"observations": tensors(FLOATS[:2])}, r"observations\[0\]: has shape \[2, 2\], expected \[3, 2\]"),
    ({"observations": tensors(FLOATS.T)}, r"observations\[0\]: has shape \[2, 3\]"),
    ({"observations": tensors(FLOATS.astype(np.float64))}, r"observations\[0\]: has dtype float64"),
    ({"observations": tensors(FLOATS * np.nan)}, r"observations\[0\]: element \[0, 0\] is nan"),
    ({"rewards": b"\0" * 8}, "step.rewards: has 8 bytes; 3 float32 rewards need 12"),
    ({"rewards": np.array([0, math.inf, 0], "<f4").tobytes()}, r"step.rewards: element \[1\] is inf"),
    ({"terminated": b"\0\0"}, "step.terminated: has 2 bytes; 3 environments need 3"),
    ({"truncated": b"\0\0\0\0"}, "step.truncated: has 4 bytes"),
    ({"terminated": b"\0\2\0"}, "step.terminated: has a byte that is neither 0 nor 1"),
    ({"final_observations": []}, "step.final_observations: has 0 tensors"),
    ({"final_observations": tensors(FLOATS)}, r"step.final_observations\[0\]: has shape \[3, 2\], expected \[2, 2\]"),
    ({"final_observations": tensors(FLOATS[:2] + np.inf)}, r"step.final_observations\[0\]: element \[0, 0\] is inf"),
    ({"terminated": b"\0\0\0", "truncated": b"\0\0\0"}, "step.final_observations: is set although no episode ended"),
    ({"action_masks": b"\1"}, "action_masks: has 1 bytes; 3 rows of 0 bytes need 0"),
    (
        {"episode_metrics": [pb.EpisodeMetrics(environment=0)]},
        "episode_metrics.*environment 0 has not ended an episode",
    ),
    (
        {"episode_metrics": [pb.EpisodeMetrics(environment=1, values={"x": math.nan})]},
        r"episode_metrics\[0\].values\['x'\]: nan is not finite",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_step_that_breaks_the_contract_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WireError, match=message):
        ReplyReader(spec(), 3).step(step(**changes))


def test_metrics_without_an_end_are_refused() -> None:
    reply = step(terminated=b"\0\0\0", truncated=b"\0\0\0", final_observations=[])
    reply.episode_metrics.add(environment=0)
    with pytest.raises(WireError, match=r"step\.episode_metrics: is set although no episode ended"):
        ReplyReader(spec(), 3).step(reply)


@pytest.mark.parametrize(
    ("action", "masks", "message"),
    [
        (DISCRETE, b"\1\0\0\0\0\1", "action_masks: the mask of environment 1 allows no action"),
        (
            tensor_pb2.Space(multi_discrete=tensor_pb2.MultiDiscrete(n=[2, 3])),
            b"\1\1\1\0\0" * 2 + b"\1\0\0\0\0",
            "action_masks: the mask of environment 2 allows no value of dimension 1",
        ),
        (
            tensor_pb2.Space(multi_binary=tensor_pb2.MultiBinary(n=2)),
            b"\0\0\1\0" + b"\1\1\1\1" * 2,
            "action_masks: the mask of environment 0 allows no value of dimension 0",
        ),
    ],
)
def test_mask_that_forbids_everything_is_refused(action: tensor_pb2.Space, masks: bytes, message: str) -> None:
    found = read_spec(pb.EnvironmentSpec(observation_space=BOX, action_space=action, action_masks=True))
    with pytest.raises(WireError, match=message):
        ReplyReader(found, 3).step(step(action_masks=masks))


def test_missing_masks_are_refused() -> None:
    with pytest.raises(WireError, match="action_masks: has 0 bytes; 3 rows of 2 bytes need 6"):
        ReplyReader(spec(masks=True), 3).step(step())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.action_space.CopyFrom(BOTH), "spec.action_space: is a Dict"),
        (lambda p: p.action_space.CopyFrom(BOX), "spec.action_space.box: an action space must have finite bounds"),
        (lambda p: p.ClearField("action_space"), "spec.action_space: no kind"),
        (lambda p: p.ClearField("observation_space"), "spec.observation_space: no kind"),
        (
            lambda p: p.action_space.CopyFrom(BOUNDED),
            "spec.action_masks: only Discrete, MultiDiscrete and MultiBinary",
        ),
    ],
)
def test_spec_that_breaks_a_rule_is_refused(change: Callable[[pb.EnvironmentSpec], None], message: str) -> None:
    proto = pb.EnvironmentSpec(observation_space=BOX, action_space=DISCRETE, action_masks=True)
    change(proto)
    with pytest.raises(InvalidSpace, match=message):
        read_spec(proto)


def test_spec_survives_the_wire() -> None:
    proto = pb.EnvironmentSpec(
        observation_space=BOTH, action_space=DISCRETE, action_masks=True, max_episode_steps=7, metrics=["goals"]
    )
    assert read_spec(proto).to_proto() == proto
    assert read_spec(proto).mask_width == 2
