from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_inference.errors import InvalidField, UnusableModel
from aisandbox_inference.policy import Policy
from numpy.typing import NDArray
from onnx_policies import (
    LinearPolicy,
    box,
    dictionary,
    discrete,
    image,
    multi_binary,
    multi_discrete,
)

Load = Callable[..., Policy]

OBSERVATIONS = [
    box(4),
    box(2, 3),
    image(3, 4, 1),
    discrete(5, start=2),
    multi_discrete(2, 3),
    multi_binary(4),
    dictionary(a=box(2), b=image(2, 2, 3), c=multi_discrete(2, 2), d=discrete(3), e=multi_binary(2)),
]
ACTIONS = [discrete(3), discrete(3, start=-1), box(2), box(2, 2), multi_discrete(2, 3), multi_binary(3)]


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=lambda space: space.WhichOneof("kind"))
@pytest.mark.parametrize("action", ACTIONS, ids=lambda space: space.WhichOneof("kind"))
@pytest.mark.parametrize("count", [1, 5])
def test_policy_acts_as_its_reference(
    load: Load, observation: tensor_pb2.Space, action: tensor_pb2.Space, count: int
) -> None:
    reference = LinearPolicy(observation, action)
    policy = load(reference)
    sample = reference.sample(count)
    feed = dict(zip(policy.observations.input_types, sample, strict=True))
    actions = policy.act(feed, count, False)
    expected = reference.act(sample)
    for row in range(count):
        one = policy.act({name: values[row : row + 1] for name, values in feed.items()}, 1, False)
        np.testing.assert_allclose(one, expected[row : row + 1], atol=1e-4)
        assert one.dtype == expected.dtype
    assert actions.dtype == expected.dtype
    np.testing.assert_allclose(actions, expected, atol=1e-4)


def test_policy_loads_and_acts_without_a_line_of_the_runtime(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    policy = load(LinearPolicy())
    policy.act({"observation": np.zeros((1, 4), np.float32)}, 1, True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (LinearPolicy(action=discrete(2, start=1), bias=[0.0, 1.0]), 1 + 1 / (1 + np.exp(-1.0))),
        (LinearPolicy(action=multi_discrete(2, 2), bias=[0, 0, 0, 1]), (0.5 + 1 / (1 + np.exp(-1.0))) / 2),
        (LinearPolicy(action=multi_binary(1), bias=[1.0]), 1 / (1 + np.exp(-1.0))),
        (LinearPolicy(action=box(1, low=-50, high=50), bias=[3.0]), 3.0),
        (LinearPolicy(action=discrete(2), bias=[9.0, 0.0], epsilon=0.5), 0.25),
    ],
    ids=["gumbel", "gumbel of two", "logistic", "normal", "epsilon greedy"],
)
def test_policy_sampled_has_the_mean_of_its_distribution(load: Load, reference: LinearPolicy, expected: float) -> None:
    actions = load(reference).act({"observation": np.zeros((40_000, 4), np.float32)}, 40_000, True)
    assert actions.mean() == pytest.approx(expected, abs=0.03)
    assert actions.std() > 0.1


def test_policy_sampled_one_at_a_time_has_the_same_distribution(load: Load) -> None:
    policy = load(LinearPolicy(action=multi_binary(1), bias=[1.0]))
    feed = {"observation": np.zeros((1, 4), np.float32)}
    actions = [float(policy.act(feed, 1, True)[0, 0]) for _ in range(4000)]
    assert np.mean(actions) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.03)
    assert policy.act(feed, 1, False)[0, 0] == 1


def test_policy_used_by_many_threads_gives_each_its_own_action(load: Load) -> None:
    reference = LinearPolicy(action=box(1, low=-1e6, high=1e6))
    policy = load(reference)
    observations = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    expected = reference.act([observations]).ravel()

    def act_all(_: int) -> list[float]:
        return [float(policy.act({"observation": row[None]}, 1, False)[0, 0]) for row in observations]

    with ThreadPoolExecutor(4) as pool:
        for actions in pool.map(act_all, range(8)):
            np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-4)


def test_policy_gives_the_same_actions_for_repeated_batches_of_any_size(load: Load) -> None:
    reference = LinearPolicy(action=box(1, low=-1e6, high=1e6))
    policy = load(reference)
    observations = np.random.default_rng(0).normal(size=(1 << 14, 4)).astype(np.float32)
    expected = reference.act([observations])
    kept: list[tuple[slice, Any]] = []
    for count in (1, 2, 3, 4, 5, 6, 1 << 14, 2, 1):
        for start in range(12):
            rows = slice(start, start + count)
            kept.append((rows, policy.act({"observation": observations[rows]}, len(observations[rows]), False)))
    for rows, actions in kept:
        np.testing.assert_allclose(actions, expected[rows], rtol=1e-4, atol=1e-4)


def test_observation_that_overflows_in_the_policy_is_refused(load: Load) -> None:
    policy = load(LinearPolicy(box(2), box(1)))
    policy.act({"observation": np.array([[1e30, 1e30]], np.float32)}, 1, False)
    with pytest.raises(InvalidField, match="observation: has numbers so large"):
        # inf - inf inside; the clip of the head does not save a NaN
        policy.act({"observation": np.array([[np.inf, np.nan]], np.float32)}, 1, False)
    with pytest.raises(InvalidField, match="observation: has numbers so large"):
        policy.act({"observation": np.array([[np.inf, np.nan]], np.float32)}, 1, False)


