from __future__ import annotations

from random import Random

import pytest
from aisandbox_crds.naming import is_run_name, request_digest, request_suffix, run_name
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(), st.none() | st.text(), st.integers())
def test_a_name_is_always_a_label_short_enough_for_a_job(experiment: str, request: str | None, seed: int) -> None:
    assert is_run_name(run_name(experiment, request, Random(seed)))


def test_a_name_begins_with_the_experiment() -> None:
    assert run_name("Cart Pole / é #1", None, Random(0)).startswith("cart-pole-e-1-")
    assert run_name("日本", None, Random(0)).startswith("run-")


def test_a_request_id_decides_the_name() -> None:
    assert run_name("a", "request", Random(0)) == run_name("a", "request", Random(1))
    assert run_name("a", "request", Random(0)) != run_name("a", "other", Random(0))
    assert run_name("b", "request", Random(0)).endswith("-" + request_suffix("request"))


def test_names_without_a_request_id_differ() -> None:
    random = Random(0)
    assert len({run_name("a", None, random) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a\n", "x" * 53, "é"])
def test_other_texts_are_no_names(text: str) -> None:
    assert is_run_name("x" * 52)
    assert not is_run_name(text)


def test_a_request_digest_distinguishes_requests() -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 10, hyperparameters={"a": "1", "b": "2"})
    same = TrainingRunSpec(Algorithm.PPO, 10, hyperparameters={"b": "2", "a": "1"})
    assert request_digest("x", spec) == request_digest("x", same)
    assert request_digest("x", spec) != request_digest("y", spec)
    assert request_digest("x", spec) != request_digest("x", TrainingRunSpec(Algorithm.PPO, 11))
