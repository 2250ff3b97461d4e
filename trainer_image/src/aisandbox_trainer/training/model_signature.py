"""What weights belong to: algorithm, policy and spaces, as a file beside them.

A run that starts from them compares its own with these, and says which of them differs. Must not know weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
from aisandbox.v1 import tensor_pb2
from aisandbox_crds import Algorithm, trained_algorithm
from aisandbox_model_store import LEARNER_FILE
from aisandbox_wire import WireError, form_of, space_to_proto
from google.protobuf import json_format
from google.protobuf.message import Message
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.algorithms.builder import algorithm_of
from aisandbox_trainer.environments.factory import env_of, space_adapter_of

_NOT_COMPARED = frozenset({"low", "high", "names"})
"""Of a space: a changed world may have other bounds, and the networks are the same."""


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """An algorithm and a policy by their classes' names, and the simulator's spaces.

    These are JSON of the wire format, without what is not compared.
    """

    algorithm: str
    policy: str
    observation_space: Any
    action_space: Any

    @classmethod
    def of(cls, model: BaseAlgorithm) -> ModelSignature:
        """The signature of a model on its environments."""
        adapter = space_adapter_of(env_of(model))
        observation, action = map(_space_json, (adapter.inner_observation_space, adapter.inner_action_space))
        return cls(str(algorithm_of(type(model))), type(model.policy).__name__, observation, action)

    def to_bytes(self) -> bytes:
        """The file."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelSignature:
        """Reads the file. Raises ValueError."""
        try:
            signature = cls(**json.loads(data))
            for space in (signature.observation_space, signature.action_space):
                _form_of(space)
        except (TypeError, KeyError, RecursionError, json_format.ParseError, WireError) as error:
            raise ValueError(f"{LEARNER_FILE} is malformed ({error})") from error
        return signature

    def difference(self, own: ModelSignature) -> str:
        """What of a source differs from ``own`` so that its weights cannot be taken; empty if nothing does."""
        if _maskable(self.algorithm) != _maskable(own.algorithm):
            return f"its algorithm is {self.algorithm}, and this run's is {own.algorithm}"
        spaces = {
            "observations": (self.observation_space, own.observation_space),
            "actions": (self.action_space, own.action_space),
        }
        for name, (theirs, ours) in spaces.items():
            if theirs != ours:
                return f"its {name} are {_form_of(theirs)}, and this run's are {_form_of(ours)}"
        return ""


def _maskable(algorithm: str) -> str:
    """What is trained where a simulator declares masks: its networks are those of the algorithm it replaces."""
    return str(trained_algorithm(Algorithm(algorithm), masks=True)) if algorithm in set(Algorithm) else algorithm


def _space_json(space: gym.Space[Any]) -> Any:
    message = space_to_proto(space)
    _clear(message)
    return json_format.MessageToDict(message)


def _clear(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in _NOT_COMPARED:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            _clear(value)
        elif field.message_type is not None:
            for entry in value:
                _clear(entry)


def _form_of(space: Any) -> str:
    return form_of(json_format.ParseDict(space, tensor_pb2.Space()))[:300]
