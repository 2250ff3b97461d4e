"""What can be said of an algorithm and a simulator's spaces without PyTorch: whether they fit, and in how much memory.

The trainer checks the same, and more, before its first step. Must not know how a simulator is asked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from aisandbox.v1 import tensor_pb2
from aisandbox.v1.environment_pb2 import EnvironmentSpec
from aisandbox_crds import (
    ALGORITHMS,
    MOST_BYTES,
    Algorithm,
    DeclaredLeaf,
    DeclaredSpace,
    FieldError,
    Hyperparameters,
    SpaceSize,
    actions_problem,
    default_memory_bound,
    masks_problem,
    memory_need,
    parse_hyperparameters,
    space_errors,
    trained_algorithm,
)
from aisandbox_environment import Spec, read_spec
from aisandbox_process import whole_number
from aisandbox_wire import WIRE_DTYPES, Leaf, distinct_bounds, leaves


def space_problems(spec: EnvironmentSpec) -> Mapping[str, str]:
    """For each algorithm why it cannot train on the spaces with its default hyperparameters, or "" if nothing is wrong.

    Those that need masks are left out where none are declared. Raises InvalidSpace.
    """
    read = read_spec(spec)
    concerned = [each for each, traits in ALGORITHMS.items() if read.action_masks or not traits.masks]
    return {str(algorithm): _problem(algorithm, read) for algorithm in concerned}


def _problem(algorithm: Algorithm, spec: Spec) -> str:
    if problem := choice_problem(algorithm, spec):
        return problem
    algorithm = trained_algorithm(algorithm, spec.action_masks)
    hyperparameters = parse_hyperparameters(algorithm, {})
    errors = hyperparameter_errors(algorithm, hyperparameters, spec)
    return "; ".join(map(str, errors)) or memory_problem(algorithm, hyperparameters, 1, spec)


def choice_problem(algorithm: Algorithm, spec: Spec) -> str:
    """Why the algorithm cannot choose from the actions, or not as their masks say; empty if it can."""
    actions = actions_problem(algorithm, declared_space(spec.action_space))
    return actions or masks_problem(algorithm, spec.action_masks)


def hyperparameter_errors(algorithm: Algorithm, hyperparameters: Hyperparameters, spec: Spec) -> list[FieldError]:
    """What of the hyperparameters does not fit the spaces. Raises InvalidSpace."""
    observations, actions = declared_space(spec.observation_space), declared_space(spec.action_space)
    return list(space_errors(algorithm, hyperparameters, observations, actions))


def memory_problem(algorithm: Algorithm, hyperparameters: Hyperparameters, environments: int, spec: Spec) -> str:
    """Why a trainer has not the memory for its buffers and networks, computed before anything is allocated; or ""."""
    if "TRAINER_MEMORY_BYTES" not in os.environ and os.environ.get("BACKEND") == "kubernetes":
        return ""  # the trainer runs on another machine, with a limit of its own, and checks the same
    bound = whole_number(os.environ, "TRAINER_MEMORY_BYTES", default_memory_bound(), 1, MOST_BYTES)
    observation, action = space_size(spec.observation_space), space_size(spec.action_space)
    return memory_need(algorithm, hyperparameters, observation, action, environments).rule(bound) or ""


def declared_space(space: tensor_pb2.Space) -> DeclaredSpace:
    """The space as :mod:`aisandbox_crds.space_rules` takes it. Raises InvalidSpace."""
    found = tuple(map(_declared_leaf, leaves(space)))
    return DeclaredSpace(found, is_dict=space.WhichOneof("kind") == "dict")


def _declared_leaf(leaf: Leaf) -> DeclaredLeaf:
    pixels = (
        leaf.low is not None
        and leaf.high is not None
        and not distinct_bounds(leaf.low).any()
        and bool((distinct_bounds(leaf.high) == 255).all())
    )
    return DeclaredLeaf(leaf.key, leaf.kind, leaf.dtype.name, leaf.shape, pixels)


def space_size(space: tensor_pb2.Space) -> SpaceSize:
    """The size of one value of a declared space; of an image no features, since it goes through convolutions."""
    kind = space.WhichOneof("kind")
    if kind == "dict":
        return sum((space_size(entry.space) for entry in space.dict.entries), SpaceSize(0, 0))
    if kind == "discrete":
        return SpaceSize(8, space.discrete.n)
    if kind == "multi_discrete":
        return SpaceSize(8 * len(space.multi_discrete.n), sum(space.multi_discrete.n))
    if kind == "multi_binary":
        return SpaceSize(space.multi_binary.n, space.multi_binary.n)
    count, dtype = math.prod(space.box.shape), WIRE_DTYPES.get(space.box.dtype)
    return SpaceSize(count * (dtype.itemsize if dtype is not None else 4), 0 if len(space.box.shape) == 3 else count)
