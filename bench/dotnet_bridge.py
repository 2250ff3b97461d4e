"""How fast is a simulator in C#? The package's CartPole beside the same physics written by hand against the contract.

Table 1: steps a second of one session with random actions, without a learner. Table 2: PPO against each, beside the
Python host and Gymnasium in the trainer's own process. All take turns within one run; of a session the median of its
windows counts, of a training the fastest turn. "by hand" is bench/dotnet/ByHand: 141 lines of protocol and the physics
of samples/dotnet/CartPole. Needs the .NET SDK.

    python bench/dotnet_bridge.py [--environments 1 8 32] [--seconds 3] [--turns 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc(few_connections=True)  # as the programs do, before gRPC is imported

import numpy as np
import torch as th
from aisandbox_cli.processes import Children
from aisandbox_environment.session import SimulatorSession
from aisandbox_trainer.fast_updates.ppo import FastPPO
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env
from training_speed import ENVIRONMENT, ROLLOUT, Learner, bridge

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "dotnet" / "bin"
BY_HAND, PACKAGE, PYTHON = "C# by hand", "C# package", "Python host"
WINDOW_SECONDS = 0.3


def built(project: Path, program: Path) -> Path:
    """Builds a project; returns its program."""
    command = ["dotnet", "build", str(project), "-c", "Release", "--nologo", "-v:quiet", "-nodeReuse:false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return program


@contextmanager
def simulator(program: Path, *arguments: str) -> Iterator[str]:
    """A simulator in C#, in a process of its own; gives its address."""
    command = ["dotnet", str(program), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"listen\w* on:? (?:http://)?(\S+:\d+)", line):
                    yield found[1]
                    break
            else:
                raise RuntimeError(f"{program} did not start")
        finally:
            process.kill()


@contextmanager
def simulators() -> Iterator[dict[str, str]]:
    """The addresses of the three."""
    hand = built(ROOT / "bench/dotnet/ByHand", BUILD / "ByHand/Release/net10.0/ByHand.dll")
    package = built(ROOT / "samples/dotnet/CartPole", BUILD / "samples/CartPole/Release/net10.0/CartPole.dll")
    with tempfile.TemporaryDirectory() as folder, Children(Path(folder)) as children, ExitStack() as stack:
        host = children.start("host-gymnasium", ENVIRONMENT, "--environments", "128", "--port", "0")
        yield {
            BY_HAND: stack.enter_context(simulator(hand, "0")),
            PACKAGE: stack.enter_context(simulator(package, "serve", "--port", "0")),
            PYTHON: str(host.wait_until_ready()["address"]),
        }


def compare_sessions(addresses: dict[str, str], numbers: list[int], seconds: float) -> list[dict[str, Any]]:
    """Steps of all environments a second, by the number of environments and the simulator."""
    rows = []
    for environments in numbers:
        actions = np.random.default_rng(0).integers(0, 2, (512, environments))
        with ExitStack() as stack:
            sessions = {}
            for name, address in addresses.items():
                sessions[name] = stack.enter_context(SimulatorSession.connect(address, environments))
                sessions[name].reset()
            rates: dict[str, list[float]] = {name: [] for name in sessions}
            for window in range(1 + max(3, round(seconds / WINDOW_SECONDS))):
                for name, session in sessions.items():
                    rate = _window(session, actions) * environments
                    if window:
                        rates[name].append(rate)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        for name, rate in medians.items():
            rows.append({"environments": environments, "simulator": name, "steps_per_second": rate})
            rows[-1]["of_by_hand"] = rate / medians[BY_HAND]
    return rows


def _window(session: SimulatorSession, actions: Any) -> float:
    begun, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < WINDOW_SECONDS:
        session.step(actions[count % len(actions)])
        count += 1
    return count / elapsed


def compare_trainings(addresses: dict[str, str], numbers: list[int], turns: int) -> list[dict[str, Any]]:
    """Steps a second of PPO, by the number of environments and the simulator; the fastest turn of each."""
    rows = []
    for environments in numbers:
        venvs = {"in process": make_vec_env(ENVIRONMENT, environments)}
        venvs |= {name: bridge(address, environments) for name, address in addresses.items()}
        learners = {name: Learner(name, FastPPO, venv, n_steps=ROLLOUT // environments) for name, venv in venvs.items()}
        best = dict.fromkeys(learners, 0.0)
        for turn in range(turns + 1):
            for name, learner in learners.items():
                share = learner.turn(2 * ROLLOUT if turn else ROLLOUT)
                if turn:
                    best[name] = max(best[name], share.steps_per_second)
        for name, rate in best.items():
            venvs[name].close()
            rows.append({"environments": environments, "simulator": name, "steps_per_second": rate})
            rows[-1] |= {"of_by_hand": rate / best[BY_HAND], "of_in_process": rate / best["in process"]}
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for column in ("environments", "simulator", "steps/s", "of by hand", "of in process"):
        table.add_column(column, justify="left" if column == "simulator" else "right")
    for row in rows:
        ratio = f"{row['of_in_process']:.2f}" if "of_in_process" in row else ""
        cells = f"{row['steps_per_second']:,.0f}", f"{row['of_by_hand']:.2f}", ratio
        table.add_row(str(row["environments"]), row["simulator"], *cells, end_section=row["simulator"] == PYTHON)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environments", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each session is measured")
    parser.add_argument("--turns", type=int, default=3, help="of a training, of which the fastest counts")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if shutil.which("dotnet") is None:
        print("dotnet_bridge.py: skipped, there is no dotnet (the .NET 10 SDK) on the PATH")
        return
    th.set_num_threads(1)
    with simulators() as addresses:
        sessions = compare_sessions(addresses, arguments.environments, arguments.seconds)
        show("A session of cart-poles, without a learner", sessions)
        trainings = compare_trainings(addresses, arguments.environments, arguments.turns)
        show("PPO against cart-poles", trainings)
    if arguments.json:
        arguments.json.write_text(json.dumps({"sessions": sessions, "trainings": trainings}, indent=2))


if __name__ == "__main__":
    main()
