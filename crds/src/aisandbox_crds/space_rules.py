"""Which hyperparameters fit which spaces, as far as it can be told without PyTorch.

A start call refuses with these rules what a simulator's description rules out, and the trainer what it finds later.
Owns the sentences. Must not know how a space is transmitted or which class trains: spaces come as plain descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aisandbox_crds.algorithms import ALGORITHMS, algorithms_with, trained_algorithm
from aisandbox_crds.errors import FieldError
from aisandbox_crds.hyperparameters import Hyperparameters, fixed_columns_keyword
from aisandbox_crds.parameter_values import ClassName, Normalize
from aisandbox_crds.policy_kwargs import OBSERVED_DICT, OBSERVED_IMAGES, OBSERVED_VECTORS, POLICIES
from aisandbox_crds.spec import Algorithm

SMALLEST_IMAGE = 36
"""Pixels of a side that the networks for images need at least."""

_MOST_SHOWN = 8
_KINDS = {"box": "Box", "discrete": "Discrete", "multi_discrete": "MultiDiscrete", "multi_binary": "MultiBinary"}


@dataclass(frozen=True, slots=True)
class DeclaredLeaf:
    """One Box, Discrete, MultiDiscrete or MultiBinary that a simulator declares.

    ``key`` is that of its entry in a Dict, or "". ``kind`` is one of box, discrete, multi_discrete and multi_binary.
    ``dtype``: as in tensor.proto, "float32". ``has_pixel_bounds``: every element is from 0 to 255.
    """

    key: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    has_pixel_bounds: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether it has the form of an image: height x width x channels of pixels, of any size."""
        return self.kind == "box" and self.dtype == "uint8" and self.has_pixel_bounds and len(self.shape) == 3

    @property
    def is_image(self) -> bool:
        """Whether it is a picture that is large enough for a network for images; the channels are first or last."""
        if not self.is_picture:
            return False
        sides = self.shape[1:] if self.shape[0] == min(self.shape) else self.shape[:2]
        return min(sides) >= SMALLEST_IMAGE

    def __str__(self) -> str:
        kind = _KINDS[self.kind]
        return f"{kind} of {self.dtype} {list(self.shape)}" if self.kind == "box" else kind


@dataclass(frozen=True, slots=True)
class DeclaredSpace:
    """The space of observations or actions: the entries of a Dict, or one leaf."""

    leaves: tuple[DeclaredLeaf, ...]
    is_dict: bool

    def __str__(self) -> str:
        if not self.is_dict:
            return f"a {self.leaves[0]}"
        shown = ", ".join(f"{leaf.key[:50]!r}: {leaf}" for leaf in self.leaves[:_MOST_SHOWN])
        return f"a Dict of {shown}{', ...' if len(self.leaves) > _MOST_SHOWN else ''}"


def space_errors(
    algorithm: Algorithm, hyperparameters: Hyperparameters, observations: DeclaredSpace, actions: DeclaredSpace
) -> Iterator[FieldError]:
    """What of the hyperparameters does not fit the spaces; every rule says what was declared and what works."""
    for field, rule in (
        ("policy", policy_problem(algorithm, hyperparameters.policy, observations)),
        ("policy_kwargs.features_extractor_class", _extractor_problem(hyperparameters, observations)),
        (
            "normalize",
            _replayed_choice_problem(algorithm, hyperparameters, observations)
            or normalize_problem(hyperparameters, observations),
        ),
        ("frame_stack", _frame_stack_problem(hyperparameters, observations)),
        ("use_sde", _exploration_problem(hyperparameters, actions)),
        *_replay_problems(algorithm, hyperparameters, observations),
    ):
        if rule:
            yield FieldError(f"hyperparameters.{field}", rule)


