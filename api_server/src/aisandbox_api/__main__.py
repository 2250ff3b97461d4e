"""``python -m aisandbox_api``: the service configured by environment variables."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from aisandbox_process import InvalidSetting, log, set_up_grpc

from aisandbox_api.errors import StartupError
from aisandbox_api.settings import Settings

EPILOG = """\
environment variables:
  BACKEND               local: runs are folders and child processes; kubernetes: TrainingRun resources (local)
  GRPC_HOST             the address to listen on (127.0.0.1)
  GRPC_PORT             the port; 0 picks a free one (50051)
  MODELS_DIR            the folder of runs and models (./models)
  CHECKPOINT_DIR        the folder of checkpoints (MODELS_DIR)
  LOG_LEVEL             debug, info, warning or error (info)
  MAX_PENDING_RUNS      runs that may wait for a trainer; further starts are refused (100)
  INFERENCE_ADDRESS     host:port of an inference-server for the calls about policies (none)
  STOP_GRACE_SECONDS    how long calls in flight (at most 10) and local trainers' last checkpoints may take (30)
  MAX_CONNECTION_AGE_SECONDS  after how long clients are asked to connect again, to find new servers; 0: never (0)
  MAX_SIMULATORS        simulators that may be attached; further ones are refused (10000)
  TRAINER_ADDRESS       host:port to listen on for trainers only (local: a free port of 127.0.0.1; else GRPC_PORT's)
  REPLICAS_ADDRESS      host:port of the other replicas of this service, with commas (none)
  HTTP_PORT             the port of HTTP and WebSockets for simulators and pages (not served)
  HTTP_ORIGINS          the origins whose pages may use it, with commas; * means all (those of this machine and host)
  METRICS_PORT          the port of /metrics for Prometheus, /livez and /readyz (not served)
  TLS_CERT_FILE, TLS_KEY_FILE  PEM, of the certificate: GRPC_PORT, HTTP_PORT and TRAINER_ADDRESS use TLS (no TLS)
  TLS_CLIENT_CA_FILE    PEM, the authorities of clients, which need a certificate then (clients need none)
  TLS_CA_FILE           PEM, the authorities of inference-servers and replicas, which are called with TLS then (no TLS)
  AUTH                  how callers are authenticated: off, token, oidc or kubernetes (off)
  TOKEN_FILE            with AUTH=token: the file of names, roles and digests of tokens (must be set)
  OIDC_ISSUER           with AUTH=oidc: whose tokens are accepted (must be set; more of them: docs/security.md)
  OIDC_AUDIENCE         with AUTH=oidc: the audience that tokens must have (must be set)
  AUTH_AUDIENCE         with AUTH=kubernetes: the audience of tokens (the API server's)
  SERVICE_TOKEN_FILE    the token with which this service calls its replicas and inference-servers (the client's)
  INSECURE              true: listen for other machines without authentication or TLS (false)
  MAX_STREAMS_PER_PEER  streams that one address may have open (2000)
  MAX_CONNECTIONS       connections of a port; one more is closed at once (1/2 of the files that it may open; of
                        trainers 1/4, of HTTP_PORT 1/8), and never more than that
  MAX_CONNECTIONS_PER_PEER  those of one address (3/4 of those of a port)
  ENVIRONMENT_MODULES   modules that Gymnasium ids may name, as my_envs,lab.*; * means all (local: all, or none with
                        AUTH or INSECURE; kubernetes: all)
  OVERWRITE_OUTPUTS     who may write over a model_output_path: owner, who has written it, or never (owner)
  DEFAULT_DEADLINE_SECONDS  how long a run that a start call begins may train (no limit)

only with AUTH, of one owner; 0 means any number:
  MAX_UNFINISHED_RUNS_PER_OWNER  runs that wait, train or are suspended (100)
  MAX_PENDING_RUNS_PER_OWNER     runs that wait for a trainer (50)
  MAX_RUNS_PER_OWNER             runs that are kept (0)
  MAX_STARTS_PER_MINUTE          starts (60)

only with BACKEND=local:
  MAX_CONCURRENT_RUNS   trainer slots; further runs wait as Pending (the number of CPUs)
  TRAINER_LAUNCHER      warm: fork trainers from a loaded fork server, POSIX only; process: a new process each (warm)

only with BACKEND=kubernetes; the cluster is that of the pod, else that of KUBECONFIG:
  POD_NAMESPACE         the namespace of the runs (must be set)
  INFERENCE_ADDRESS     also kubernetes:///SERVICE:PORT, for the ready pods of a Service there
  REPLICAS_ADDRESS      also kubernetes:///SERVICE:PORT
  PROGRESS_AUDIENCE     the audience of the tokens that trainers report with (aisandbox-progress)
  DELETED_RUN_RETENTION_SECONDS  how long the files of a deleted run are kept (604800)

SIGTERM drains: calls in flight finish, local trainers write a checkpoint, and their runs continue at the next start.
Trainers on Kubernetes keep running.
"""


def main() -> int:
    """Serves until SIGTERM or SIGINT; 0, or 1 if it could not start."""
    argparse.ArgumentParser(
        prog="python -m aisandbox_api",
        description="The AISandbox RL Training Service, on one machine or on Kubernetes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    set_up_grpc()
    from aisandbox_api.server import create_server  # imports gRPC, which reads what is set up

    try:
        settings = Settings.from_environ(os.environ)
        log.configure(settings.log_level)
        asyncio.run(create_server(settings).serve())
    except (InvalidSetting, StartupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
