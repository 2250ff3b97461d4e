"""The spec of an environment, checked: what the values of a session must look like.

Must not know gRPC or who uses it: client, server and compliance suite share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_wire import (
    MOST_SPACE_ELEMENTS,
    NO_BOUND,
    Array,
    InvalidSpace,
    InvalidValue,
    Leaf,
    MaskLayout,
    distinct_bounds,
    leaves,
)

from aisandbox_environment.parameters import Parameter, checked_parameters, read_parameters

NO_ACTION_BOUNDS = (
    f"an action space must have finite bounds, each of a magnitude under {NO_BOUND:g} (float.MaxValue counts as no "
    "bound): actions are scaled to them"
)
PROTOCOL_VERSION = 1
"""The version of environment.proto that this package speaks."""
LONGEST_REPLY_TIMEOUT_SECONDS = 86_400.0
"""The most that a simulator may ask for in OpenReply.reply_timeout_seconds."""
_SHOWN, _LONGEST_LIST = 32, 500


@dataclass(frozen=True, slots=True)
class Spec:
    """What one environment observes and can do; see EnvironmentSpec in environment.proto. :func:`make_spec` makes one.

    ``observation_leaves``: the leaves of the observation space in the order in which they travel; ``action_leaf``: the
    action space. ``mask_width``: the number of bytes of one row of action masks, 0 without masks.
    ``max_episode_steps``: after how many steps an episode is truncated, 0 without a limit. ``metrics``: the names of
    the numbers an episode may end with. ``seconds_per_step``: how many seconds of the simulated world a step is, 0 if
    that is not known. ``parameters``: what a client may choose for episodes.
    """

    observation_space: tensor_pb2.Space
    action_space: tensor_pb2.Space
    observation_leaves: tuple[Leaf, ...]
    action_leaf: Leaf
    mask_width: int = 0
    max_episode_steps: int = 0
    metrics: tuple[str, ...] = ()
    seconds_per_step: float = 0.0
    parameters: tuple[Parameter, ...] = ()

    @property
    def action_masks(self) -> bool:
        """Whether replies carry action masks."""
        return self.mask_width > 0

    @property
    def mask_layout(self) -> MaskLayout:
        """What one row of action masks looks like; without masks it is empty."""
        return MaskLayout.of(self.action_leaf) if self.action_masks else MaskLayout(())

    def to_proto(self) -> pb.EnvironmentSpec:
        """The form on the wire: the inverse of :func:`read_spec`."""
        return pb.EnvironmentSpec(
            observation_space=self.observation_space,
            action_space=self.action_space,
            action_masks=self.action_masks,
            max_episode_steps=self.max_episode_steps,
            metrics=self.metrics,
            seconds_per_step=self.seconds_per_step,
            parameters=[parameter.to_proto() for parameter in self.parameters],
        )


def make_spec(
    observation_space: tensor_pb2.Space,
    action_space: tensor_pb2.Space,
    *,
    action_masks: bool = False,
    max_episode_steps: int = 0,
    metrics: Sequence[str] = (),
    seconds_per_step: float = 0.0,
    parameters: Sequence[Parameter] = (),
) -> Spec:
    """A spec of these spaces; see EnvironmentSpec in environment.proto. Raises InvalidSpace if it breaks a rule."""
    return read_spec(
        pb.EnvironmentSpec(
            observation_space=observation_space,
            action_space=action_space,
            action_masks=action_masks,
            max_episode_steps=max_episode_steps,
            metrics=metrics,
            seconds_per_step=seconds_per_step,
            parameters=[parameter.to_proto() for parameter in checked_parameters(parameters)],
        )
    )


def read_spec(proto: pb.EnvironmentSpec, field: str = "spec") -> Spec:
    """The spec of a message. Raises InvalidSpace, naming the field, if it breaks a rule."""
    action_field = f"{field}.action_space"
    if proto.action_space.WhichOneof("kind") == "dict":
        raise InvalidSpace(action_field, "is a Dict; an action space is Box, Discrete, MultiDiscrete or MultiBinary")
    (action_leaf,) = leaves(proto.action_space, action_field)
    if not action_leaf.bounded:
        raise InvalidSpace(f"{action_field}.box", NO_ACTION_BOUNDS)
    mask_width = 0
    if proto.action_masks:
        mask_width = MaskLayout.of(action_leaf).width
        if not mask_width:
            raise InvalidSpace(
                f"{field}.action_masks", "only Discrete, MultiDiscrete and MultiBinary actions have masks"
            )
        if mask_width > MOST_SPACE_ELEMENTS:
            rule = f"a row of masks would have {mask_width:,} bytes; at most {MOST_SPACE_ELEMENTS:,}"
            raise InvalidSpace(f"{field}.action_masks", rule)
    if not 0 <= proto.seconds_per_step < math.inf:
        raise InvalidSpace(
            f"{field}.seconds_per_step", f"must be finite and not negative, got {proto.seconds_per_step}"
        )
    return Spec(
        observation_space=proto.observation_space,
        action_space=proto.action_space,
        observation_leaves=leaves(proto.observation_space, f"{field}.observation_space"),
        action_leaf=action_leaf,
        mask_width=mask_width,
        max_episode_steps=proto.max_episode_steps,
        metrics=tuple(proto.metrics),
        seconds_per_step=proto.seconds_per_step,
        parameters=read_parameters(proto.parameters, f"{field}.parameters"),
    )


def check_reply_timeout(seconds: float, field: str) -> float:
    """Returns ``seconds`` if OpenReply.reply_timeout_seconds may be that. Raises InvalidValue, naming the field."""
    if not 0 <= seconds <= LONGEST_REPLY_TIMEOUT_SECONDS:
        raise InvalidValue(field, f"must be from 0 to {LONGEST_REPLY_TIMEOUT_SECONDS:g}, got {seconds:g}")
    return seconds


def difference_of(first: Spec, other: Spec) -> str:
    """What ``other`` declares otherwise than ``first``, in words; empty if a run may use both.

    Those are the spaces, the masks and the parameters, without their descriptions.
    """
    differences = []
    for name in ("observation_space", "action_space"):
        one, another = getattr(first, name), getattr(other, name)
        if one != another:
            differences.append(f"{name}: {_difference_of_leaves(leaves(one, name), leaves(another, name))}")
    if first.action_masks != other.action_masks:
        with_masks = "the other" if other.action_masks else "the first"
        differences.append(f"action_masks: only {with_masks} has them")
    if parameters := _difference_of_parameters(first.parameters, other.parameters):
        differences.append(f"parameters: {parameters}")
    return "; ".join(differences)


def _difference_of_parameters(first: Sequence[Parameter], other: Sequence[Parameter]) -> str:
    """The first parameter that differs; their order counts, which decides the draws of lessons."""
    names, others = [each.name for each in first], [each.name for each in other]
    if names != others:
        return f"{_first(others)}, not {_first(names)}"
    for one, another in zip(first, other, strict=True):
        if replace(one, description="") != replace(another, description=""):
            return f"{one.name!r} has another default, range, kind or choice of values"
    return ""


def _difference_of_leaves(first: Sequence[Leaf], other: Sequence[Leaf]) -> str:
    """The first leaf that differs."""
    if [leaf.key for leaf in first] != [leaf.key for leaf in other]:
        return f"{_form(other)}, not {_form(first)}"
    for one, another in zip(first, other, strict=True):
        words, other_words = _words(one), _words(another)
        if words != other_words:
            return f"{f'{one.key!r} is ' if one.key else ''}{other_words}, not {words}"
    return "the same numbers with other names or bounds"


def _form(found: Sequence[Leaf]) -> str:
    """The keys of a Dict, in order, or the one leaf."""
    return f"a Dict of {_first([leaf.key for leaf in found])}" if found[0].key else _words(found[0])


def _words(leaf: Leaf) -> str:
    shape = list(leaf.shape)
    if leaf.kind == "discrete":
        return f"Discrete with {leaf.n} values from {leaf.start}"
    if leaf.kind == "multi_discrete":
        return f"MultiDiscrete {[] if leaf.nvec is None else _first(leaf.nvec.tolist())}"
    if leaf.kind == "multi_binary":
        return f"MultiBinary {shape}"
    bounds = "" if leaf.low is None or leaf.high is None else f" from {_extreme(leaf.low)} to {_extreme(leaf.high)}"
    return f"Box {leaf.dtype.name} {shape}{bounds}"


def _extreme(bounds: Array) -> str:
    """One number if all elements have it, else the first few."""
    numbers = list(dict.fromkeys(distinct_bounds(bounds).ravel().tolist()))
    return f"{numbers[0]:g}" if len(numbers) == 1 else f"{numbers[:4]}"


def _first(values: Sequence[Any]) -> str:
    """A list as a message shows it."""
    shown = repr(list(values[:_SHOWN]))[:_LONGEST_LIST]
    return shown if len(values) <= _SHOWN else f"{shown[:-1]}, ... {len(values):,} in all]"
