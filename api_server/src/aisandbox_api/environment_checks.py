"""Checks of the environment that a start names: what is known of it before a trainer makes it.

Must not know backends or grpc.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from functools import cache

import structlog
from aisandbox_crds import (
    FieldError,
    GrpcEnvironment,
    GymnasiumEnvironment,
    PoolEnvironment,
    TrainingRunSpec,
    known_environments,
    parse_hyperparameters,
)
from aisandbox_environment import (
    AdapterSimulation,
    FakeExternalEnvAdapter,
    InvalidOptions,
    Spec,
)

from aisandbox_api.declaration_checks import Source, check_declaration
from aisandbox_api.errors import InvalidRequest
from aisandbox_api.simulator_checks import check_simulators

log = structlog.get_logger()

_GYMNASIUM = "environment.gymnasium.id"
_FAKE = Source("environment.fake", "the built-in environment")

PoolSpec = Callable[[str], Awaitable[Spec | None]]
"""What the simulators of a pool declare; None if none is attached."""


async def _no_pools(_name: str) -> None:
    """Where no simulator is attached."""


async def check_environment(spec: TrainingRunSpec, pool_spec: PoolSpec = _no_pools) -> Spec | None:
    """What a run's environment declares, checked; None if that is not known within some seconds.

    Raises InvalidRequest, FailedPrecondition.
    """
    environment = spec.environment
    if isinstance(environment, GrpcEnvironment):
        return await check_simulators(spec, environment)
    if isinstance(environment, GymnasiumEnvironment):
        return await asyncio.to_thread(check_gymnasium, spec, environment)
    if isinstance(environment, PoolEnvironment):
        return await check_pool(spec, environment, pool_spec)
    _check_known(spec, _FAKE, _fake_spec())
    return _fake_spec()


async def check_pool(spec: TrainingRunSpec, pool: PoolEnvironment, pool_spec: PoolSpec) -> Spec | None:
    """Checks what the simulators declare that are attached now; options may change it. Raises InvalidRequest.

    The trainer checks the same with the first simulator that it takes.
    """
    declared = None if pool.options else await pool_spec(pool.name)
    if declared is not None:
        _check_known(spec, Source("environment.pool.name", f"pool {pool.name!r}"), declared)
    return declared


@cache
def _fake_spec() -> Spec:
    return AdapterSimulation(FakeExternalEnvAdapter).spec


def _check_known(spec: TrainingRunSpec, source: Source, declared: Spec) -> None:
    """As check_declaration, where the request says how many environments there are at least."""
    hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)
    check_declaration(spec, hyperparameters, source, known_environments(spec, hyperparameters) or 1, declared)


def check_gymnasium(spec: TrainingRunSpec, environment: GymnasiumEnvironment) -> Spec | None:
    """Checks the spaces of an environment of Gymnasium's own, where Gymnasium is installed. Blocking.

    The code of others is not run in this process: the trainer makes such an environment, and checks the same before its
    first step. Raises InvalidRequest.
    """
    if importlib.util.find_spec("gymnasium") is None:
        return None
    from aisandbox_environment import builtin_spec  # imports Gymnasium

    try:
        found = builtin_spec(environment.id, environment.kwargs)
    except InvalidOptions as error:
        raise InvalidRequest([FieldError("environment.gymnasium.kwargs", str(error))]) from error
    except Exception as error:  # the trainer says what it is
        log.info("environment was not made to check its spaces", environment=environment.id, error=str(error))
        return None
    if found is None:
        return None
    _check_known(spec, Source(_GYMNASIUM, environment.id), found)
    return found
