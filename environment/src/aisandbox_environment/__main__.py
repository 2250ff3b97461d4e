"""``python -m aisandbox_environment``: a simulator of a Gymnasium environment, where the command line is not installed.

Owns the arguments, the log and the exit status. Must not know the contract; :mod:`.gymnasium_host` serves it.
"""

from __future__ import annotations

import argparse
import signal
import sys

from aisandbox_process import InvalidSetting, log, set_up_grpc


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns 0; 1 if the port is in use; 2 if a setting is wrong."""
    given = _parser().parse_args(arguments)
    log.configure("info")
    set_up_grpc(few_connections=True)
    # These import gRPC, which reads its environment variables then.
    from aisandbox_wire import WireError

    from aisandbox_environment.errors import InvalidOptions
    from aisandbox_environment.gymnasium_host import host_gymnasium

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        host_gymnasium(given.id, given.environments, given.host, given.port)
    except KeyboardInterrupt:
        return 0
    except (InvalidOptions, InvalidSetting, WireError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
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
        default=64,
        metavar="N",
        help="the most environments of all sessions together",
    )
    host.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    host.add_argument("--port", type=_port, default=50061, help="the port; 0 picks a free one")
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
