"""Checks of the parameters that a simulator declares: values in their range are taken, others refused in band.

For simulators that declare some.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from google.protobuf.struct_pb2 import Struct

from aisandbox_environment.compliance.checks import SimulatorUnderTest
from aisandbox_environment.compliance.reset import STEPS, check_same, seeds_of
from aisandbox_environment.compliance.streams import RawSession, step_request
from aisandbox_environment.parameters import (
    Parameter,
    ParameterValue,
    default_values,
    read_parameters,
    to_struct,
)

_TAKEN = "Take every value in the range that the spec declares, of a reset and of a step."
_REFUSED = "Check parameters first, and answer with SimulatorReply.error."


def parameters_are_taken(simulator: SimulatorUnderTest) -> str:
    """The ends of each range are taken at a reset and along with a step; the defaults are those without parameters."""
    parameters = read_parameters(simulator.spec.parameters, "spec.parameters")
    n = simulator.available(2)
    with RawSession(simulator, n) as session:
        actions, expected = session.record(seeds_of(n), STEPS)
    with RawSession(simulator, n) as session:
        reset = _reset(seeds_of(n), default_values(parameters))
        replies: list[object] = [session.expect_reply(reset, "reset").reset]
        replies.extend(session.step(action) for action in actions)
        check_same(expected, replies, "the defaults to give the episodes that no parameters give", _TAKEN)
        for parameter in parameters:
            for value in _ends(parameter):
                reset = _reset(seeds_of(n), {parameter.name: value})
                session.expect_reply(reset, "reset")
                step = step_request(actions[0])
                step.step.next_parameters[0].CopyFrom(to_struct({parameter.name: value}))
                session.expect_reply(step, "step")
    return ", ".join(parameter.name for parameter in parameters)


def wrong_parameters_are_refused(simulator: SimulatorUnderTest) -> str:
    """A parameter that is not declared, or out of its range, is refused in band, and the session goes on."""
    parameters = read_parameters(simulator.spec.parameters, "spec.parameters")
    tried = []
    with RawSession(simulator, simulator.available(1)) as session:
        session.reset()
        action = session.sample(np.random.default_rng(0))
        for name, values in values_to_refuse(parameters):
            struct = Struct()
            struct.update(dict(values))
            reset = pb.SimulatorRequest(reset=pb.ResetRequest(parameters=struct))
            advice = f"This was {name}. {_REFUSED}"
            session.expect_error(reset, pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, advice)
            step = step_request(action)
            step.step.next_parameters[0].CopyFrom(struct)
            session.expect_error(step, pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, advice)
            tried.append(name)
        session.step(action)
    return f"refused: {', '.join(tried)}"


def _reset(seeds: list[int], values: dict[str, ParameterValue]) -> pb.SimulatorRequest:
    return pb.SimulatorRequest(reset=pb.ResetRequest(seeds=seeds, parameters=to_struct(values)))


def _ends(parameter: Parameter) -> list[ParameterValue]:
    """The values at the ends of its range; of a text those to choose from."""
    if isinstance(parameter.default, bool):
        return [True, False]
    if isinstance(parameter.default, str):
        return list(parameter.choices) or [parameter.default]
    return [parameter.default if end is None else end for end in (parameter.minimum, parameter.maximum)]


def values_to_refuse(parameters: Sequence[Parameter]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Values that must be refused, each with its name."""
    unknown = "unknown"
    while unknown in [parameter.name for parameter in parameters]:
        unknown += "_"
    yield "an unknown parameter", {unknown: 1}
    for parameter in parameters:
        yield f"a list for {parameter.name}", {parameter.name: [1]}
        if isinstance(parameter.default, bool | str):
            yield f"a number for {parameter.name}", {parameter.name: 1}
            continue
        for side, bound, sign in (("above", parameter.maximum, 1), ("below", parameter.minimum, -1)):
            if bound is not None and math.isfinite(beyond := bound + sign * _beyond(bound)):
                yield f"{parameter.name} {side} its range", {parameter.name: beyond}
        if parameter.whole:
            yield f"a fraction for {parameter.name}", {parameter.name: float(parameter.default) + 0.5}


def _beyond(bound: float) -> float:
    """What leads out of a range, whatever the precision of the number there."""
    return max(1.0, abs(bound))


CHECKS = {
    "declared parameters are taken": parameters_are_taken,
    "wrong parameters are refused in band": wrong_parameters_are_refused,
}
