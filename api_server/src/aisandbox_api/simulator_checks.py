"""Checks of the simulators that a start names: they are asked what they are, within some seconds.

One that cannot be reached is no error: the run waits for it. Must not know the other kinds of environments.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from aisandbox.v1.environment_pb2 import DescribeResponse
from aisandbox_crds import (
    FieldError,
    GrpcEnvironment,
    TrainingRunSpec,
    effective_environments,
    parse_hyperparameters,
)
from aisandbox_environment import (
    LARGEST_SPEC,
    PermanentSimulatorError,
    RefusedRequest,
    SimulatorError,
    SimulatorSession,
    Spec,
    Timeouts,
    TransientSimulatorError,
    describe,
    difference_of,
    distribute_environments,
    expand_addresses,
    open_session_stream,
    read_spec,
    target_of,
)

from aisandbox_api.declaration_checks import Source, check_declaration
from aisandbox_api.errors import FailedPrecondition, InvalidRequest

log = structlog.get_logger()

DESCRIBE_SECONDS = 2.0
MOST_ADDRESSES = 16
"""How many of a run's simulators are checked; all of them are assumed to be alike."""

MOST_ASKED = 64
"""How many simulators are asked at a time, for all starts: each answer may be LARGEST_SPEC bytes."""
_TURNS = threading.Semaphore(MOST_ASKED)

_ADDRESS = "environment.grpc.address"
_OPTIONS = "environment.grpc.options"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a simulator says of itself. ``spec`` None: its spaces depend on options that it could not be asked about."""

    capacity: int
    spec: Spec | None


async def check_simulators(spec: TrainingRunSpec, environment: GrpcEnvironment) -> Spec | None:
    """Checks the first MOST_ADDRESSES simulators, if they answer in 2 s. Raises InvalidRequest, FailedPrecondition."""
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            addresses = await asyncio.to_thread(_resolve, environment.address)
    except TimeoutError:
        return None
    if not addresses:
        return None
    hyperparameters = parse_hyperparameters(spec.algorithm, spec.hyperparameters)
    count = max(effective_environments(spec, hyperparameters, len(addresses)), len(addresses))
    shares = list(zip(addresses, distribute_environments(count, len(addresses)), strict=True))[:MOST_ADDRESSES]
    replies = await _ask_all([address for address, _ in shares], environment.options)
    for (address, share), answer in zip(shares, replies, strict=True):
        if answer is not None:
            _check_capacity(address, share, answer)
            if answer.spec is not None:
                source = Source(_ADDRESS, f"the simulator at {address}")
                check_declaration(spec, hyperparameters, source, count, answer.spec)
    _check_alike([(address, answer.spec) for (address, _), answer in zip(shares, replies, strict=True) if answer])
    address, share = shares[0]
    if replies[0] is not None and spec.evaluation is not None:
        _check_evaluation(address, share, replies[0])
    return next((answer.spec for answer in replies if answer is not None and answer.spec is not None), None)


async def _ask_all(addresses: Sequence[str], options: Mapping[str, Any]) -> list[_Answer | None]:
    """What each says, None if it does not answer."""
    loop = asyncio.get_running_loop()
    # Threads of their own: writing a record must not queue behind simulators that do not answer.
    threads = ThreadPoolExecutor(len(addresses), thread_name_prefix="describe")
    try:
        asked = (loop.run_in_executor(threads, _ask_in_turn, address, options) for address in addresses)
        return await asyncio.gather(*asked)
    finally:
        threads.shutdown(wait=False)


def _ask_in_turn(address: str, options: Mapping[str, Any]) -> _Answer | None:
    """As :func:`_ask`; a simulator whose turn does not come in time is not asked, as one that does not answer."""
    began = time.monotonic()
    if not _TURNS.acquire(timeout=DESCRIBE_SECONDS):
        log.info("simulator was not asked: too many starts at a time", address=address)
        return None
    try:
        return _ask(address, options, began)
    finally:
        _TURNS.release()


def _ask(address: str, options: Mapping[str, Any], began: float) -> _Answer | None:
    try:
        described = describe(address, max(0.1, DESCRIBE_SECONDS - (time.monotonic() - began)))
        spec = read_spec(described.spec)
        if options:
            left = DESCRIBE_SECONDS - (time.monotonic() - began)
            spec_with_options = _open(address, options, described, left)
            return _Answer(described.capacity, spec_with_options)
        return _Answer(described.capacity, spec)
    except TransientSimulatorError as error:
        log.info("simulator does not answer yet", address=address, error=str(error))
        return None
    except PermanentSimulatorError as error:
        raise FailedPrecondition(type(error).__name__, address, f"{_ADDRESS}: {error}") from error


def _open(address: str, options: Mapping[str, Any], described: DescribeResponse, seconds: float) -> Spec | None:
    """The spec of a session with ``options``, which is closed at once; None if the simulator cannot be asked now.

    Only a session tells whether the simulator knows its options and which spaces it has with them. A simulator that is
    in use is not asked: it may have no environment to spare. Raises InvalidRequest for options that it refuses.
    """
    if seconds <= 0 or (described.capacity and described.in_use >= described.capacity):
        return None
    timeouts = Timeouts(connect=seconds, close=seconds)
    try:
        session = SimulatorSession.connect(
            address, 1, options, timeouts=timeouts, stream=partial(open_session_stream, largest_reply=LARGEST_SPEC)
        )
    except RefusedRequest as error:
        raise InvalidRequest(
            [FieldError(_OPTIONS, f"the simulator at {address} refuses them: {error.message}")]
        ) from error
    except SimulatorError as error:
        log.info("simulator was not opened to check its options", address=address, error=str(error))
        return None
    session.close()
    return session.spec


def _resolve(address: str) -> list[str]:
    try:
        addresses = expand_addresses(address)
        for each in addresses:
            target_of(each)  # the networks that are allowed
        return addresses
    except TransientSimulatorError as error:
        log.info("address of the simulators does not resolve yet", address=address, error=str(error))
        return []
    except PermanentSimulatorError as error:
        raise InvalidRequest([FieldError(_ADDRESS, error.message)]) from error


def _check_capacity(address: str, share: int, answer: _Answer) -> None:
    if answer.capacity and share > answer.capacity:
        rule = (
            f"the simulator at {address} has a capacity of {answer.capacity} environments, {share} are requested of "
            "it: request fewer, or add addresses"
        )
        raise InvalidRequest([FieldError("environment.grpc.environments", rule)])


def _check_alike(answers: Iterable[tuple[str, Spec | None]]) -> None:
    """All simulators of a run have the same spaces; one that could not be asked is left to the trainer."""
    known = [(address, spec) for address, spec in answers if spec is not None]
    for address, spec in known[1:]:
        first, reference = known[0]
        if difference := difference_of(reference, spec):
            rule = (
                f"the simulator at {address} has other spaces or parameters than the simulator at {first}: {difference}"
            )
            raise InvalidRequest([FieldError(_ADDRESS, rule)])


def _check_evaluation(address: str, share: int, answer: _Answer) -> None:
    """Evaluation takes one more environment, at the first address, while those of training stay open."""
    if answer.capacity and share + 1 > answer.capacity:
        rule = (
            f"takes one more environment, and the simulator at {address} carries {answer.capacity}, all of them for "
            "training: leave evaluation out (the best model is then chosen by the returns of training), ask for fewer "
            "environments, or let the simulator carry more"
        )
        raise InvalidRequest([FieldError("evaluation", rule)])
