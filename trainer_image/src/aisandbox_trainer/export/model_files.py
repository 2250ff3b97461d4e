"""A trained policy as the files of a published model: ONNX, what it takes and gives, and golden examples.

Owns their contents; aisandbox_model_store has their names and forms. Must not know where they are put or who serves
them.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store.served_model import (
    DESCRIPTION_PROPERTY,
    EPISODE_START_INPUT,
    GOLDEN_FILE,
    GOLDEN_PROPERTY,
    MASK_INPUT,
    METADATA_FILE,
    NOISE_INPUT,
    POLICY_FILE,
    next_state_output,
)
from aisandbox_wire import space_to_proto
from google.protobuf import json_format
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from aisandbox_trainer.algorithms.builder import algorithm_of
from aisandbox_trainer.export.golden import golden_examples
from aisandbox_trainer.export.onnx_file import onnx_bytes
from aisandbox_trainer.export.policy_graph import PolicyGraph, build_policy_graph

_VERSIONED = ("aisandbox-trainer", "sb3-contrib", "stable-baselines3", "torch", "gymnasium", "numpy", "onnx")


def export_model(
    model: BaseAlgorithm,
    *,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    vec_normalize: VecNormalize | None,
    frame_stack: int = 1,
    timesteps: int,
) -> dict[str, bytes]:
    """The files of a model folder: ``policy.onnx``, ``metadata.json`` and ``golden.json``.

    ``observation_space`` and ``action_space`` are the simulator's (with ``frame_stack``, the stacked space, before any
    VecTransposeImage and VecNormalize); what is between them and the policy's spaces becomes part of the graph.
    ``vec_normalize`` is the wrapper next to the policy. ``policy.onnx`` keeps the contract of DescribeModelResponse in
    policy_trainer.proto, and has the contents of the other two as metadata properties.

    The model is only read: neither it nor any random generator is changed, so a training that exports in between ends
    like one that does not. Raises CannotExport, naming what does not fit, NonFiniteTraining for a policy with NaN or
    infinite parameters, and aisandbox_wire's InvalidSpace for a space without a wire format.
    """
    graph = build_policy_graph(model, observation_space, action_space, vec_normalize)
    examples = [th.zeros((2, *leaf.shape), dtype=leaf.dtype) for leaf in graph.leaves]
    for leaf, example in zip(graph.leaves, examples, strict=True):
        example += leaf.start
    names = [leaf.name for leaf in graph.leaves]
    if graph.state:
        names += [*(tensor.name for tensor in graph.state), EPISODE_START_INPUT]
        examples += [*(th.zeros((2, *tensor.shape)) for tensor in graph.state), th.zeros(2)]
    description = pb.DescribeModelResponse(
        model_timesteps=timesteps,
        algorithm=pb.Algorithm.Value(f"ALGORITHM_{algorithm_of(type(model)).name}"),
        observation_space=space_to_proto(observation_space),
        action_space=space_to_proto(action_space),
        normalized_observations=any(leaf.clip > 0 for leaf in graph.leaves),
        frame_stack=frame_stack,
        noise_kind=graph.noise.kind,
        noise_size=graph.noise.size,
        epsilon=graph.noise.epsilon,
        versions=_versions(),
        mask_size=graph.mask_size,
        state=[pb.StateTensor(name=tensor.name, shape=tensor.shape) for tensor in graph.state],
    )
    metadata = json_format.MessageToJson(description, sort_keys=True)
    golden = golden_examples(graph).to_bytes()
    properties = {DESCRIPTION_PROPERTY: metadata, GOLDEN_PROPERTY: golden.decode()}
    states = [next_state_output(tensor.name) for tensor in graph.state]
    return {
        POLICY_FILE: onnx_bytes(graph, names, examples, _defaults(graph), properties, states),
        METADATA_FILE: metadata.encode(),
        GOLDEN_FILE: golden,
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Of the libraries; cached, because reading them takes milliseconds."""
    return {name: importlib.metadata.version(name) for name in _VERSIONED}


def _defaults(graph: PolicyGraph) -> dict[str, NDArray[Any]]:
    """The inputs that may be left out, in the order of the graph's."""
    defaults: dict[str, NDArray[Any]] = {NOISE_INPUT: np.zeros((1, graph.noise.size), np.float32)}
    if graph.mask_size:
        defaults[MASK_INPUT] = np.ones((1, graph.mask_size), np.uint8)
    return defaults


__all__ = ["PolicyGraph", "export_model"]
