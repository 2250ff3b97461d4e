"""What one update of SAC costs: stable-baselines3's, which a trainer uses, beside SBX's (JAX), where that is installed.

    uv run --with sbx-rl python bench/sac_update.py

Both with one thread, the networks and the batch of their defaults, on Pendulum-v1; in turns, so that other work on the
machine hits both. The time is the processor's, not the clock's.
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

WARM_UP, UPDATES = 310, 40
LIBRARIES = ("stable_baselines3", "sbx")


def update_of(library: str) -> Callable[[], None] | None:
    """One update of a SAC of the library, after the first ones; None if the library is not installed."""
    try:
        sac = importlib.import_module(library).SAC
    except ImportError:
        return None
    model = sac("MlpPolicy", "Pendulum-v1", buffer_size=10_000, learning_starts=WARM_UP - 10, seed=0, device="cpu")
    model.learn(WARM_UP)
    return lambda: model.train(1, model.batch_size)


def milliseconds(update: Callable[[], None]) -> float:
    """The mean time of the processor over UPDATES updates."""
    started = time.process_time()
    for _ in range(UPDATES):
        update()
    return (time.process_time() - started) / UPDATES * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    updates = {library: update for library in LIBRARIES if (update := update_of(library)) is not None}
    times = [{library: milliseconds(update) for library, update in updates.items()} for _ in range(rounds)]
    for library in LIBRARIES:
        if library in updates:
            median = statistics.median(each[library] for each in times)
            print(f"{library:20} {median:6.2f} ms of the processor an update")
        else:
            print(f"{library:20} not installed")


if __name__ == "__main__":
    main()