def actions_problem(algorithm: Algorithm, actions: DeclaredSpace) -> str:
    """Why the algorithm cannot choose from the actions; empty if it can."""
    if actions.is_dict:
        return "a Dict cannot be an action space; declare Box, Discrete, MultiDiscrete or MultiBinary actions"
    leaf = actions.leaves[0]
    taken = ALGORITHMS[algorithm].actions
    if leaf.kind not in taken:
        others = _alternatives(leaf.kind)
        words = " or ".join("discrete" if kind == "discrete" else _KINDS[kind] for kind in taken)
        names = " or ".join(_KINDS[kind] for kind in taken)
        return (
            f"{algorithm} takes only {words} actions, and they are a {leaf}; use {others}, or declare {names} actions"
        )
    if leaf.kind == "box" and not leaf.dtype.startswith("float"):
        return (
            f"Box actions are floating-point numbers, and they are a {leaf}; declare float32, or MultiDiscrete actions"
        )
    return ""


def masks_problem(algorithm: Algorithm, masks: bool) -> str:
    """Why the algorithm cannot train where action masks are declared, or (``masks`` False) are not; empty if it can."""
    if ALGORITHMS[trained_algorithm(algorithm, masks)].masks == masks:
        return ""
    able = [each for each in Algorithm if ALGORITHMS[trained_algorithm(each, masks)].masks == masks]
    if masks:
        return (
            f"{algorithm} cannot obey action masks, and they are declared; use {' or '.join(able)}, or declare no "
            "masks and accept every action"
        )
    asked = [each for each, traits in ALGORITHMS.items() if traits.with_masks is algorithm]
    return (
        f"{algorithm} needs action masks, and none are declared; use {' or '.join(asked)}, or declare masks (in "
        "Gymnasium, by a method action_masks)"
    )


def _alternatives(action_or_observed: str) -> str:
    """The algorithms that take it, as a list in words."""
    *others, last = map(str, algorithms_with(action_or_observed))
    return f"{', '.join(others)} or {last}" if others else last


def fitting_policy(algorithm: Algorithm, observations: DeclaredSpace) -> str | None:
    """The algorithm's policy for the observations; None if it has none."""
    return ALGORITHMS[algorithm].policies.get(_observed_kind(observations))


def policy_problem(algorithm: Algorithm, given: str | None, observations: DeclaredSpace) -> str:
    """Why no policy of the algorithm, or not the given one, fits the observations; empty if it does."""
    policies, kind = ALGORITHMS[algorithm].policies, _observed_kind(observations)
    fitting = policies.get(kind)
    if fitting is None:
        return (
            f"{algorithm} has only {' and '.join(policies.values())}, and the observations, {observations}, need "
            f"{POLICIES[kind]}; use {_alternatives(kind)}"
        )
    if given is None or given == fitting:
        return ""
    needed = {policy: observed for observed, policy in policies.items()}.get(given, "other observations")
    if needed == OBSERVED_IMAGES:
        needed += f" (a Box of uint8, 0 to 255, height x width x channels, at least {SMALLEST_IMAGE} pixels a side)"
    return (
        f"{given} needs {needed}, and the observations are {observations}; use {fitting}, or omit policy to choose it "
        "automatically"
    )


def _observed_kind(observations: DeclaredSpace) -> str:
    if observations.is_dict:
        return OBSERVED_DICT
    return OBSERVED_IMAGES if observations.leaves[0].is_image else OBSERVED_VECTORS


def normalize_problem(hyperparameters: Hyperparameters, observations: DeclaredSpace) -> str:
    """Why the observations cannot be normalised as asked; empty if they can.

    Of a Dict, the Box entries that are no pictures are normalised, unless ``norm_obs_keys`` names others.
    """
    normalize = hyperparameters.normalize
    if normalize is None or not normalize.norm_obs:
        return ""
    rewards_only = "normalise only rewards with normalize=dict(norm_obs=False)"
    scaled = bool(_policy_kwargs(hyperparameters).get("normalize_images", True))
    if not observations.is_dict:
        leaf = observations.leaves[0]
        if normalize.norm_obs_keys is not None:
            return f"norm_obs_keys names entries of a Dict, and the observations are a {leaf}; omit norm_obs_keys"
        if leaf.kind != "box":
            return f"only a Box can be normalised, and the observations are a {leaf}; {rewards_only}"
        if scaled and leaf.is_image:
            return f"the observations are images, which the policy scales itself; {rewards_only}"
        return ""
    if normalize.norm_obs_keys is None:
        return ""
    possible = [leaf.key for leaf in observations.leaves if leaf.kind == "box" and not (scaled and leaf.is_picture)]
    return _keys_problem(normalize, observations, possible, rewards_only)


