"""Taking over what another run, or a file, has source into a new model.

Owns which parts are taken and the checks that they fit: nothing of the model is changed unless all of it does. Must not
know where the source is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from aisandbox_crds import TakenPart
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.checkpoints import replay_file
from aisandbox_trainer.checkpoints.rollback import truncate_stored_episodes
from aisandbox_trainer.checkpoints.weights import Weights, set_statistics
from aisandbox_trainer.errors import CannotStartFrom, UnusableFile
from aisandbox_trainer.training.model_signature import ModelSignature


@dataclass(frozen=True, slots=True)
class SourceModel:
    """What a source has. ``name`` is for errors; ``signature`` None: not known, as of a zip file of SB3."""

    name: str
    weights: Weights
    signature: ModelSignature | None = None
    replay_buffer: Path | None = None


def take_over(model: BaseAlgorithm, source: SourceModel, take: Collection[TakenPart]) -> None:
    """Sets the weights of ``model`` and what ``take`` names. Raises CannotStartFrom, naming what does not fit."""
    weights, signature, own_signature = source.weights, source.signature, ModelSignature.of(model)
    if signature is not None and (difference := signature.difference(own_signature)):
        raise CannotStartFrom(f"start_from: {source.name} does not fit: {difference}")
    own = model.get_parameters()
    if difference := _difference_of_shapes(weights.policy, own.pop("policy")):
        text = f"{source.name} does not fit: the networks are not the same; {difference}"
        if signature is not None and signature.policy != own_signature.policy:
            text += f"; its policy is {signature.policy}, and this run's is {own_signature.policy}"
        raise CannotStartFrom(f"start_from: {text}")
    if TakenPart.OPTIMIZER in take:
        _check_optimizers(source.name, model, weights.optimizers, own)
    try:
        if TakenPart.NORMALIZATION in take:
            _take_statistics(model, weights)
        if TakenPart.REPLAY_BUFFER in take:
            _take_replay_buffer(model, source.replay_buffer)
    except UnusableFile as error:
        raise CannotStartFrom(f"start_from.take: {source.name}: {error}") from error
    model.policy.load_state_dict(dict(weights.policy))
    for name, variable in _sb3_internals.variables_of(model).items():
        if (value := weights.variables.get(name)) is not None and _form(value) == _form(variable):
            with torch.no_grad():
                variable.copy_(value)
    if TakenPart.OPTIMIZER in take:
        model.set_parameters(dict(weights.optimizers), exact_match=False)


def _difference_of_shapes(theirs: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """The first parameter that differs; empty if none does."""
    for parameter in dict.fromkeys((*own, *theirs)):
        there, here = (
            f"the shape {_form(each[parameter])}" if parameter in each else "no such parameter"
            for each in (theirs, own)
        )
        if there != here:
            return f"{parameter} has {there} there, and {here} in this run (policy, policy_kwargs, frame_stack)"
    return ""


def _form(tensor: torch.Tensor) -> str:
    """The shape, and what keeps a tensor from being copied into dense floating-point numbers."""
    if tensor.is_nested or tensor.is_meta or tensor.layout is not torch.strided:
        return "of a tensor that is not dense"
    numbers = "" if tensor.is_floating_point() else f" of {tensor.dtype}"
    return f"{list(tensor.shape)}{numbers}"


def _check_optimizers(name: str, model: BaseAlgorithm, theirs: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """An optimizer takes any state of as many parameters, and fails at its first step if that is not its own."""
    if theirs.keys() != own.keys():
        text = f"{', '.join(sorted(theirs)) or 'none'}, and this run has {', '.join(sorted(own))}"
        raise CannotStartFrom(f"start_from.take: {name} has other optimizers: {text}")
    for key, state in own.items():
        parameters = [each for group in _optimizer(model, key).param_groups for each in group["params"]]
        try:
            fits = all(
                one.keys() == other.keys() and len(one["params"]) == len(other["params"])
                for one, other in zip(theirs[key]["param_groups"], state["param_groups"], strict=True)
            ) and all(
                _form(value) in ("[]", _form(parameters[index]))
                for index, values in theirs[key]["state"].items()
                for value in values.values()
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            fits = False
        if not fits:
            raise CannotStartFrom(f"start_from.take: {name} does not fit: its {key} is another one than this run's")


def _optimizer(model: BaseAlgorithm, name: str) -> torch.optim.Optimizer:
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part)
    optimizer: torch.optim.Optimizer = found
    return optimizer


def _take_statistics(model: BaseAlgorithm, weights: Weights) -> None:
    normalize = model.get_vec_normalize_env()
    if normalize is None or not weights.statistics:
        raise UnusableFile("it was trained without normalize, or by an earlier version")
    set_statistics(normalize, weights.statistics)


def _take_replay_buffer(model: BaseAlgorithm, path: Path | None) -> None:
    buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    if path is None or buffer is None:
        raise UnusableFile("it has no replay buffer")
    try:
        replay_file.take(buffer, path)
    except FileNotFoundError as error:
        raise UnusableFile("its replay buffer was deleted") from error
    truncate_stored_episodes(model)  # this run begins new episodes, in another world
