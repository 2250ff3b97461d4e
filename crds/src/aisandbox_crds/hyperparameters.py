"""The hyperparameters of a run: from a map of text to checked values.

Owns the rules between hyperparameters; the table is in :mod:`aisandbox_crds.hyperparameter_table`, the notation in
:mod:`aisandbox_crds.value_parser`. The start call uses the same function, where a mistake must surface,
and the trainer, which makes PyTorch's objects of the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from aisandbox_crds.algorithms import ALGORITHMS, has_parameter
from aisandbox_crds.errors import FieldError, InvalidParameter, InvalidRun, MalformedValue, short_repr
from aisandbox_crds.hyperparameter_table import PARAMETERS, REFUSED, parameters_of
from aisandbox_crds.parameter_values import ClassName, LinearSchedule, Normalize, Value
from aisandbox_crds.policy_kwargs import BATCH_NORM, DEPENDENT_KEYWORDS, QUANTILES, check_dependent
from aisandbox_crds.spec import MAX_HYPERPARAMETERS, Algorithm
from aisandbox_crds.value_parser import parse_value

__all__ = ["ClassName", "Hyperparameters", "LinearSchedule", "Normalize", "Value", "parse_hyperparameters"]

_FIELD = "hyperparameters"
DEFAULT_QUANTILES: Mapping[Algorithm, int] = {Algorithm.TQC: 25, Algorithm.QRDQN: 200}
"""SB3's: of a critic, or of an action."""


@dataclass(frozen=True, slots=True)
class ActionNoise:
    """Noise on the actions of a training: ``kind`` is one of NOISE_TYPES; ``std`` of actions from -1 to 1."""

    kind: str
    std: float


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The checked hyperparameters of a run, from which the trainer builds the algorithm.

    ``keywords`` are those of the SB3 class: the given ones and this project's defaults; SB3's hold for the rest.
    A schedule is a LinearSchedule or a number; ``policy_kwargs``, if there, is a dict whose classes are ClassNames.
    ``policy`` None: the one that fits the observation space. ``n_envs`` None: not given. ``frame_stack`` None: not
    given, or 1. ``noise`` None: actions get none.
    """

    policy: str | None
    normalize: Normalize | None
    n_envs: int | None
    frame_stack: int | None
    keywords: Mapping[str, Any]
    noise: ActionNoise | None = None


def parse_hyperparameters(algorithm: Algorithm, mapping: Mapping[str, str]) -> Hyperparameters:
    """Reads and checks a run's hyperparameters. Raises InvalidRun with every ``hyperparameters.KEY`` that is wrong."""
    if len(mapping) > MAX_HYPERPARAMETERS:
        raise InvalidRun([FieldError(_FIELD, f"has {len(mapping)} entries; at most {MAX_HYPERPARAMETERS}")])
    errors: list[FieldError] = []
    values = {key: _read(algorithm, key, text, errors) for key, text in mapping.items()}
    if errors:
        raise InvalidRun(errors)
    errors.extend(_noise_conflicts(values))
    result = _assemble(algorithm, values)
    errors.extend(_conflicts(algorithm, result))
    if errors:
        raise InvalidRun(errors)
    return result


def setting(algorithm: Algorithm, hyperparameters: Hyperparameters, name: str) -> Any:
    """The value that holds for a keyword of the algorithm's class, SB3's default included."""
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS[algorithm]}
    return hyperparameters.keywords.get(name, defaults[name])


def for_algorithm(algorithm: Algorithm, hyperparameters: Hyperparameters) -> Hyperparameters:
    """Those of another algorithm without the keywords that the class of ``algorithm``, or its policy, does not have."""
    keywords = {name: value for name, value in hyperparameters.keywords.items() if has_parameter(algorithm, name)}
    if given := keywords.get("policy_kwargs"):
        known = {*ALGORITHMS[algorithm].policy_keywords, *DEPENDENT_KEYWORDS}
        keywords["policy_kwargs"] = {name: value for name, value in given.items() if name in known}
    return replace(hyperparameters, keywords=keywords)


