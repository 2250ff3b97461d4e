"""What cannot fit into memory is refused with the number of bytes, and no trainer takes more than its bound."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aisandbox_api.space_checks import space_size
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.memory import SpaceSize, default_memory_bound, memory_need
from aisandbox_crds.spec import Algorithm
from aisandbox_trainer.algorithms.memory_check import check_memory, most_environments, size_of
from aisandbox_trainer.errors import NotEnoughMemory
from aisandbox_trainer.run import attempt
from aisandbox_trainer.run.exit_status import exit_status_of
from aisandbox_wire.gymnasium_spaces import space_to_proto
from gymnasium import spaces

GIB = 1024**3
VECTOR = spaces.Box(-1, 1, (4,), np.float32)
TWO = spaces.Discrete(2)


def _check(algorithm: str, observation: Any, action: Any, given: Mapping[str, str], bound: int = 18 * GIB) -> None:
    kind = Algorithm(algorithm)
    check_memory(kind, parse_hyperparameters(kind, given), observation, action, 4, bound)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_most_environments_are_those_that_the_check_accepts(algorithm: str) -> None:
    kind = Algorithm(algorithm)
    learner = kind, parse_hyperparameters(kind, {}), spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Discrete(2)
    most = most_environments(*learner, 4096, GIB)
    if kind is Algorithm.PPO:
        assert 0 < most < 4096
    if most:
        check_memory(*learner, most, GIB)
    if most < 4096:
        with pytest.raises(NotEnoughMemory):
            check_memory(*learner, most + 1, GIB)


@pytest.mark.parametrize(
    ("algorithm", "observation", "action", "given", "named"),
    [
        ("PPO", spaces.Discrete(4_000_000_000), spaces.Discrete(2), {}, "number of choices"),
        ("PPO", spaces.MultiDiscrete([2_000_000_000, 3]), spaces.Discrete(2), {}, "number of choices"),
        ("PPO", VECTOR, spaces.Discrete(3_000_000_000), {}, "number of choices"),
        ("DQN", spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Discrete(2), {"buffer_size": "13900000"}, "buffer"),
        ("SAC", spaces.Box(0, 1, (2000,), np.float32), VECTOR, {"buffer_size": "2000000"}, "buffer"),
        ("TD3", VECTOR, spaces.Box(-1, 1, (2_000_000,), np.float32), {"buffer_size": "100"}, "weights of the networks"),
        ("A2C", spaces.Box(0, 1, (1000, 1000), np.float64), spaces.Discrete(2), {"n_steps": "5000"}, "n_steps"),
        ("PPO", VECTOR, TWO, {"policy_kwargs": f"dict(net_arch={[8192] * 16})"}, "policy_kwargs"),
        ("TQC", VECTOR, VECTOR, {"buffer_size": "9", "policy_kwargs": "dict(n_quantiles=2000)"}, "for a minibatch"),
        ("QRDQN", VECTOR, TWO, {"buffer_size": "9", "policy_kwargs": "dict(n_quantiles=9000)"}, "for a minibatch"),
        ("PPO", spaces.Dict({"a": spaces.Discrete(2_000_000_000), "b": VECTOR}), spaces.Discrete(2), {}, "choices"),
    ],
)
def test_run_that_needs_more_memory_than_its_trainer_may_take_is_refused_with_the_bytes(
    algorithm: str, observation: Any, action: Any, given: Mapping[str, str], named: str
) -> None:
    with pytest.raises(NotEnoughMemory, match=r"at least [\d,]{14,} bytes .*TRAINER_MEMORY_BYTES") as raised:
        _check(algorithm, observation, action, given)
    assert named in str(raised.value)
    status = exit_status_of(raised.value)
    assert (int(status.code), status.failure and status.failure.reason) == (78, "OutOfMemory")


def test_replay_buffer_of_780_gb_is_counted_with_python_s_integers() -> None:
    given = parse_hyperparameters(Algorithm.DQN, {"buffer_size": "100000000"})
    need = memory_need(Algorithm.DQN, given, SpaceSize(3900, 975), SpaceSize(8, 4), 1)
    assert need.buffer == 100_000_000 * (2 * 3900 + 20)
    assert need.rule(GIB) is not None


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "TQC", "CrossQ"])
def test_usual_run_with_box_actions_is_accepted(algorithm: str) -> None:
    _check(algorithm, spaces.Box(-1, 1, (100,), np.float32), VECTOR, {}, bound=4 * GIB)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
@pytest.mark.parametrize(
    "observation", [VECTOR, spaces.Discrete(500), spaces.Box(0, 255, (64, 64, 3), np.uint8), spaces.MultiBinary(8)]
)
def test_usual_run_is_accepted(algorithm: str, observation: Any) -> None:
    _check(algorithm, observation, spaces.Discrete(4), {}, bound=4 * GIB)


@pytest.mark.parametrize(
    "space",
    [
        VECTOR,
        spaces.Discrete(7),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(5),
        spaces.Dict({"a": VECTOR, "b": spaces.Discrete(3)}),
    ],
)
def test_start_call_and_trainer_count_the_same(space: Any) -> None:
    assert space_size(space_to_proto(space)) == size_of(space)


def test_default_bound_is_a_share_of_the_machine() -> None:
    total = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    assert 0 < default_memory_bound() < total


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
@pytest.mark.parametrize(
    "allocate",
    [
        "torch.ones(2**29)",
        pytest.param("numpy.ones(2**31, numpy.uint8)", marks=pytest.mark.slow),
        pytest.param("bytearray(2**31)", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_allocation_beyond_the_bound_fails_and_is_out_of_memory(allocate: str) -> None:
    code = f"""
import numpy, torch
from aisandbox_trainer.run.exit_status import exit_status_of
from aisandbox_trainer.runtime.memory_limit import limit_memory
assert limit_memory({GIB})
numpy.ones(1000); torch.ones(1000)
try:
    {allocate}
except BaseException as error:
    failure = exit_status_of(error).failure
    print(failure.reason, "TRAINER_MEMORY_BYTES" in failure.message)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["OutOfMemory", "True"]


def test_limit_is_never_raised_above_one_that_exists() -> None:
    code = f"""
import resource
from aisandbox_trainer.runtime.memory_limit import limit_memory
resource.setrlimit(resource.RLIMIT_DATA, ({GIB}, {4 * GIB}))
limit_memory({8 * GIB})
print(*resource.getrlimit(resource.RLIMIT_DATA))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(GIB), str(4 * GIB)]


def test_attempts_in_the_process_of_the_tests_do_not_limit_it() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    vars(attempt)["limit_memory"](GIB * GIB)  # as run_attempt does
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
