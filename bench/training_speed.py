"""How fast is training? PPO over the bridge to the same run in one process, and where the time of a run goes.

Both runs of a line have the same seeds and hyperparameters, so they take the same steps. In one process:
stable-baselines3's DummyVecEnv of Gymnasium environments. Over the bridge: ``aisandbox host-gymnasium`` in a process of
its own and the trainer's GrpcVecEnv. Each is measured in turns after a warm-up, and the fastest turn counts: the rest
is what else the machine was doing. The second table holds our updates to stable-baselines3's, by the processor's time;
the ratio is the median of those of neighbouring turns. ``--environments`` without a number leaves the first table out.

What the columns are: "environments" is the time the learner waits for them (in one process the simulator itself, over
the bridge simulator and bridge), "policy" the choice of actions, "update" the learning, "rest" buffers and bookkeeping.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc(few_connections=True)  # as the programs do, before gRPC is imported

import stable_baselines3 as sb3
import torch as th
from aisandbox_cli.processes import Children
from aisandbox_crds.spec import GrpcEnvironment
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.sessions import open_sessions
from aisandbox_trainer.fast_updates.a2c import FastA2C
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.ppo import FastPPO
from aisandbox_trainer.fast_updates.recurrent_ppo import FastRecurrentPPO
from aisandbox_trainer.runtime.stop import Stop
from rich.console import Console
from rich.table import Table
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

ENVIRONMENT = "CartPole-v1"
ROLLOUT = 2048
"""Steps of all environments between two updates, SB3's default for one environment."""
FULL_TERMS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    sb3.PPO: {},
    sb3.A2C: {},
    sb3.DQN: {"learning_starts": 500},
    RecurrentPPO: {"policy": "MlpLstmPolicy", "n_epochs": 1},
}
GRADIENT_STEPS: dict[type[BaseAlgorithm], int] = {sb3.PPO: 320}
"""Of an update, where it has more than one."""
TURN: dict[type[BaseAlgorithm], int] = {RecurrentPPO: 512}
"""Steps of a turn, where a rollout is shorter and slower."""
GSDE = {"use_sde": True, "sde_sample_freq": 4}
UPDATES: list[tuple[type[BaseAlgorithm], type[BaseAlgorithm], str, dict[str, Any]]] = [
    (sb3.PPO, FastPPO, ENVIRONMENT, {}),
    (sb3.PPO, FastPPO, "Pendulum-v1", {}),
    (sb3.PPO, FastPPO, "Pendulum-v1", GSDE),
    (sb3.A2C, FastA2C, ENVIRONMENT, {}),
    (sb3.A2C, FastA2C, "Pendulum-v1", {}),
    (sb3.A2C, FastA2C, "Pendulum-v1", GSDE),
    (sb3.DQN, FastDQN, ENVIRONMENT, {}),
    (RecurrentPPO, FastRecurrentPPO, ENVIRONMENT, {}),
    (RecurrentPPO, FastRecurrentPPO, "Pendulum-v1", {}),
]
"""SB3's algorithm and ours, the environment, and hyperparameters."""


@dataclass(frozen=True)
class Share:
    """Seconds of one run, and of its parts."""

    run: str
    learner: str
    environments: int
    timesteps: int
    total: float
    environment: float
    policy: float
    update: float

    @property
    def steps_per_second(self) -> float:
        """Environment steps a second."""
        return self.timesteps / self.total

    @property
    def rest(self) -> float:
        """Buffers and bookkeeping."""
        return self.total - self.environment - self.policy - self.update


class Stopwatch(VecEnvWrapper):
    """Counts the time in which the learner waits for its environments."""

    seconds = 0.0

    def reset(self) -> Any:
        """Passes on."""
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        """Begins to count."""
        self._began = time.perf_counter()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """Counts."""
        result = self.venv.step_wait()
        self.seconds += time.perf_counter() - self._began
        return result


class Learner:
    """One model on its environments, trained a turn at a time."""

    def __init__(self, run: str, algorithm: type[BaseAlgorithm], venv: VecEnv, **terms: Any) -> None:
        self._run = run
        self._watch = Stopwatch(venv)
        self.model = algorithm(**{"policy": "MlpPolicy", "env": self._watch, "seed": 1, "device": "cpu", **terms})
        self._seconds = {"train": 0.0, "act": 0.0}
        self.updates = 0
        self.processor_seconds = 0.0
        """Of the processor, in updates."""
        model: Any = self.model
        model.train = self._timed("train", model.train)
        if isinstance(model, FastPPO):
            nets: Any = model.nets()
            nets.act = self._timed("act", nets.act)
        elif isinstance(model, sb3.PPO):
            policy: Any = model.policy
            policy.forward = self._timed("act", policy.forward)

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began, began_processor = time.perf_counter(), time.process_time()
            result = call(*args, **kwargs)
            self._seconds[name] += time.perf_counter() - began
            if name == "train":
                self.updates += 1
                self.processor_seconds += time.process_time() - began_processor
            return result

        return timed

    def turn(self, timesteps: int) -> Share:
        """Trains on."""
        self._watch.seconds = self._seconds["train"] = self._seconds["act"] = 0.0
        self.updates, self.processor_seconds = 0, 0.0
        before, began = self.model.num_timesteps, time.perf_counter()
        self.model.learn(timesteps, reset_num_timesteps=False)
        total = time.perf_counter() - began
        return Share(
            self._run,
            type(self.model).__name__,
            self._watch.num_envs,
            self.model.num_timesteps - before,
            total,
            self._watch.seconds,
            self._seconds["act"],
            self._seconds["train"],
        )


