"""An attempt in a process that the fork server has forked; its first environment step comes after some 0.05 s.

Owns what a fork must do before it can train. The fork server is :mod:`aisandbox_process.fork_server`, started by the
api-server, which names the two functions of this module. ``parent`` is a descriptor that reaches its end when the
api-server is gone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping

from aisandbox_process.fork_server import unblock_stop_signals

from aisandbox_trainer.runtime.stop import Stop


def check(parent: int) -> int:
    """0 if the fork server that forked this process is warm; else prints why not.

    Also has gRPC's self-test passed before the first run: it starts threads, so the fork server cannot do it itself.
    """
    from aisandbox_process.grpc_direct import direct_is_used

    from aisandbox_trainer.warm.preload import WARM_UP

    problem = WARM_UP.problem
    if not problem and WARM_UP.pid != os.getppid():
        problem = "the fork server has not loaded its preload"
    if problem:
        print(problem)
        return 1
    direct_is_used()
    return 0


def run(environ: Mapping[str, str], parent: int) -> int:
    """One attempt with the variables ``environ``; the result is the exit code."""
    stop = Stop()
    stop.install()
    unblock_stop_signals()
    import numpy as np
    import torch

    from aisandbox_trainer.run.process import run_from_environ

    os.environ.update(environ)
    random.seed()
    np.random.seed()
    torch.seed()
    return run_from_environ(environ, stop, lifeline=parent)
