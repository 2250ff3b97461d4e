"""What all tests rely on, however they are started."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A shell without job control (`make test &` in a script, some CI) starts its background commands with SIGINT ignored,
# and a child inherits that; tests send SIGINT to children, which must find it as a terminal would have it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Some tests import ONNX Runtime, which then sends events to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Workers share the processors: one thread of OpenMP (PyTorch's) each, here and in the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# What tests log is read when they fail. structlog's default draws tracebacks with all local variables, which takes
# a second for one of a trainer.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session", autouse=True)
def memory_is_not_limited() -> Iterator[None]:
    """An attempt of a trainer limits the memory of its process: that of all tests, where one of them runs it."""
    attempt = sys.modules.get("aisandbox_trainer.run.attempt")
    with pytest.MonkeyPatch.context() as patch:
        if attempt is not None:
            patch.setattr(attempt, "limit_memory", lambda _bound: True)
        yield
