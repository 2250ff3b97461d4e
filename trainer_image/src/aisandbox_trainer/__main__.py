"""``python -m aisandbox_trainer``: one attempt at a run, or a warm process that forks attempts.

Must stay free of heavy imports until it is known what is asked for.
"""

from __future__ import annotations

import argparse
import os
import sys

from aisandbox_process.grpc_runtime import set_up_grpc

DESCRIPTION = "Trains one run with stable-baselines3, or keeps a process warm from which runs start at once."
RUN_HELP = """\
Make one attempt at a run. What to do is read from environment variables:

  RUN_ID, RUN_SPEC (JSON), MODELS_DIR, CHECKPOINT_DIR                the run and where its files lie
  RUN_ATTEMPT                                                       its number; unset: the next one
  RUN_UID                                                           tells it from an earlier run of that name
  PROGRESS_ADDRESS, PROGRESS_TOKEN or PROGRESS_TOKEN_FILE            whom to tell how far it is; nobody if unset
  TERMINATION_MESSAGE_PATH                                          where to say how it ended
  LOG_LEVEL                                                         debug, info, warning, error
  STOP_WITH_PARENT                                                  true: end of file on stdin means SIGTERM
  SIMULATOR_PATIENCE_SECONDS                                        how long to wait for a simulator (300)
  SIMULATOR_TIMEOUT_SECONDS                                         how long for its answer to a step (60)
  DISK_PATIENCE_SECONDS                                             how long a trained run waits for space (300)
  TORCH_NUM_THREADS                                                 threads of PyTorch (1 for small networks)

SIGTERM saves a checkpoint and exits. Exit codes: 0 done, 75 try again, 78 no attempt can succeed, 143 stopped."""
WARM_HELP = """\
Import everything once, then fork an attempt for each JSON line on stdin:
  {"id": ..., "environ": {...}, "log_path": ...}
and tell on stdout, one JSON line each: {"ready": true}, {"id", "pid"} after a fork, {"id", "pid", "exit_code"} when
it has ended, {"id", "error"} when it could not be started. End of file on stdin stops all of them. POSIX only."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="aisandbox_trainer", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("run", RUN_HELP), ("warm", WARM_HELP)):
        commands.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
    command = parser.parse_args(arguments).command
    if command == "run":
        from aisandbox_trainer.runtime.stop import Stop

        stop = Stop()
        stop.install()  # before all that takes time: a stop must not be lost
        _set_up()
        from aisandbox_trainer.run.process import run_from_environ

        return run_from_environ(os.environ, stop)
    if not hasattr(os, "fork"):
        print("warm needs fork, which this system does not have; use run", file=sys.stderr)
        return os.EX_USAGE if hasattr(os, "EX_USAGE") else 64
    _set_up()
    from aisandbox_trainer.warm.fork_server import serve

    return serve()


def limit_native_threads() -> None:
    """One thread for OpenBLAS and OpenMP unless set otherwise; to be called before NumPy is imported.

    Runs share a machine, and a fork must find no threads. PyTorch's own number is set later, for the policy at hand.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def _set_up() -> None:
    """What native libraries read when they are imported."""
    limit_native_threads()
    set_up_grpc(few_connections=True)


if __name__ == "__main__":
    sys.exit(main())
