"""``python -m aisandbox_environment``: a simulator of a Gymnasium environment, where the command line is not installed.

Owns the arguments, the log and the exit status. Must not know the contract; :mod:`.gymnasium_host` serves it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from aisandbox_process import InvalidSetting, log, set_up_grpc


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns 0; 1 if the port is in use or the service refuses the simulator; 2 if a setting is wrong.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if bool(given.attach) != bool(given.pool):
        parser.error("--attach and --pool: use both of them, or neither")
    log.configure("info")
    set_up_grpc(few_connections=True)
    # These import gRPC, which reads its environment variables then.
    from aisandbox_process.tls import ChannelSecurity, InvalidChannelSecurity
    from aisandbox_wire import WireError

    from aisandbox_environment.attachment import attach
    from aisandbox_environment.errors import AttachRefused, InvalidAddress, InvalidOptions
    from aisandbox_environment.gymnasium_host import GymnasiumSimulation, host_gymnasium

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.attach:
            simulation, number = GymnasiumSimulation(given.id), given.environments or 1
            security = ChannelSecurity(
                tls=given.tls_ca is not None,
                ca_file=given.tls_ca,
                server_name=given.tls_server_name,
                token_file=given.token_file,
            )
            attach(
                simulation, given.attach, given.pool, environments=number, instance=given.instance, security=security
            )
        else:
            host_gymnasium(given.id, given.environments or 64, given.host, given.port)
    except KeyboardInterrupt:
        return 0
    except (InvalidAddress, InvalidChannelSecurity, InvalidOptions, InvalidSetting, WireError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (AttachRefused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aisandbox_environment")
    commands = parser.add_subparsers(dest="command", required=True)
    host = commands.add_parser(
        "host-gymnasium",
        help="serve a Gymnasium environment as a simulator",
        description="Serve a Gymnasium environment as a simulator (EnvironmentService, with gRPC's health service).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    host.add_argument("id", metavar="ID", help="a Gymnasium id, like CartPole-v1")
    host.add_argument(
        "--environments",
        type=_at_least_one,
        metavar="N",
        help="the most environments of all sessions together, 64 if not given; with --attach, those of a session, 1",
    )
    host.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    host.add_argument("--port", type=_port, default=50061, help="the port; 0 picks a free one")
    host.add_argument(
        "--attach", metavar="ADDRESS", help="dial the service at [https://]host:port instead of listening"
    )
    host.add_argument("--pool", metavar="NAME", help="the pool to attach to")
    host.add_argument("--instance", metavar="NAME", default="", help="the name in the pool")
    host.add_argument(
        "--tls-ca", metavar="FILE", type=Path, help="PEM: who signed the service's certificate; means TLS"
    )
    host.add_argument("--tls-server-name", metavar="NAME", default="", help="the name that the certificate is for")
    host.add_argument("--token-file", metavar="FILE", type=Path, help="the file with the token for the service")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
