"""The files of a model in training, with what its environments say about spaces, frames and statistics.

Must not know where they are put.
"""

from __future__ import annotations

from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.environments.factory import env_of, space_adapter_of
from aisandbox_trainer.environments.frame_stack import stacked_space
from aisandbox_trainer.environments.stacked_names import with_stacked_names
from aisandbox_trainer.export.model_files import export_model


def policy_files(model: BaseAlgorithm, frame_stack: int | None) -> dict[str, bytes]:
    """The files of ``model`` as it is now. Raises what :func:`export_model` raises."""
    adapter = space_adapter_of(env_of(model))
    space = adapter.inner_observation_space
    if frame_stack is not None:
        space = with_stacked_names(stacked_space(space, frame_stack), space, frame_stack)
    return export_model(
        model,
        observation_space=space,
        action_space=adapter.inner_action_space,
        vec_normalize=model.get_vec_normalize_env(),
        frame_stack=frame_stack or 1,
        timesteps=model.num_timesteps,
    )