def _keys_problem(normalize: Normalize, observations: DeclaredSpace, possible: list[str], rewards_only: str) -> str:
    leaves = {leaf.key: leaf for leaf in observations.leaves}
    works = f"norm_obs_keys can name {', '.join(map(repr, possible[:_MOST_SHOWN]))}" if possible else rewards_only
    for key in normalize.norm_obs_keys or ():
        if key not in leaves:
            return f"norm_obs_keys names {key!r}, which is not an entry of the observations, {observations}; {works}"
        if key not in possible:
            why = "is a picture, which the policy scales itself" if leaves[key].is_picture else f"is a {leaves[key]}"
            return f"norm_obs_keys names {key!r}, which {why}; {works}"
    return ""


def _extractor_problem(hyperparameters: Hyperparameters, observations: DeclaredSpace) -> str:
    given = _policy_kwargs(hyperparameters).get("features_extractor_class")
    if not isinstance(given, ClassName):
        return ""
    fits = {
        "CombinedExtractor": observations.is_dict,
        "NatureCNN": not observations.is_dict and observations.leaves[0].is_image,
        "FlattenExtractor": not observations.is_dict,
    }[given.name]
    return "" if fits else f"{given} does not take the observations, {observations}; omit it to choose it automatically"


def _frame_stack_problem(hyperparameters: Hyperparameters, observations: DeclaredSpace) -> str:
    if hyperparameters.frame_stack is None:
        return ""
    for leaf in observations.leaves:
        if leaf.kind != "box":
            what = f"entry {leaf.key[:50]!r} is" if observations.is_dict else "the observations are"
            return f"only a Box can be stacked, and {what} a {leaf}; omit frame_stack, or stack in the simulator"
    return ""


def _exploration_problem(hyperparameters: Hyperparameters, actions: DeclaredSpace) -> str:
    if not hyperparameters.keywords.get("use_sde"):
        return ""
    if actions.leaves[0].kind == "box":
        return ""
    return f"state-dependent exploration needs Box actions, and they are {actions}; omit use_sde"


def _replayed_choice_problem(
    algorithm: Algorithm, hyperparameters: Hyperparameters, observations: DeclaredSpace
) -> str:
    """stable-baselines3 takes the last observation of an episode for an array when it stores it, and it is a number."""
    if hyperparameters.normalize is None or not ALGORITHMS[algorithm].off_policy:
        return ""
    if observations.is_dict or observations.leaves[0].kind != "discrete":
        return ""
    return (
        f"cannot be combined with Discrete observations and the replay buffer of {algorithm}; omit normalize, or "
        "declare a MultiDiscrete of one element and normalise only rewards with normalize=dict(norm_obs=False)"
    )


def _replay_problems(
    algorithm: Algorithm, hyperparameters: Hyperparameters, observations: DeclaredSpace
) -> Iterator[tuple[str, str]]:
    """What a replay buffer cannot do with a Dict, by the hyperparameter that asks for it."""
    keyword = fixed_columns_keyword(algorithm, hyperparameters)
    if keyword and observations.is_dict:
        yield keyword, f"cannot be combined with a Dict, and the observations are {observations}; omit {keyword}"


def _policy_kwargs(hyperparameters: Hyperparameters) -> dict[str, object]:
    return dict(hyperparameters.keywords.get("policy_kwargs") or {})