def bridge(address: str, environments: int) -> VecEnv:
    target = GrpcEnvironment(address=address, environments=environments)
    return GrpcVecEnv(partial(open_sessions, target, environments, run_id="bench", evaluation=False), Stop())


def compare_bridge(environments: int, turns: int, timesteps: int) -> list[Share]:
    """The fastest turn of each learner, in one process and over the bridge."""
    best: dict[int, Share] = {}
    with tempfile.TemporaryDirectory() as folder, Children(Path(folder)) as children:
        host = children.start("host-gymnasium", ENVIRONMENT, "--environments", "64", "--port", "0")
        address = str(host.wait_until_ready()["address"])
        terms = {"n_steps": ROLLOUT // environments}
        learners = [
            Learner(run, algorithm, venv, **terms)
            for algorithm in (sb3.PPO, FastPPO)
            for run, venv in (
                ("in process", make_vec_env(ENVIRONMENT, environments)),
                ("bridge", bridge(address, environments)),
            )
        ]
        for turn in range(turns + 1):
            for place, learner in enumerate(learners):
                share = learner.turn(timesteps if turn else ROLLOUT)
                if turn and (place not in best or share.total < best[place].total):
                    best[place] = share
        for learner in learners:
            env = learner.model.get_env()
            if env is not None:
                env.close()
    return list(best.values())


def bridge_table(shares: list[Share]) -> Table:
    table = Table(title=f"PPO on {ENVIRONMENT}: seconds of 10,000 steps, and the bridge to one process")
    for column in (
        "environments",
        "learner",
        "run",
        "steps/s",
        "ratio",
        "total",
        "environments",
        "policy",
        "update",
        "rest",
    ):
        table.add_column(column, justify="left" if column in ("learner", "run") else "right")
    for share in shares:
        same = [s for s in shares if (s.environments, s.learner) == (share.environments, share.learner)]
        ratio = share.steps_per_second / next(s for s in same if s.run == "in process").steps_per_second
        each = 10_000 / share.timesteps
        parts = (share.total, share.environment, share.policy, share.update, share.rest)
        numbers = (f"{part * each:.2f}" for part in parts)
        table.add_row(
            str(share.environments),
            share.learner,
            share.run,
            f"{share.steps_per_second:,.0f}",
            f"{ratio:.2f}",
            *numbers,
        )
    return table


@dataclass(frozen=True)
class UpdateTime:
    """Microseconds of the processor for one gradient step of SB3's algorithm and of ours; ``ratio``: of the two."""

    algorithm: str
    environment: str
    theirs: float
    ours: float
    ratio: float


def compare_updates(algorithms: list[str], turns: int, timesteps: int) -> list[UpdateTime]:
    """SB3's ``train`` and ours on the same experience: medians over the turns."""
    found = []
    for base, fast, environment, terms in UPDATES:
        if base.__name__ not in algorithms:
            continue
        all_terms = {**FULL_TERMS[base], **terms}
        pair = [Learner("", kind, make_vec_env(environment), **all_terms) for kind in (base, fast)]
        measured: list[list[float]] = []
        for _ in range(turns + 1):
            measured.append([])
            for learner in pair:
                learner.turn(TURN.get(base, timesteps))
                gradient_steps = learner.updates * GRADIENT_STEPS.get(base, 1)
                measured[-1].append(1e6 * learner.processor_seconds / gradient_steps)
        name = f"{environment} with gSDE" if terms else environment
        theirs, ours, ratio = map(median, zip(*((a, b, a / b) for a, b in measured[1:]), strict=True))
        found.append(UpdateTime(base.__name__, name, theirs, ours, ratio))
    return found


def update_table(times: list[UpdateTime]) -> Table:
    table = Table(title="A gradient step: stable-baselines3 and ours, microseconds of the processor")
    for column in ("algorithm", "environment", "SB3", "ours", "times as fast"):
        table.add_column(column, justify="right" if column not in ("algorithm", "environment") else "left")
    for one in times:
        table.add_row(one.algorithm, one.environment, f"{one.theirs:.0f}", f"{one.ours:.0f}", f"{one.ratio:.1f}")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environments", type=int, nargs="*", default=[1, 8, 32])
    names = list(dict.fromkeys(base.__name__ for base, *_ in UPDATES))
    parser.add_argument("--updates", nargs="*", default=names, choices=names, help="of these algorithms")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--timesteps", type=int, default=2 * ROLLOUT, help="of a turn")
    parser.add_argument(
        "--threads", type=int, default=1, help="PyTorch's; one is the trainer's setting for such networks"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    console = Console()
    shares = []
    for environments in arguments.environments:
        shares += compare_bridge(environments, arguments.turns, arguments.timesteps)
    if shares:
        console.print(bridge_table(shares))
    updates = compare_updates(arguments.updates, arguments.turns, ROLLOUT)
    console.print(update_table(updates))
    if arguments.json:
        figures = {"bridge": [asdict(each) for each in shares], "updates": [asdict(each) for each in updates]}
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