def batch_conflict(algorithm: Algorithm, hyperparameters: Hyperparameters, environments: int) -> FieldError | None:
    """Why advantages cannot be normalised with this many environments: the deviation of one number is not a number."""
    if not has_parameter(algorithm, "normalize_advantage"):
        return None
    if not setting(algorithm, hyperparameters, "normalize_advantage"):
        return None
    steps = setting(algorithm, hyperparameters, "n_steps") * environments
    if steps > 1:
        return None
    rule = f"n_steps times the number of environments ({environments}) must be at least 2 to normalise advantages"
    return FieldError(f"{_FIELD}.n_steps", rule)


def frequency_conflict(algorithm: Algorithm, hyperparameters: Hyperparameters, environments: int) -> FieldError | None:
    """Why an off-policy algorithm cannot train every few episodes with this many environments."""
    if not ALGORITHMS[algorithm].off_policy or environments == 1:
        return None
    if not isinstance(setting(algorithm, hyperparameters, "train_freq"), tuple):
        return None
    if setting(algorithm, hyperparameters, "train_freq")[1] == "step":
        return None
    return FieldError(
        f"{_FIELD}.train_freq", f"counts episodes, which needs exactly one environment, got {environments}"
    )


def buffer_conflict(algorithm: Algorithm, hyperparameters: Hyperparameters, environments: int) -> FieldError | None:
    """Why a replay buffer that stores observations once is too small: of a full one, the newest step is not read."""
    if not ALGORITHMS[algorithm].off_policy or not setting(algorithm, hyperparameters, "optimize_memory_usage"):
        return None
    if setting(algorithm, hyperparameters, "buffer_size") >= 2 * environments:
        return None
    rule = f"must be at least twice the number of environments ({environments}) with optimize_memory_usage"
    return FieldError(f"{_FIELD}.buffer_size", rule)


def smallest_batch(algorithm: Algorithm, policy_kwargs: Mapping[str, Any]) -> int:
    """How many steps a minibatch has at least: batch normalisation divides by their deviation."""
    return 2 if BATCH_NORM in ALGORITHMS[algorithm].policy_keywords and policy_kwargs.get(BATCH_NORM, True) else 1


def fixed_columns_keyword(algorithm: Algorithm, hyperparameters: Hyperparameters) -> str:
    """The keyword by which a replay buffer reads steps of an environment one after the other, or "".

    Such a buffer cannot go on with another number of environments; every other one can.
    """
    if not ALGORITHMS[algorithm].off_policy:
        return ""

    def value(name: str) -> Any:
        return setting(algorithm, hyperparameters, name) if has_parameter(algorithm, name) else None

    if value("optimize_memory_usage"):
        return "optimize_memory_usage"
    return "n_steps" if (value("n_steps") or 1) > 1 else ""


def _read(algorithm: Algorithm, key: str, text: object, errors: list[FieldError]) -> Any:
    field = f"{_FIELD}.{key[:100]}"
    parameters = {parameter.name: parameter for parameter in parameters_of(algorithm)}
    if key in REFUSED:
        errors.append(FieldError(field, REFUSED[key]))
    elif key not in parameters:
        errors.append(FieldError(field, _unknown(algorithm, key, list(parameters))))
    elif not isinstance(text, str):
        errors.append(FieldError(field, f"must be text, got {short_repr(text)}"))
    else:
        expected = parameters[key].type
        try:
            return expected.check(parse_value(text))
        except MalformedValue as error:
            errors.append(FieldError(field, f"{error}; it must be {expected}"))
        except InvalidParameter as error:
            errors.append(FieldError(field + error.path, error.rule))
    return None


