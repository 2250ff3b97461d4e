"""How many names of episode metrics a simulator can bring into a run."""

from __future__ import annotations

from typing import Any

from aisandbox_trainer.environments.grpc_vec_env import LONGEST_METRIC_NAME, MOST_METRICS, GrpcVecEnv


def empty() -> Any:
    environment = GrpcVecEnv.__new__(GrpcVecEnv)
    environment._metric_names = set()
    environment._metrics_are_cut = False
    return environment


def test_fresh_names_are_left_out_and_known_ones_kept() -> None:
    environment = empty()
    for episode in range(3 * MOST_METRICS):
        environment._known({"goals": 1.0, f"fresh {episode}": 2.0})
    assert len(environment._metric_names) == MOST_METRICS
    assert environment._known({"goals": 1.0, "another": 2.0}) == {"goals": 1.0}


def test_name_is_short_and_printable() -> None:
    environment = empty()
    assert environment._known({"x" * (LONGEST_METRIC_NAME + 1): 1.0}) == {}
    assert environment._known({"a\x1b": 1.0}) == {"a\\x1b": 1.0}
