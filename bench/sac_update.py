"""What one update of an off-policy actor-critic costs: ours, stable-baselines3's and that of SBX (JAX), if installed.

    uv run --with sbx-rl python bench/sac_update.py

One thread each, 256 transitions of Pendulum-v1, networks of 256 and 256 units, or of CrossQ its own, whose critics have
1024 and 1024; in turns, so that other work on the machine hits all, and the ratios are those of neighbouring turns. The
time is the processor's, not the clock's. SBX has no gSDE.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

WARM_UP, UPDATES = 310, 20
OURS, SB3, SBX = "ours", "stable-baselines3", "SBX"
MODULES = {
    OURS: ("aisandbox_trainer.fast_updates.{}", "Fast"),
    SB3: ("stable_baselines3", ""),
    SBX: ("sbx", ""),
}
"""Where a library has the class of an algorithm, and what its name has before the algorithm's."""
ALGORITHMS = {"SAC": SB3, "TD3": SB3, "TQC": "sb3_contrib", "CrossQ": "sb3_contrib"}
GSDE = " with gSDE"
CASES = [*ALGORITHMS, "SAC" + GSDE, "TQC" + GSDE]


def update_of(library: str, case: str) -> Callable[[], None] | None:
    """One update of a model of the library, after the first ones; None if the library is not there or lacks it."""
    algorithm, gsde = case.removesuffix(GSDE), case.endswith(GSDE)
    module, before = MODULES[library]
    if gsde and library == SBX:
        return None
    if library == SB3 and ALGORITHMS[algorithm] != SB3:
        module = ALGORITHMS[algorithm]
    try:
        kind = getattr(importlib.import_module(module.format(algorithm.lower())), before + algorithm)
    except (ImportError, AttributeError):
        return None
    model = kind(
        "MlpPolicy",
        "Pendulum-v1",
        # SAC's and TQC's default; TD3's differs between SB3 and SBX.
        policy_kwargs={} if algorithm == "CrossQ" else {"net_arch": [256, 256]},
        buffer_size=10_000,
        batch_size=256,
        train_freq=1,
        gradient_steps=1,
        learning_starts=WARM_UP - 10,
        seed=0,
        device="cpu",
        **({"use_sde": True} if gsde else {}),
    )
    model.learn(WARM_UP)
    return lambda: model.train(1, model.batch_size)


def milliseconds(update: Callable[[], None]) -> float:
    """The mean time of the processor over UPDATES updates."""
    started = time.process_time()
    for _ in range(UPDATES):
        update()
    return (time.process_time() - started) / UPDATES * 1e3


def compare(case: str, rounds: int) -> None:
    """Prints a row for each library."""
    updates = {library: update for library in MODULES if (update := update_of(library, case)) is not None}
    times = [{library: milliseconds(update) for library, update in updates.items()} for _ in range(rounds)]
    for library in updates:
        median = statistics.median(each[library] for each in times)
        ratio = statistics.median(each[library] / each[OURS] for each in times) if OURS in updates else float("nan")
        line = f"{case:13} {library:18} {median:6.2f} ms of the processor an update, {ratio:5.2f} of ours"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    arguments = parser.parse_args()
    for case in arguments.cases:
        compare(case, arguments.rounds)


if __name__ == "__main__":
    main()
