"""Specs that are made and read."""

from __future__ import annotations

import math

import pytest
from aisandbox_environment import Parameter, make_spec, read_spec
from aisandbox_environment.spec import difference_of
from aisandbox_wire import InvalidSpace, box, discrete, multi_discrete


def test_made_spec_is_the_one_that_is_read() -> None:
    spec = make_spec(
        box([2]),
        multi_discrete([2, 3]),
        action_masks=True,
        max_episode_steps=7,
        metrics=["goals", "distance"],
        seconds_per_step=0.02,
    )
    assert (spec.mask_width, spec.max_episode_steps, spec.metrics) == (5, 7, ("goals", "distance"))
    assert spec.seconds_per_step == 0.02
    assert spec.action_leaf.shape == (2,)
    assert read_spec(spec.to_proto()).to_proto() == spec.to_proto()


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_spec_of_a_wrong_time_of_a_step_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidSpace, match=r"spec\.seconds_per_step: must be finite and not negative"):
        make_spec(discrete(2), discrete(2), seconds_per_step=seconds)


def test_spec_of_an_unbounded_action_space_is_refused() -> None:
    with pytest.raises(InvalidSpace, match=r"spec\.action_space\.box: an action space must have finite bounds"):
        make_spec(discrete(2), box([1]))


@pytest.mark.parametrize(("low", "high"), [(-3.4028235e38, 3.4028235e38), (0.0, 1.7976931348623157e308), (-1e18, 0.0)])
def test_spec_of_action_bounds_that_mean_none_is_refused(low: float, high: float) -> None:
    actions = box([1])
    actions.box.low.append(low)
    actions.box.high.append(high)
    with pytest.raises(InvalidSpace, match=r"float\.MaxValue counts as no bound"):
        make_spec(discrete(2), actions)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ([Parameter("speed", 1.0, maximum=5.0, description="in m/s")], ""),
        ([Parameter("speed", 1.0, maximum=6.0)], "parameters: 'speed' has another default, range"),
        ([Parameter("pace", 1.0, maximum=5.0)], "parameters: ['pace'], not ['speed']"),
        ([], "parameters: [], not ['speed']"),
    ],
)
def test_specs_of_other_parameters_differ(parameters: list[Parameter], says: str) -> None:
    first = make_spec(discrete(2), discrete(2), parameters=[Parameter("speed", 1.0, maximum=5.0)])
    difference = difference_of(first, make_spec(discrete(2), discrete(2), parameters=parameters))
    assert difference.startswith(says)
    assert bool(difference) == bool(says)
