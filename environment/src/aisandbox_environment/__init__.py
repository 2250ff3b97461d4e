"""Both ends of EnvironmentService in Python: what serves a simulation, and what trains against one.

To serve a simulation, write an environment as a class (:class:`ExternalEnvAdapter`)::

    from aisandbox_environment import AdapterSimulation, create_environment_server

    server = create_environment_server(AdapterSimulation(MyEnvironment), host="127.0.0.1", port=50061)
    server.start()
    server.wait()

or implement :class:`Simulation` to step all environments of a session together, with action masks, metrics and
options. :func:`attach` lets a simulation dial the service, where it cannot be dialled::

    attach(AdapterSimulation(MyEnvironment), "127.0.0.1:50051", "my-pool")

:func:`host_gymnasium` serves an environment of Gymnasium (extra ``gymnasium``). :func:`record_episodes` records
demonstrations (extra ``demonstrations``). :func:`check_simulator` checks
a simulator at an address. :class:`SimulatorSession` is the client.

The names in ``__all__`` are for others; the modules are internal. Each name is imported when it is first used, so that
this package costs nothing to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aisandbox_environment.adapter_host import AdapterFactory, AdapterSimulation, reset_adapter
    from aisandbox_environment.adapters import Action, ExternalEnvAdapter, FakeExternalEnvAdapter, Observation
    from aisandbox_environment.addresses import distribute_environments, expand_addresses
    from aisandbox_environment.attachment import Attachment, attach
    from aisandbox_environment.calls import LARGEST_SPEC, describe, list_simulators, open_session_stream
    from aisandbox_environment.channels import POOL_METADATA, RUN_METADATA
    from aisandbox_environment.compliance import CheckFailed, CheckResult, CheckSkipped, SpaceCheck, check_simulator
    from aisandbox_environment.demonstrations import (
        DemonstrationFile,
        Demonstrations,
        DemonstrationWriter,
        Episode,
        EpisodeRecording,
        Policy,
        RandomPolicy,
        WrittenFile,
        read_recordings,
        record_episodes,
        replay_episodes,
    )
    from aisandbox_environment.errors import (
        AtCapacity,
        AttachRefused,
        Busy,
        InvalidAddress,
        InvalidDemonstrationFile,
        InvalidOptions,
        InvalidRecording,
        InvalidReply,
        InvalidRequest,
        PermanentSimulatorError,
        ProtocolMismatch,
        RefusalError,
        RefusedRequest,
        SessionCancelled,
        SimulationFailed,
        SimulatorBusy,
        SimulatorError,
        SimulatorHung,
        SimulatorLost,
        SimulatorUnreachable,
        TransientSimulatorError,
    )
    from aisandbox_environment.grpc_adapter import GrpcExternalEnvAdapter
    from aisandbox_environment.gymnasium_host import (
        GymnasiumSimulation,
        builtin_spec,
        gymnasium_parameters,
        host_gymnasium,
    )
    from aisandbox_environment.parameters import Parameter, ParameterValue, default_values
    from aisandbox_environment.relay import Admit, Registration, RelayLimits, SimulatorRelay
    from aisandbox_environment.server import EnvironmentServer, create_environment_server
    from aisandbox_environment.session import EpisodeParameters, SimulatorSession, Timeouts
    from aisandbox_environment.simulation import (
        EpisodeMetrics,
        ParameterizedBatch,
        ResetResult,
        Simulation,
        SimulationBatch,
        StepResult,
    )
    from aisandbox_environment.spec import NO_ACTION_BOUNDS, PROTOCOL_VERSION, Spec, difference_of, make_spec, read_spec
    from aisandbox_environment.targets import DIAGNOSTICS, NETWORKS, simulator_networks, target_of
    from aisandbox_environment.watchdog import WatchdogTimer

_NAMES = {
    "adapter_host": ("AdapterFactory", "AdapterSimulation", "reset_adapter"),
    "adapters": ("Action", "ExternalEnvAdapter", "FakeExternalEnvAdapter", "Observation"),
    "attachment": ("Attachment", "attach"),
    "addresses": ("distribute_environments", "expand_addresses"),
    "calls": ("LARGEST_SPEC", "describe", "list_simulators", "open_session_stream"),
    "channels": ("POOL_METADATA", "RUN_METADATA"),
    "compliance": ("CheckFailed", "CheckResult", "CheckSkipped", "SpaceCheck", "check_simulator"),
    "demonstrations": (
        "DemonstrationFile",
        "DemonstrationWriter",
        "Demonstrations",
        "Episode",
        "EpisodeRecording",
        "Policy",
        "RandomPolicy",
        "WrittenFile",
        "read_recordings",
        "record_episodes",
        "replay_episodes",
    ),
    "errors": (
        "AtCapacity",
        "AttachRefused",
        "Busy",
        "InvalidAddress",
        "InvalidDemonstrationFile",
        "InvalidOptions",
        "InvalidRecording",
        "InvalidReply",
        "InvalidRequest",
        "PermanentSimulatorError",
        "ProtocolMismatch",
        "RefusalError",
        "RefusedRequest",
        "SessionCancelled",
        "SimulationFailed",
        "SimulatorBusy",
        "SimulatorError",
        "SimulatorHung",
        "SimulatorLost",
        "SimulatorUnreachable",
        "TransientSimulatorError",
    ),
    "grpc_adapter": ("GrpcExternalEnvAdapter",),
    "gymnasium_host": ("GymnasiumSimulation", "builtin_spec", "gymnasium_parameters", "host_gymnasium"),
    "parameters": ("Parameter", "ParameterValue", "default_values"),
    "relay": ("Admit", "Registration", "RelayLimits", "SimulatorRelay"),
    "server": ("EnvironmentServer", "create_environment_server"),
    "session": ("EpisodeParameters", "SimulatorSession", "Timeouts"),
    "simulation": (
        "EpisodeMetrics",
        "ParameterizedBatch",
        "ResetResult",
        "Simulation",
        "SimulationBatch",
        "StepResult",
    ),
    "spec": ("NO_ACTION_BOUNDS", "PROTOCOL_VERSION", "Spec", "difference_of", "make_spec", "read_spec"),
    "targets": ("DIAGNOSTICS", "NETWORKS", "simulator_networks", "target_of"),
    "watchdog": ("WatchdogTimer",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "DIAGNOSTICS",
    "LARGEST_SPEC",
    "NETWORKS",
    "NO_ACTION_BOUNDS",
    "POOL_METADATA",
    "PROTOCOL_VERSION",
    "RUN_METADATA",
    "Action",
    "AdapterFactory",
    "AdapterSimulation",
    "Admit",
    "AtCapacity",
    "AttachRefused",
    "Attachment",
    "Busy",
    "CheckFailed",
    "CheckResult",
    "CheckSkipped",
    "DemonstrationFile",
    "DemonstrationWriter",
    "Demonstrations",
    "EnvironmentServer",
    "Episode",
    "EpisodeMetrics",
    "EpisodeParameters",
    "EpisodeRecording",
    "ExternalEnvAdapter",
    "FakeExternalEnvAdapter",
    "GrpcExternalEnvAdapter",
    "GymnasiumSimulation",
    "InvalidAddress",
    "InvalidDemonstrationFile",
    "InvalidOptions",
    "InvalidRecording",
    "InvalidReply",
    "InvalidRequest",
    "Observation",
    "Parameter",
    "ParameterValue",
    "ParameterizedBatch",
    "PermanentSimulatorError",
    "Policy",
    "ProtocolMismatch",
    "RandomPolicy",
    "RefusalError",
    "RefusedRequest",
    "Registration",
    "RelayLimits",
    "ResetResult",
    "SessionCancelled",
    "Simulation",
    "SimulationBatch",
    "SimulationFailed",
    "SimulatorBusy",
    "SimulatorError",
    "SimulatorHung",
    "SimulatorLost",
    "SimulatorRelay",
    "SimulatorSession",
    "SimulatorUnreachable",
    "SpaceCheck",
    "Spec",
    "StepResult",
    "Timeouts",
    "TransientSimulatorError",
    "WatchdogTimer",
    "WrittenFile",
    "attach",
    "builtin_spec",
    "check_simulator",
    "create_environment_server",
    "default_values",
    "describe",
    "difference_of",
    "distribute_environments",
    "expand_addresses",
    "gymnasium_parameters",
    "host_gymnasium",
    "list_simulators",
    "make_spec",
    "open_session_stream",
    "read_recordings",
    "read_spec",
    "record_episodes",
    "replay_episodes",
    "reset_adapter",
    "simulator_networks",
    "target_of",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
