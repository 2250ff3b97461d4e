"""The table against stable-baselines3 itself: a version that adds, drops or changes a keyword fails here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
import torch
from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.hyperparameter_table import NORMALIZE_KEYWORDS, PARAMETERS, REFUSED, parameters_of
from aisandbox_crds.hyperparameters import Normalize, parse_hyperparameters
from aisandbox_crds.parameter import Hyperparameter
from aisandbox_crds.parameter_types import BoolType, FrequencyType, IntType, OptionalType, ScheduleType
from aisandbox_crds.policy_kwargs import (
    ACTIVATIONS,
    DEPENDENT_KEYWORDS,
    EXTRACTORS,
    OPTIMIZERS,
    REFUSED_POLICY_KEYWORDS,
)
from aisandbox_crds.spec import Algorithm
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common import torch_layers
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecNormalize

CLASSES: dict[Algorithm, Any] = {
    algorithm: getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm) for algorithm in Algorithm
}
KEYWORDS = [(algorithm, parameter) for algorithm in Algorithm for parameter in PARAMETERS[algorithm]]


def keywords(cls: Any) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(cls.__init__).parameters.items() if name != "self"}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_table_covers_every_keyword_of_the_class(algorithm: Algorithm) -> None:
    mentioned = {parameter.name for parameter in PARAMETERS[algorithm]}
    assert keywords(CLASSES[algorithm]).keys() - REFUSED.keys() == mentioned | {"policy"}


@pytest.mark.parametrize(("algorithm", "parameter"), KEYWORDS, ids=lambda value: getattr(value, "name", value))
def test_table_has_sb3s_default_and_type_where_it_is_not_ours(algorithm: Algorithm, parameter: Hyperparameter) -> None:
    theirs = keywords(CLASSES[algorithm])[parameter.name]
    if not parameter.custom:
        assert parameter.default == theirs.default
        assert isinstance(parameter.default, bool) == isinstance(theirs.default, bool)
    annotation = str(theirs.annotation)
    assert isinstance(parameter.type, BoolType) == (theirs.annotation is bool)
    assert isinstance(parameter.type, FrequencyType) == ("tuple[int, str]" in annotation)
    inner = parameter.type.inner if isinstance(parameter.type, OptionalType) else parameter.type
    assert isinstance(inner, IntType) == (theirs.annotation is int or annotation == "int | None")
    assert isinstance(inner, ScheduleType) == ("Callable" in annotation)


@pytest.mark.parametrize(
    ("algorithm", "parameter"),
    [
        (algorithm, entry)
        for algorithm, entry in KEYWORDS
        if entry.default is not None or isinstance(entry.type, OptionalType)
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_default_can_be_given(algorithm: Algorithm, parameter: Hyperparameter) -> None:
    parsed = parse_hyperparameters(algorithm, {parameter.name: str(parameter.default)})
    assert parsed.keywords[parameter.name] == parameter.default


def test_names_are_given_once() -> None:
    for algorithm in Algorithm:
        names = [parameter.name for parameter in parameters_of(algorithm)]
        assert len(names) == len(set(names))
        assert not set(names) & REFUSED.keys()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_policies_and_their_keywords_are_those_of_the_class(algorithm: Algorithm) -> None:
    traits = ALGORITHMS[algorithm]
    assert CLASSES[algorithm].policy_aliases.keys() == set(traits.policies.values())
    for policy in CLASSES[algorithm].policy_aliases.values():
        known = traits.policy_keywords.keys() | set(DEPENDENT_KEYWORDS)
        assert keywords(policy).keys() - REFUSED_POLICY_KEYWORDS.keys() == known


@pytest.mark.parametrize("algorithm", Algorithm)
def test_traits_are_those_of_the_class(algorithm: Algorithm) -> None:
    traits, cls = ALGORITHMS[algorithm], CLASSES[algorithm]
    assert traits.off_policy == issubclass(cls, OffPolicyAlgorithm)
    assert traits.recurrent == any(
        issubclass(policy, RecurrentActorCriticPolicy) for policy in cls.policy_aliases.values()
    )
    assert traits.action_noise == ("action_noise" in keywords(cls))
    source = inspect.getsource(cls.__init__).partition("supported_action_spaces=(")[2].partition("),")[0]
    kinds = {"Box": "box", "Discrete": "discrete", "MultiDiscrete": "multi_discrete", "MultiBinary": "multi_binary"}
    assert set(re.findall(r"spaces\.(\w+)", source)) == {name for name, kind in kinds.items() if kind in traits.actions}


def test_normalize_keywords_are_those_of_vecnormalize() -> None:
    theirs = keywords(VecNormalize)
    assert theirs.keys() - {"venv"} == NORMALIZE_KEYWORDS.types.keys() | NORMALIZE_KEYWORDS.refused.keys()
    for name in NORMALIZE_KEYWORDS.types:
        assert getattr(Normalize(), name) == theirs[name].default


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_modules_without_arguments(name: str) -> None:
    module = getattr(torch.nn, name.removeprefix("nn."))()
    assert module(torch.zeros(3)).shape == (3,)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_take_their_keywords(name: str) -> None:
    cls = RMSpropTFLike if name == "RMSpropTFLike" else getattr(torch.optim, name.removeprefix("th.optim."))
    assert OPTIMIZERS[name].keys() < keywords(cls).keys()


@pytest.mark.parametrize("name", EXTRACTORS)
def test_extractors_take_their_keywords(name: str) -> None:
    theirs = keywords(getattr(torch_layers, name)).keys()
    assert theirs - {"observation_space"} == EXTRACTORS[name].keys()
