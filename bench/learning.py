"""Whether policies learn: each run goes through the whole service and is printed beside the figure RL Zoo gives.

The service (``aisandbox up``) and the simulator (``aisandbox host-gymnasium``) are processes of their own. A run is
started by gRPC with RL Zoo's hyperparameters for the environment, trained over the bridge, and its final policy is
evaluated through ``ActBatch``. ``masked_identity.py`` has one world with masks and without.

Sources: hyperparameters from DLR-RM/rl-baselines3-zoo ``hyperparams/`` (``ppo.yml`` and so on); rewards from the table
"Performance of trained agents" in its ``benchmark.md`` (one run each, deterministic policy), which has none for TQC on
Pendulum and for CrossQ; its files for TD3 and TQC are for Pendulum-v0, which rewards alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_cli.processes import Children
from aisandbox_environment.session import SimulatorSession
from aisandbox_wire import ALGORITHM_NAMES
from aisandbox_wire.tensors import decode_tensor, encode_tensor
from rich.console import Console
from rich.table import Table

EVALUATION_ENVIRONMENTS = 20
EPISODES_EACH = 5


@dataclass(frozen=True)
class Task:
    """One line of the table: what is trained, and what RL Zoo's table says of it."""

    algorithm: str
    environment: str
    timesteps: int
    environments: int
    zoo_reward: float | None
    must_reach: float | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ALGORITHM/ENVIRONMENT, without the module that the environment is in."""
        return f"{self.algorithm}/{self.environment.rpartition(':')[2]}"


NUMBERS: Mapping[str, pb.Algorithm.ValueType] = {
    name: pb.Algorithm.ValueType(number) for number, name in ALGORITHM_NAMES.items()
}
_NET_256 = {"policy_kwargs": "dict(net_arch=[256, 256])"}
_DQN_FAST = {
    "learning_rate": "6.3e-4", "batch_size": "128", "buffer_size": "50000", "learning_starts": "0", "gamma": "0.99",
    "target_update_interval": "250", "train_freq": "4", "gradient_steps": "-1", "exploration_fraction": "0.12",
    "exploration_final_eps": "0.1", **_NET_256,
}  # fmt: skip

_CAR = {
    "learning_rate": "3e-4", "buffer_size": "50000", "batch_size": "512", "ent_coef": "0.1", "train_freq": "32",
    "gradient_steps": "32", "gamma": "0.9999", "tau": "0.01", "learning_starts": "0", "use_sde": "True",
    "policy_kwargs": "dict(log_std_init=-3.67, net_arch=[64, 64])",
}  # fmt: skip

_IDENTITY = {"n_steps": "128", "gamma": "0.4"}

TASKS = (
    Task("PPO", "CartPole-v1", 100_000, 8, 500.0, 475.0, {
        "n_steps": "32", "batch_size": "256", "gae_lambda": "0.8", "gamma": "0.98", "n_epochs": "20", "ent_coef": "0.0",
        "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
    }),
    Task("A2C", "CartPole-v1", 500_000, 8, 500.0, 475.0, {"ent_coef": "0.0"}),
    Task("DQN", "CartPole-v1", 50_000, 1, 500.0, 475.0, {
        "learning_rate": "2.3e-3", "batch_size": "64", "buffer_size": "100000", "learning_starts": "1000",
        "gamma": "0.99", "target_update_interval": "10", "train_freq": "256", "gradient_steps": "128",
        "exploration_fraction": "0.16", "exploration_final_eps": "0.04", **_NET_256,
    }),
    Task("PPO", "Acrobot-v1", 1_000_000, 16, -73.506, None, {
        "normalize": "True", "n_steps": "256", "gae_lambda": "0.94", "gamma": "0.99", "n_epochs": "4",
        "ent_coef": "0.0",
    }),
    Task("A2C", "Acrobot-v1", 500_000, 16, -83.353, None, {"normalize": "True", "ent_coef": "0.0"}),
    Task("DQN", "Acrobot-v1", 100_000, 1, -76.639, None, _DQN_FAST),
    Task("PPO", "MountainCar-v0", 1_000_000, 16, -110.423, None, {
        "normalize": "True", "n_steps": "16", "gae_lambda": "0.98", "gamma": "0.99", "n_epochs": "4",
        "ent_coef": "0.0",
    }),
    Task("A2C", "MountainCar-v0", 1_000_000, 16, -111.263, None, {"normalize": "True", "ent_coef": "0.0"}),
    Task("DQN", "MountainCar-v0", 120_000, 1, -100.849, None, {
        "learning_rate": "4e-3", "batch_size": "128", "buffer_size": "10000", "learning_starts": "1000",
        "gamma": "0.98", "target_update_interval": "600", "train_freq": "16", "gradient_steps": "8",
        "exploration_fraction": "0.2", "exploration_final_eps": "0.07", **_NET_256,
    }),
    Task("PPO", "Pendulum-v1", 100_000, 4, -172.225, None, {
        "n_steps": "1024", "gae_lambda": "0.95", "gamma": "0.9", "n_epochs": "10", "ent_coef": "0.0",
        "learning_rate": "1e-3", "clip_range": "0.2", "use_sde": "True", "sde_sample_freq": "4",
    }),
    Task("A2C", "Pendulum-v1", 1_000_000, 8, -162.965, None, {
        "normalize": "True", "n_steps": "8", "gae_lambda": "0.9", "gamma": "0.9", "vf_coef": "0.4", "ent_coef": "0.0",
        "max_grad_norm": "0.5", "use_rms_prop": "True", "normalize_advantage": "False", "learning_rate": "lin_7e-4",
        "use_sde": "True", "policy_kwargs": "dict(log_std_init=-2, ortho_init=False)",
    }),
    Task("QRDQN", "CartPole-v1", 50_000, 1, 500.0, 475.0, {
        "learning_rate": "2.3e-3", "batch_size": "64", "buffer_size": "100000", "learning_starts": "1000",
        "gamma": "0.99", "target_update_interval": "10", "train_freq": "256", "gradient_steps": "128",
        "exploration_fraction": "0.16", "exploration_final_eps": "0.04",
        "policy_kwargs": "dict(net_arch=[256, 256], n_quantiles=10)",
    }),
    Task("QRDQN", "Acrobot-v1", 100_000, 1, -69.135, None, {
        **_DQN_FAST, "policy_kwargs": "dict(net_arch=[256, 256], n_quantiles=25)",
    }),
    Task("QRDQN", "MountainCar-v0", 120_000, 1, -106.042, None, {
        "learning_rate": "4e-3", "batch_size": "128", "buffer_size": "10000", "learning_starts": "1000",
        "gamma": "0.98", "target_update_interval": "600", "train_freq": "16", "gradient_steps": "8",
        "exploration_fraction": "0.2", "exploration_final_eps": "0.07",
        "policy_kwargs": "dict(net_arch=[256, 256], n_quantiles=25)",
    }),
    Task("SAC", "Pendulum-v1", 20_000, 1, -156.995, None, {"learning_rate": "1e-3"}),
    Task("TD3", "Pendulum-v1", 20_000, 1, -151.855, None, {
        "gamma": "0.98", "buffer_size": "200000", "learning_starts": "10000", "noise_type": "normal",
        "noise_std": "0.1", "gradient_steps": "-1", "train_freq": "(1, 'episode')", "learning_rate": "1e-3",
        "policy_kwargs": "dict(net_arch=[400, 300])",
    }),
    Task("TQC", "Pendulum-v1", 20_000, 1, None, None, {
        "learning_rate": "1e-3", "use_sde": "True", "gradient_steps": "64", "train_freq": "64",
        "policy_kwargs": "dict(log_std_init=-2, net_arch=[64, 64])",
    }),
    Task("CrossQ", "Pendulum-v1", 20_000, 1, None, None, {
        "policy_delay": "2", "policy_kwargs": "dict(net_arch=[256, 256])",
    }),
    Task("SAC", "MountainCarContinuous-v0", 50_000, 1, 94.679, None, _CAR),
    Task("TD3", "MountainCarContinuous-v0", 300_000, 1, 93.483, None, {
        "noise_type": "ornstein-uhlenbeck", "noise_std": "0.5",
    }),
    Task("TQC", "MountainCarContinuous-v0", 50_000, 1, 63.641, None, _CAR),
    Task("RecurrentPPO", "aisandbox_environment.without_velocities:CartPoleNoVel-v1", 100_000, 8, 500.0, 475.0, {
        "normalize": "True", "n_steps": "32", "batch_size": "256", "gae_lambda": "0.8", "gamma": "0.98",
        "n_epochs": "20", "ent_coef": "0.0", "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
        "policy_kwargs": "dict(ortho_init=False, activation_fn=nn.ReLU, lstm_hidden_size=64, enable_critic_lstm=True, "
                         "net_arch=dict(pi=[64], vf=[64]))",
    }),
    Task("PPO", "masked_identity:Identity-v0", 10_000, 8, None, None, _IDENTITY),
    Task("MaskablePPO", "masked_identity:MaskedIdentity-v0", 10_000, 8, None, 95.0, _IDENTITY),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result of a task: mean and standard deviation of the evaluation's returns, seconds and steps a second."""

    task: str
    reward_mean: float
    reward_std: float
    episodes: int
    seconds: float
    steps_per_second: float
    zoo_reward: float | None
    must_reach: float | None
    message: str = ""


