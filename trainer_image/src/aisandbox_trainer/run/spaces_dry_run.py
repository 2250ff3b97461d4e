"""The dry run of a run that does not exist yet: which algorithms can train on the spaces of a simulator.

Does with an algorithm's default hyperparameters what an attempt does before its first step. Must not know the simulator
or where its spaces come from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from aisandbox.v1.environment_pb2 import EnvironmentSpec
from aisandbox_crds import Algorithm, GrpcEnvironment, TrainingRunSpec, parse_hyperparameters, trained_algorithm
from aisandbox_environment import read_spec
from aisandbox_wire import WireError, space_from_proto

from aisandbox_trainer.algorithms.memory_check import check_memory
from aisandbox_trainer.algorithms.policy_choice import check_actions, check_hyperparameters, check_masks, choose_policy
from aisandbox_trainer.environments.factory import Environments
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import TrainerError
from aisandbox_trainer.run.exit_status import exit_status_of
from aisandbox_trainer.runtime.memory_limit import limit_memory
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.dry_run import DryRun


def print_dry_runs(spec: EnvironmentSpec, algorithms: Sequence[Algorithm]) -> None:
    """Prints one JSON object for each algorithm: its name, and why it cannot train. Bounds this process's memory."""
    limit_memory(Settings.from_environ(os.environ).memory_bytes)
    for algorithm in algorithms:
        print(json.dumps({"algorithm": algorithm, "problem": dry_run_spaces(spec, algorithm)}), flush=True)


def dry_run_spaces(spec: EnvironmentSpec, algorithm: Algorithm) -> str:
    """Why a run with this algorithm would end before its first step, or "". Raises InvalidRun for a wrong setting."""
    try:
        _dry_run(spec, algorithm, Settings.from_environ(os.environ))
    except (TrainerError, WireError, MemoryError, RuntimeError) as error:
        failure = exit_status_of(error).failure
        return str(error) if failure is None else failure.message
    return ""


def _dry_run(message: EnvironmentSpec, algorithm: Algorithm, settings: Settings) -> None:
    spec = read_spec(message)
    check_masks(algorithm, spec.action_masks)
    algorithm = trained_algorithm(algorithm, spec.action_masks)
    hyperparameters = parse_hyperparameters(algorithm, {})
    inner = space_from_proto(spec.observation_space), space_from_proto(spec.action_space)
    adapter = SpaceAdapter(*inner)
    check_actions(algorithm, adapter.inner_action_space)
    check_hyperparameters(algorithm, hyperparameters, adapter.inner_observation_space, adapter.inner_action_space)
    outer = adapter.observation_space, adapter.action_space
    check_memory(algorithm, hyperparameters, *outer, 1, settings.memory_bytes)
    policy = choose_policy(algorithm, hyperparameters.policy, adapter.observation_space)
    run = TrainingRunSpec(algorithm=algorithm, total_timesteps=1, environment=GrpcEnvironment("127.0.0.1:1"))
    environments = Environments(run, hyperparameters, "dry run", Stop(), settings)
    DryRun(environments, algorithm, hyperparameters, policy).run(adapter)
