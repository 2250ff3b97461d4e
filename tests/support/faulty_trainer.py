"""The trainer on a disk with planned faults; loaded into a fork server by ``faulty_trainer_preload``.

Of the trainer nothing is changed. Beside the disk it is only watched: each step of a CartPole is counted in the file
FAULTS_STEPS, so that a test knows how far it was when it was killed, the moment a run is claimed is written to the
plan's log, and every rollout that the run learns from (not its dry run) is written to the folder FAULTS_ROLLOUTS.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

import faulty_disk

CLAIMED = "claimed"


def install() -> None:
    """Before the trainer is imported."""
    faulty_disk.install()
    from aisandbox_trainer.run.process import set_up_native_libraries

    set_up_native_libraries()  # before anything below imports them
    _watch_claims()
    _count_steps()
    _keep_rollouts()


def _watch_claims() -> None:
    from aisandbox_model_store import RunFolder

    original = RunFolder.claim

    def claim(self: RunFolder, *arguments: Any, **named: Any) -> Any:
        began = time.monotonic_ns()
        writer = original(self, *arguments, **named)
        number = writer.attempt
        faulty_disk.DISK.tell(faulty_disk.Operation(number, CLAIMED, "", began=began, ended=time.monotonic_ns()))
        return writer

    RunFolder.claim = claim  # type: ignore[method-assign]


def _count_steps() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    original: Any = CartPoleEnv.step
    counters: list[mmap.mmap] = []

    def step(self: CartPoleEnv, action: Any) -> Any:
        if not counters and (path := os.environ.get("FAULTS_STEPS")):
            with Path(path).open("r+b") as file:
                counters.append(mmap.mmap(file.fileno(), 8))
        if counters:
            counters[0][:8] = struct.pack("<q", struct.unpack("<q", counters[0][:8])[0] + 1)
        return original(self, action)

    CartPoleEnv.step = step  # type: ignore[method-assign]


def _keep_rollouts() -> None:
    import numpy as np
    from aisandbox_trainer.training.dry_run import DryRun
    from stable_baselines3.common.buffers import RolloutBuffer

    original, dry_run = RolloutBuffer.compute_returns_and_advantage, DryRun.run
    dry_runs: list[DryRun] = []

    def run(self: DryRun, *arguments: Any, **named: Any) -> None:
        dry_runs.append(self)
        try:
            dry_run(self, *arguments, **named)
        finally:
            dry_runs.remove(self)

    def compute(self: RolloutBuffer, *arguments: Any, **named: Any) -> None:
        folder = os.environ.get("FAULTS_ROLLOUTS")
        if folder and not dry_runs:
            name = f"{folder}/{time.monotonic_ns()}.npz"
            np.savez(name, observations=self.observations, actions=self.actions, rewards=self.rewards)
        original(self, *arguments, **named)

    RolloutBuffer.compute_returns_and_advantage = compute  # type: ignore[method-assign]
    DryRun.run = run  # type: ignore[method-assign]