def train(stub: rpc.PolicyTrainerServiceStub, task: Task, simulator: str, seed: int) -> tuple[pb.StatusResponse, float]:
    """Starts the task and waits for its end; returns the last status and the seconds it took."""
    started = time.monotonic()
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=simulator, environments=task.environments))
    run_id = stub.StartTraining(
        pb.TrainingRequest(
            experiment_id=task.name.replace("/", "-"),
            algorithm=NUMBERS[task.algorithm],
            total_timesteps=task.timesteps,
            seed=seed,
            hyperparameters=task.hyperparameters,
            environment=environment,
            checkpoint_every_timesteps=task.timesteps,
        )
    ).run_id
    *_, status = stub.WatchTraining(pb.WatchTrainingRequest(run_id=run_id))
    return status, time.monotonic() - started


def evaluate(stub: rpc.PolicyTrainerServiceStub, run_id: str, simulator: str) -> list[float]:
    """Returns of the first EPISODES_EACH episodes of each of EVALUATION_ENVIRONMENTS environments, deterministic."""
    returns = np.zeros(EVALUATION_ENVIRONMENTS)
    finished: list[list[float]] = [[] for _ in range(EVALUATION_ENVIRONMENTS)]
    with SimulatorSession.connect(simulator, environments=EVALUATION_ENVIRONMENTS, evaluation=True) as session:
        first = session.reset([10_000 + i for i in range(EVALUATION_ENVIRONMENTS)])
        observations, masks = first.observations, first.action_masks
        states: Sequence[bytes] = ()
        starts = np.ones(EVALUATION_ENVIRONMENTS, bool)
        while any(len(episodes) < EPISODES_EACH for episodes in finished):
            tensors = [encode_tensor(leaf) for leaf in observations]
            request = pb.ActBatchRequest(
                run_id=run_id, model="final", observations=tensors, state=states, episode_start=starts.tolist()
            )
            if masks is not None:
                request.action_masks.CopyFrom(encode_tensor(masks))
            response = stub.ActBatch(request)
            states = response.state  # none of a policy that is not recurrent
            session.send_step(decode_tensor(response.actions))
            step = session.receive_step()
            observations, masks = step.observations, step.action_masks
            returns += step.rewards
            starts = step.terminated | step.truncated
            for i in np.flatnonzero(starts):
                finished[i].append(float(returns[i]))
                returns[i] = 0.0
    return [value for episodes in finished for value in episodes[:EPISODES_EACH]]


