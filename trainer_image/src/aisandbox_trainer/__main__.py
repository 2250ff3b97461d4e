"""``python -m aisandbox_trainer run``: one attempt at a run; ``dry-run``: whether spaces can be trained on.

Must stay free of heavy imports, for ``--help``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from aisandbox_crds import Algorithm

DESCRIPTION = "Trains one run with stable-baselines3."
RUN_HELP = """\
Make one attempt at a run. What to do is read from environment variables:

  RUN_ID, RUN_SPEC (JSON), MODELS_DIR, CHECKPOINT_DIR                the run and where its files are stored
  RUN_ATTEMPT                                                       number of the attempt; unset: the next one
  RUN_UID                                                           unique id of the run; its name may be reused
  PROGRESS_ADDRESS, PROGRESS_TOKEN or PROGRESS_TOKEN_FILE            where to report progress; unset: nowhere
  PROGRESS_CA_FILE                     PEM, who may sign the certificate of that; unset: it is dialled without TLS
  SESSION_SOCKET                       Unix socket of the service, for sessions with simulators of a pool; unset: gRPC
  CHECKPOINT_KEY                       64 hexadecimal digits: signs checkpoints, and reads them only if it did
  ACCEPT_UNSIGNED_CHECKPOINTS          true: also those that have no keyed digest, of attempts without a key
  TERMINATION_MESSAGE_PATH                                          file for the termination message
  LOG_LEVEL                                                         debug, info, warning, error
  STOP_WITH_PARENT                                                  true: end of file on stdin means SIGTERM
  SIMULATOR_PATIENCE_SECONDS                                        how long to retry an unavailable simulator (300)
  SIMULATOR_TIMEOUT_SECONDS                                         how long to wait for the reply to a step (60)
  SIMULATOR_OPEN_TIMEOUT_SECONDS                                    how long a simulator may take to open (300)
  DISK_PATIENCE_SECONDS                                             how long a trained run waits for disk space (300)
  EARLIER_RUN_PATIENCE_SECONDS                                      how long an earlier run keeps its files (60)
  EVALUATION_EPISODE_STEPS                                          steps an evaluation's episode may take (10000)
  TRAINER_MEMORY_BYTES                                              the most memory (3/4 of the container's limit)
  STOP_GRACE_SECONDS                                                how long the process may live after SIGTERM (30)
  TORCH_NUM_THREADS                                                 threads of PyTorch (1 for small networks)
  FAST_UPDATE                                                       off: only SB3's own, slower updates (on)

SIGTERM saves a checkpoint and exits. Exit codes: 0 done, 75 to be retried, 78 no attempt can succeed, 143 stopped."""

DRY_RUN_HELP = """\
Make the dry run for a simulator that declares these spaces: build, train and export a small model of each ALGORITHM
on synthetic observations. Reads a serialized aisandbox.v1.EnvironmentSpec from stdin, and prints one JSON object a
line: {"algorithm": "PPO", "problem": "why it cannot train on the spaces, or nothing"}."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="aisandbox_trainer", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True)
    commands.add_parser(
        "run",
        help=RUN_HELP.splitlines()[0],
        description=RUN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dry_run = commands.add_parser(
        "dry-run", aliases=["rehearse"], help=DRY_RUN_HELP.splitlines()[0], description=DRY_RUN_HELP
    )
    dry_run.add_argument("algorithms", metavar="ALGORITHM", nargs="+", choices=list(Algorithm), type=Algorithm)
    given = parser.parse_args(arguments)
    if "algorithms" in given:
        return _dry_run(given.algorithms)
    from aisandbox_trainer.runtime.stop import Stop

    stop = Stop()
    stop.install()  # before all that takes time: a stop must not be lost
    from aisandbox_trainer.run.process import run_from_environ, set_up_native_libraries

    set_up_native_libraries()
    return run_from_environ(os.environ, stop)


def _dry_run(algorithms: Sequence[Algorithm]) -> int:
    from aisandbox_trainer.run.process import set_up_native_libraries

    set_up_native_libraries()
    from aisandbox.v1.environment_pb2 import EnvironmentSpec

    from aisandbox_trainer.run.spaces_dry_run import print_dry_runs

    print_dry_runs(EnvironmentSpec.FromString(sys.stdin.buffer.read()), algorithms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
