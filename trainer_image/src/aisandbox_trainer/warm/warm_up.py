"""The warm-up of the fork server: everything imported, and a small model built, updated and exported, once.

Owns what is slow only the first time, and the check that the process can be forked: it must have one thread and no gRPC
channel, because neither survives a fork. Must not know how the server forks.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The result of a warm-up in the process ``pid``; ``problem`` is empty if its forks can be trainers."""

    pid: int
    problem: str


def warm_up() -> WarmUp:
    """Imports all that an attempt needs and trains a small model. What it prints is kept for ``problem`` only."""
    with _captured_output() as output:
        try:
            _import_trainer()
            _train_small_model()
            threads = _thread_count()
            problem = "" if threads == 1 else f"the warm-up left {threads} threads, and a fork keeps only one"
        except Exception:
            problem = traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        if problem:
            output.seek(0)
            problem = output.read().decode(errors="replace") + problem
    gc.collect()
    gc.freeze()  # shared pages stay shared: the collector of a child need not visit what is here
    return WarmUp(os.getpid(), problem)


def _import_trainer() -> None:
    """Everything, so that a child imports nothing from files, which an upgrade may change meanwhile."""
    import torch

    torch.set_num_threads(1)
    from aisandbox.v1 import environment_pb2_grpc, training_progress_pb2_grpc  # noqa: F401

    import aisandbox_trainer.export.model_files
    import aisandbox_trainer.run.attempt
    import aisandbox_trainer.run.process
    import aisandbox_trainer.warm.forked_attempt  # noqa: F401


def _train_small_model() -> None:
    from aisandbox_crds import Algorithm, parse_hyperparameters
    from aisandbox_environment import FakeExternalEnvAdapter

    from aisandbox_trainer.algorithms.builder import build, class_of
    from aisandbox_trainer.environments.factory import space_adapter_of
    from aisandbox_trainer.environments.in_process import AdapterEnv, vectorized
    from aisandbox_trainer.export.model_files import export_model
    from aisandbox_trainer.export.parity import check_parity

    env = vectorized(lambda: AdapterEnv(FakeExternalEnvAdapter()), 1)
    settings = {"n_steps": "16", "batch_size": "16", "n_epochs": "1", "device": "cpu"}
    model = build(class_of(Algorithm.PPO), parse_hyperparameters(Algorithm.PPO, settings), "MlpPolicy", env, 0)
    if not Path("/dev/nvidia0").exists():  # with a GPU, the first backward pass starts a thread for it
        model.learn(16)
    adapter = space_adapter_of(env)
    files = export_model(
        model,
        observation_space=adapter.inner_observation_space,
        action_space=adapter.inner_action_space,
        vec_normalize=None,
        timesteps=0,
    )
    check_parity(files)
    env.close()


def _thread_count() -> int:
    """The threads of this process; only Python's where the native ones cannot be counted."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


@contextlib.contextmanager
def _captured_output() -> Iterator[IO[bytes]]:
    """Has file descriptors 1 and 2 written to a temporary file: the fork server shares them with the service."""
    with tempfile.TemporaryFile() as file:
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in saved:
            os.dup2(file.fileno(), descriptor)
        try:
            yield file
        finally:
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