def _unknown(algorithm: Algorithm, key: str, known: list[str]) -> str:
    others = [other for other in Algorithm if key in {parameter.name for parameter in parameters_of(other)}]
    close = get_close_matches(key[:100], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; {' and '.join(others)} have it." if others else "."
    return f"unknown for {algorithm}{hint} Known: {', '.join(sorted(known))}"


def _assemble(algorithm: Algorithm, values: dict[str, Any]) -> Hyperparameters:
    policy = values.pop("policy", None)
    normalize = values.pop("normalize", False)
    n_envs = values.pop("n_envs", None)
    frame_stack = values.pop("frame_stack", None)
    noise = values.pop("noise_type", None), values.pop("noise_std", None)
    keywords = {parameter.name: parameter.default for parameter in PARAMETERS[algorithm] if parameter.custom} | values
    if normalize is not False:
        said = {} if normalize is True else normalize
        gamma = next(parameter.default for parameter in PARAMETERS[algorithm] if parameter.name == "gamma")
        normalize = Normalize(**{"gamma": keywords.get("gamma", gamma), **said})
    return Hyperparameters(
        policy=policy,
        normalize=normalize or None,
        n_envs=n_envs,
        frame_stack=frame_stack if frame_stack != 1 else None,
        keywords=keywords,
        noise=ActionNoise(*noise) if None not in noise else None,
    )


def _noise_conflicts(given: Mapping[str, object]) -> list[FieldError]:
    """Why noise_type and noise_std are given together."""
    pair = ("noise_type", "noise_std")
    return [
        FieldError(f"{_FIELD}.{key}", f"needs {other} beside it")
        for key, other in (pair, pair[::-1])
        if key in given and other not in given
    ]


def _conflicts(algorithm: Algorithm, parsed: Hyperparameters) -> list[FieldError]:
    errors: list[FieldError] = []

    def has(name: str) -> bool:
        return has_parameter(algorithm, name)

    def holds(name: str) -> Any:
        return setting(algorithm, parsed, name)

    def refuse(key: str, rule: str) -> None:
        errors.append(FieldError(f"{_FIELD}.{key}", rule))

    kwargs = parsed.keywords.get("policy_kwargs", {})
    policies = ALGORITHMS[algorithm].policies.values()
    if parsed.policy is not None and parsed.policy not in policies:
        refuse("policy", f"{algorithm} has only {' and '.join(policies)}")
    try:
        check_dependent(kwargs, parsed.policy, has("use_rms_prop") and holds("use_rms_prop"))
    except InvalidParameter as error:
        refuse("policy_kwargs" + error.path, error.rule)
    if has("normalize_advantage") and has("batch_size") and holds("normalize_advantage") and holds("batch_size") == 1:
        refuse("batch_size", "must be at least 2 to normalise advantages")
    if kwargs.get("shared_lstm") and kwargs.get("enable_critic_lstm", True):
        refuse("policy_kwargs.shared_lstm", "needs enable_critic_lstm to be False: the critic has one LSTM at most")
    if kwargs.get("shared_lstm") and not kwargs.get("share_features_extractor", True):
        refuse("policy_kwargs.shared_lstm", "needs share_features_extractor to be True")
    if kwargs.get("squash_output") and not (has("use_sde") and holds("use_sde")):
        refuse("policy_kwargs.squash_output", "needs use_sde to be True")
    if has("batch_size") and (holds("batch_size") or 1) < (fewest := smallest_batch(algorithm, kwargs)):
        refuse("batch_size", f"must be at least {fewest} for batch normalisation")
    if has("top_quantiles_to_drop_per_net"):
        quantiles = kwargs.get(QUANTILES, DEFAULT_QUANTILES[algorithm])
        if holds("top_quantiles_to_drop_per_net") >= quantiles:
            refuse("top_quantiles_to_drop_per_net", f"must be less than policy_kwargs.n_quantiles, {quantiles}")
    if has("exploration_final_eps") and holds("exploration_final_eps") > holds("exploration_initial_eps"):
        refuse(
            "exploration_final_eps", f"must be at most exploration_initial_eps, {holds('exploration_initial_eps'):g}"
        )
    if has("optimize_memory_usage") and holds("optimize_memory_usage"):
        if (holds("replay_buffer_kwargs") or {}).get("handle_timeout_termination", True):
            refuse("optimize_memory_usage", "needs replay_buffer_kwargs=dict(handle_timeout_termination=False)")
        if holds("n_steps") > 1:
            refuse("optimize_memory_usage", "cannot be combined with n_steps greater than 1")
    return errors