def test_description_has_the_digest_and_timesteps_of_the_store(load: Load) -> None:
    policy = load(LinearPolicy(timesteps=7))
    assert policy.timesteps == policy.description.model_timesteps == 100
    assert policy.description.run_id == "r"
    assert policy.description.model == policy.digest
    assert policy.description.noise_kind == pb.NOISE_KIND_GUMBEL


def test_policy_measures_how_long_it_takes(load: Load) -> None:
    quick, slow = load(LinearPolicy()), load(LinearPolicy(busy=512))
    assert quick.expected_seconds(1) < slow.expected_seconds(1)
    assert slow.expected_seconds(64) >= slow.expected_seconds(1)
    start = time.perf_counter()
    slow.act({"observation": np.zeros((1, 4), np.float32)}, 1, False)
    assert slow.expected_seconds(1) < 10 * (time.perf_counter() - start)


def document(policy: LinearPolicy, **changes: Any) -> bytes:
    return json.dumps({**json.loads(policy.metadata()), **changes}).encode()


def golden(policy: LinearPolicy, **changes: Any) -> bytes:
    return json.dumps({**json.loads(policy.golden()), **changes}).encode()


def json_tensor(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": array.shape, "data": base64.b64encode(array.tobytes()).decode()}


GOOD = LinearPolicy()
BAD_FILES: dict[str, tuple[dict[str, bytes], str]] = {
    "no onnx": ({"policy.onnx": b"not a model"}, "not an ONNX file"),
    "empty onnx": ({"policy.onnx": b""}, "not an ONNX file"),
    "cut onnx": ({"policy.onnx": GOOD.onnx()[:-100]}, "not an ONNX file|ONNX Runtime cannot load it|inputs|output"),
    "other inputs": ({"policy.onnx": LinearPolicy(dictionary(a=box(4))).onnx()}, "its inputs are"),
    "other input type": ({"policy.onnx": LinearPolicy(image(4)).onnx()}, "its input observation is"),
    "other output type": ({"policy.onnx": LinearPolicy(action=box(2)).onnx()}, "it gives actions float32"),
    "other output shape": ({"policy.onnx": LinearPolicy(action=multi_discrete(2)).onnx()}, "it gives actions int64"),
    "other input shape": ({"policy.onnx": LinearPolicy(box(5)).onnx()}, "it fails on its golden examples"),
    "other weights": ({"policy.onnx": LinearPolicy(seed=1).onnx()}, "it gives for golden example"),
    "no metadata": ({"metadata.json": b"{"}, "metadata.json"),
    "text that is no text": ({"metadata.json": b"\xff\xfe"}, "metadata.json"),
    "empty metadata": ({"metadata.json": b"{}"}, "observation_space"),
    "no noise kind": ({"metadata.json": document(GOOD, noiseKind="NOISE_KIND_UNSPECIFIED")}, "noise"),
    "no noise": ({"metadata.json": document(GOOD, noiseSize=0)}, "noise"),
    "no golden": ({"golden.json": b"[]"}, "golden"),
    "no golden rows": ({"golden.json": b'{"observations": [], "noise": 1, "actions": 2}'}, "golden"),
    "golden of another space": (
        {"golden.json": golden(GOOD, observations=[])},
        "golden examples are for another observation space",
    ),
    "golden of other numbers": (
        {"golden.json": golden(GOOD, actions=json_tensor(np.zeros(3, np.int64)))},
        "expected one number of at least 1",
    ),
    "golden of objects": (
        {"golden.json": golden(GOOD, actions={"dtype": "object", "shape": [16], "data": ""})},
        "dtype object",
    ),
    "golden of another action space": (
        {"golden.json": golden(GOOD, actions=json_tensor(np.zeros((16, 1), np.int64)))},
        "golden actions are for another action space",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_policy_that_breaks_the_contract_is_not_served(load: Load, name: str) -> None:
    files, why = BAD_FILES[name]
    with pytest.raises(UnusableModel, match=why) as caught:
        load(GOOD, files)
    assert caught.value.digest in str(caught.value)


def test_policy_without_a_file_is_not_served(load: Load, publish: Any, store: Any) -> None:
    files = LinearPolicy().files()
    del files["golden.json"]
    published = store.run("r").claim(1).publish_model(1, files)
    with pytest.raises(UnusableModel, match=r"the file 'golden\.json' is missing"):
        Policy("r", store.run("r").read_model(published), np.random.default_rng(0))


def test_policy_whose_default_noise_is_not_zero_is_not_served(load: Load) -> None:
    import onnx
    from onnx import numpy_helper

    reference = LinearPolicy()
    model = onnx.load_from_string(reference.onnx())
    for initializer in model.graph.initializer:
        if initializer.name == "noise":
            initializer.CopyFrom(numpy_helper.from_array(np.array([[0.0, 1e9]], np.float32), "noise"))
    with pytest.raises(UnusableModel, match="for golden example"):
        load(reference, {"policy.onnx": model.SerializeToString()})
