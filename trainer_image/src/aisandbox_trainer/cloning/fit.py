"""Whether demonstrations fit a run: the spaces, the masks, and its memory. Must not know models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aisandbox_crds import Algorithm, Hyperparameters, memory_need
from aisandbox_environment import Spec, make_spec
from aisandbox_wire import form_of, space_to_proto
from gymnasium import spaces

from aisandbox_trainer.algorithms.memory_check import size_of
from aisandbox_trainer.algorithms.policy_choice import Space
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidDemonstrations

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile

_FLOAT = 4
_OTHER = 32
"""Bytes of a row besides its observation and action: its number, the two rewards and the return, the flags."""
_LONGEST = 300


def check_compatible(file: DemonstrationFile, adapter: SpaceAdapter, *, masks: bool) -> None:
    """Raises InvalidDemonstrations, naming both, if they are of another environment.

    ``masks``: the environment declares action masks. As with weights that are taken over, bounds and names may differ:
    whether each action is within the environment's own bounds is checked with the actions.
    """
    own = make_spec(space_to_proto(adapter.inner_observation_space), space_to_proto(adapter.inner_action_space))
    for name, theirs, ours in (
        ("observations", form_of(file.spec.observation_space), form_of(own.observation_space)),
        ("actions", form_of(file.spec.action_space), form_of(own.action_space)),
    ):
        if theirs != ours:
            rule = f"its {name} are {theirs[:_LONGEST]}, and the environment's are {ours[:_LONGEST]}"
            raise InvalidDemonstrations(rule)
    if masks and not file.spec.action_masks:
        raise InvalidDemonstrations(
            "the environment declares action masks, and it was recorded without: record it again from this environment"
        )


def check_memory_of_rows(
    file: DemonstrationFile,
    adapter: SpaceAdapter,
    algorithm: Algorithm,
    hyperparameters: Hyperparameters,
    environments: int,
    bound: int,
) -> None:
    """Raises InvalidDemonstrations if the run and all rows need more memory than ``bound`` bytes."""
    observation, action = size_of(adapter.observation_space), size_of(adapter.action_space)
    run = memory_need(algorithm, hyperparameters, observation, action, environments).total
    stacked = observation.times(hyperparameters.frame_stack or 1)
    row = max(stacked.stored, _FLOAT * stacked.features if hyperparameters.normalize is not None else 0)
    copied = _copied(adapter.inner_observation_space, adapter.observation_space)
    rows = file.bytes_needed + file.rows * (row + copied + action.stored + _OTHER)
    if run + rows > bound:
        raise InvalidDemonstrations(
            f"its {file.rows:,} rows need {rows:,} bytes of memory and the run {run:,}, and the trainer may take "
            f"{bound:,} (TRAINER_MEMORY_BYTES): record fewer episodes, or use another file"
        )


def _copied(inner: Space, outer: Space) -> int:
    """Bytes of one recorded observation in the form that SB3 takes; 0 where it is the array that was read."""
    if isinstance(inner, spaces.Dict) and isinstance(outer, spaces.Dict):
        return sum(_copied(each, outer[key]) for key, each in inner.spaces.items())
    is_same = inner.dtype == outer.dtype and not isinstance(inner, spaces.Discrete)
    return 0 if is_same else size_of(outer).stored


def own_spec(file: DemonstrationFile, adapter: SpaceAdapter) -> Spec:
    """The spec of the file's rows with the bounds of the environment."""
    return make_spec(
        space_to_proto(adapter.inner_observation_space),
        space_to_proto(adapter.inner_action_space),
        action_masks=file.spec.action_masks,
    )
