"""``python -m aisandbox_operator``: the operator of one namespace, configured by environment variables."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import structlog
from aisandbox_process.environ import InvalidSetting

from aisandbox_operator import log
from aisandbox_operator.errors import StartupError
from aisandbox_operator.program import operate
from aisandbox_operator.settings import Settings

EPILOG = """\
environment variables:
  POD_NAMESPACE              the namespace whose runs it has trained (required)
  TRAINER_IMAGE              what trainers run (required)
  TRAINER_IMAGE_PULL_POLICY  IfNotPresent, Always or Never (IfNotPresent)
  TRAINER_SERVICE_ACCOUNT    of trainers; needs no permission (aisandbox-trainer)
  TRAINER_RESOURCES          JSON, for runs without spec.resources (1 CPU, 2Gi to 4Gi of memory)
  MODELS_CLAIM               the PersistentVolumeClaim of runs and models (aisandbox-models)
  PROGRESS_ADDRESS           host:port trainers report to (nowhere)
  PROGRESS_AUDIENCE          of the token they report with (aisandbox-progress)
  TERMINATION_GRACE_SECONDS  how long a trainer may take to write a checkpoint (120)
  START_DEADLINE_SECONDS     how long a pod may fail to start for what does not cure itself (600)
  STALL_SECONDS              without progress, until ProgressStalled (600)
  RESYNC_SECONDS             between two looks at everything (300)
  WORKERS                    reconciles at the same time (8)
  METRICS_PORT               where Prometheus reads /metrics (9090)
  PROBE_PORT                 where /healthz and /readyz are answered (8080)
  LOG_LEVEL                  debug, info, warning or error, for the operator and its trainers (info)
  KUBE_CONTEXT               of the kubeconfig, outside a cluster (the current one)

In a pod it acts as its service account, elsewhere as kubectl would.
"""


def main() -> int:
    """Operates until it is told to stop; 0, or 1 if it could not start or go on."""
    argparse.ArgumentParser(
        prog="python -m aisandbox_operator",
        description="Has every TrainingRun of a namespace trained by a Job.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = Settings.from_environ(os.environ)
        log.configure(settings.log_level)
        asyncio.run(operate(settings))
    except (InvalidSetting, StartupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:
        structlog.get_logger(__name__).exception("operator failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
