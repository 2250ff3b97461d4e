"""Whether a run fits what its environment declares: the spaces, the masks, the memory they take, the parameters.

Must not know how the declaration was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds import (
    FieldError,
    Hyperparameters,
    TrainingRunSpec,
    for_algorithm,
    parameter_errors,
    trained_algorithm,
)
from aisandbox_environment import Spec

from aisandbox_api.errors import InvalidRequest
from aisandbox_api.space_checks import choice_problem, hyperparameter_errors, memory_problem


@dataclass(frozen=True, slots=True)
class Source:
    """Who has declared it: the field of the request that names it, and words for it."""

    field: str
    words: str


def check_declaration(
    run: TrainingRunSpec, hyperparameters: Hyperparameters, source: Source, environments: int, declared: Spec
) -> None:
    """Raises InvalidRequest where the run does not fit; ``environments``: how many are stepped together."""
    if problem := choice_problem(run.algorithm, declared):
        raise InvalidRequest([FieldError(source.field, f"{source.words}: {problem}")])
    algorithm = trained_algorithm(run.algorithm, declared.action_masks)
    hyperparameters = for_algorithm(algorithm, hyperparameters)
    if errors := hyperparameter_errors(algorithm, hyperparameters, declared):
        where = f" (declared by {source.words})"
        raise InvalidRequest([FieldError(error.field, error.rule + where) for error in errors])
    if rule := memory_problem(algorithm, hyperparameters, environments, declared):
        raise InvalidRequest([FieldError(source.field, f"with the spaces of {source.words}, {rule}")])
    if errors := list(parameter_errors(run.lessons, declared.parameters, source.words)):
        raise InvalidRequest(errors)
