"""What a checkpoint costs: how long training pauses for it, what share of the time that is, and in memory.

DQN on CartPole-v1 (or with observations of --size numbers), a replay buffer that is full. "plain" is what has to be
done at least: the same bytes written and flushed to the same disk. The share is that of the time between two
checkpoints at the default interval of a run of a million steps, with the speed of training measured just before; for a
buffer of 10 MB and more it is bounded (see aisandbox_trainer.training.schedule).

    python bench/checkpoint.py [--transitions 10000 100000 1000000] [--size 4] [--folder .] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox_crds.effective_values import effective_checkpoint_interval
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_model_store import Published, RunStore, Writer
from aisandbox_trainer.algorithms.builder import set_threads
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.files import EvaluationResults, TrainingState
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.fast_updates.dqn import FastDQN
from rich.console import Console
from rich.table import Table

REPETITIONS = 3
TRAINED_STEPS = 4000
SPEC = TrainingRunSpec(Algorithm.DQN, 1_000_000)


class Wide(gym.ObservationWrapper[Any, Any, Any]):
    """Cart-pole's observation, padded."""

    def __init__(self, size: int) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._size = size

    def observation(self, observation: Any) -> Any:
        """The padded observation."""
        return np.resize(observation, self._size)


@dataclass(frozen=True)
class Cost:
    """Of one size of buffer; times are medians."""

    transitions: int
    megabytes: float
    seconds: float
    plain_seconds: float
    share: float
    saving_megabytes: float
    loading_megabytes: float


def measure(transitions: int, size: int, folder: Path) -> Cost:
    model = learner(transitions, size)
    speed = training_speed(model)
    fill(model)
    writer = RunStore(folder).run(f"r{transitions}").claim(1)
    before, seconds = peak_megabytes(), []
    for timesteps in range(REPETITIONS):
        began = time.perf_counter()
        published = save(writer, model, timesteps)
        seconds.append(time.perf_counter() - began)
    saving = peak_megabytes() - before
    plain = [write_plainly(folder / "plain", published.manifest.size) for _ in range(REPETITIONS)]
    del model
    before = peak_megabytes()
    checkpoints.load(
        checkpoints.CheckpointFiles.in_folder(published.path), FastDQN, vectorized(lambda: Wide(size), 1), "cpu"
    )
    stop = statistics.median(seconds)
    between = effective_checkpoint_interval(SPEC) / speed
    megabytes = published.manifest.size / 1e6
    return Cost(
        transitions,
        round(megabytes, 1),
        round(stop, 3),
        round(statistics.median(plain), 3),
        round(stop / (stop + between), 4),
        round(saving, 1),
        round(peak_megabytes() - before, 1),
    )


def learner(transitions: int, size: int) -> FastDQN:
    set_threads("MlpPolicy", None)
    env = vectorized(lambda: Wide(size), 1)
    return FastDQN("MlpPolicy", env, buffer_size=transitions, learning_starts=100, device="cpu")


def training_speed(model: FastDQN) -> float:
    began = time.perf_counter()
    model.learn(TRAINED_STEPS)
    return TRAINED_STEPS / (time.perf_counter() - began)


def fill(model: FastDQN) -> None:
    buffer = model.replay_buffer
    assert buffer is not None
    rng = np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations):
        for start in range(0, len(array), 10_000):  # not all at once: the peak of the memory is measured
            array[start : start + 10_000] = rng.random(array[start : start + 10_000].shape, np.float32)
    for array in (buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts):
        array[:] = 1
    buffer.full = True


def save(writer: Writer, model: FastDQN, timesteps: int) -> Published:
    state = TrainingState.capture(model, EvaluationResults(), 0)
    return writer.publish_checkpoint(timesteps, lambda folder: checkpoints.save(folder, model, SPEC, state))


def write_plainly(path: Path, size: int) -> float:
    data = os.urandom(min(size, 1 << 20))
    began = time.perf_counter()
    with path.open("wb") as file:
        for start in range(0, size, len(data)):
            file.write(data[: size - start])
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_a_child(transitions: int, size: int, folder: Path) -> Cost:
    """In a process of its own, or the peak of the memory would be that of the largest one before."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(asdict(measure(transitions, size, folder))).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.wait()
    return Cost(**json.loads(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--size", type=int, default=4, help="numbers in an observation")
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        costs = [in_a_child(count, arguments.size, Path(folder)) for count in arguments.transitions]
    if arguments.json:
        print(json.dumps([asdict(cost) for cost in costs]))
        return
    table = Table("transitions", "MB", "s", "plain s", "times plain", "share of the time", "MB more to save", "to load")
    for cost in costs:
        table.add_row(
            f"{cost.transitions:,}",
            f"{cost.megabytes:,.1f}",
            f"{cost.seconds:.3f}",
            f"{cost.plain_seconds:.3f}",
            f"{cost.seconds / cost.plain_seconds:.1f}",
            f"{cost.share:.2%}",
            f"{cost.saving_megabytes:.1f}",
            f"{cost.loading_megabytes:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