def run(task: Task, stub: rpc.PolicyTrainerServiceStub, folder: Path, seed: int) -> Outcome:
    """Trains and evaluates one task."""
    with Children(folder) as children:
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where the module of an environment is
        simulator = children.start("host-gymnasium", task.environment, "--environments", "64", "--port", "0")
        address = str(simulator.wait_until_ready()["address"])
        status, seconds = train(stub, task, address, seed)
        if status.phase != pb.PHASE_SUCCEEDED:
            message = f"{pb.Phase.Name(status.phase)}: {status.failure.reason} {status.failure.message}"
            nan = float("nan")
            return Outcome(task.name, nan, nan, 0, seconds, nan, task.zoo_reward, task.must_reach, message)
        returns = evaluate(stub, status.run_id, address)
    return Outcome(
        task.name, statistics.mean(returns), statistics.pstdev(returns), len(returns), seconds,
        status.timesteps_done / seconds, task.zoo_reward, task.must_reach,
    )  # fmt: skip


def render(outcomes: list[Outcome]) -> Table:
    """The table of all outcomes."""
    table = Table(title="Learning over the bridge, RL Zoo's hyperparameters")
    for column in ("algorithm/environment", "mean", "std", "episodes", "RL Zoo", "must reach", "seconds", "steps/s"):
        table.add_column(column, justify="left" if "/env" in column else "right")
    for o in outcomes:
        must = "" if o.must_reach is None else f"{o.must_reach:.0f}"
        zoo = "" if o.zoo_reward is None else f"{o.zoo_reward:.1f}"
        row = (f"{o.reward_mean:.1f}", f"{o.reward_std:.1f}", str(o.episodes), zoo, must)
        table.add_row(o.task, *row, f"{o.seconds:.0f}", f"{o.steps_per_second:.0f}")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", metavar="ALGO/ENV", help=f"of {', '.join(t.name for t in TASKS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the outcomes here")
    arguments = parser.parse_args()
    tasks = [task for task in TASKS if not arguments.only or task.name in arguments.only]
    console, outcomes = Console(), []
    with tempfile.TemporaryDirectory() as name, Children(Path(name)) as children:
        service = children.start("up", "--port", "0", "--models-dir", f"{name}/models")
        stub = rpc.PolicyTrainerServiceStub(grpc.insecure_channel(service.wait_until_ready()["address"]))
        for task in tasks:
            outcomes.append(run(task, stub, Path(name), arguments.seed))
            o = outcomes[-1]
            console.print(f"{o.task}: {o.reward_mean:.1f} in {o.seconds:.0f} s {o.message}", highlight=False)
    console.print(render(outcomes))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    return 0 if all(o.must_reach is None or o.reward_mean >= o.must_reach for o in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
