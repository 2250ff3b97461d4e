"""``python -m aisandbox_operator``: the operator of one namespace, configured by environment variables."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import structlog
from aisandbox_crds import TRAINER_NUMBERS
from aisandbox_process import InvalidSetting, log

from aisandbox_operator.errors import StartupError
from aisandbox_operator.program import operate
from aisandbox_operator.settings import Settings

EPILOG = """\
environment variables:
  POD_NAMESPACE              the namespace whose runs are trained (required)
  TRAINER_IMAGE              the image of trainers (required)
  TRAINER_IMAGE_PULL_POLICY  IfNotPresent, Always or Never (IfNotPresent)
  TRAINER_SERVICE_ACCOUNT    the service account of trainers; needs no permission (aisandbox-trainer)
  TRAINER_RESOURCES          JSON, for runs without spec.resources (1 CPU, 2Gi to 4Gi of memory)
  TRAINER_POD_TEMPLATE       JSON, what every trainer's pod has, in the form of spec.podTemplate (nothing)
  TRAINER_POD_ALLOWED        JSON, what runs may ask for in spec.podTemplate (see docs/kubernetes.md)
  MODELS_CLAIM               the PersistentVolumeClaim of runs and models (aisandbox-models)
  PROGRESS_ADDRESS           host:port that trainers report to (they do not report)
  PROGRESS_CA_SECRET         the Secret whose ca.crt signed the certificate of PROGRESS_ADDRESS (no TLS)
  PROGRESS_AUDIENCE          the audience of the token they report with (aisandbox-progress)
  TERMINATION_GRACE_SECONDS  how long a trainer may take to write a checkpoint (120)
  START_DEADLINE_SECONDS     how long a pod may fail to start before the run fails (600)
  STALL_SECONDS              how long no progress may be reported until ProgressStalled (600)
  RESYNC_SECONDS             seconds between two resyncs (300)
  WORKERS                    how many runs are reconciled at the same time (8)
  METRICS_PORT               the port of /metrics for Prometheus (9090)
  PROBE_PORT                 the port of /healthz and /readyz (8080)
  LOG_LEVEL                  debug, info, warning or error, for the operator and its trainers (info)
  KUBE_CONTEXT               the context of the kubeconfig, outside a cluster (the current one)
  GRPC_DIRECT                on or off, for trainers: whether they may use gRPC's private functions (on)
  FAST_UPDATE                on or off, for trainers: whether they may use updates faster than SB3's own (on)
  TRAINER_MEMORY_BYTES       the most memory of a trainer (the memory limit of its container)
  SIMULATOR_DIAGNOSTICS      on or off: whether runs say what else answers at a simulator's address (off)
  SIMULATOR_NETWORKS         the networks of simulators, as 10.0.0.0/8,fd00::/8 (any)
  KOPF_PATCH                 on or off: whether watches survive every answer of the API server (on)

passed on to trainers (python -m aisandbox_trainer run --help explains them):
  {trainer_numbers}

In a pod it uses the pod's service account, elsewhere the kubeconfig, as kubectl does.
""".format(trainer_numbers="\n  ".join(TRAINER_NUMBERS))


def main() -> int:
    """Runs until SIGTERM; 0, or 1 if it could not start or has failed."""
    argparse.ArgumentParser(
        prog="python -m aisandbox_operator",
        description="Trains every TrainingRun of a namespace by a Job.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = Settings.from_environ(os.environ)
        configure_log(settings.log_level)
        asyncio.run(operate(settings))
    except (InvalidSetting, StartupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:
        structlog.get_logger(__name__).exception("operator failed")
        return 1
    return 0


def configure_log(level: str) -> None:
    """Logs to stderr from ``level`` on (debug, info, warning, error); of the libraries only warnings, unless debug."""
    log.configure(level, libraries="debug" if level == "debug" else "warning", accept_record=_lower_severity)


def _lower_severity(record: logging.LogRecord) -> bool:
    """A failed call that kopf retries is a warning, not an error."""
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and "will retry" in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


if __name__ == "__main__":
    sys.exit(main())
