"""Runs the inference-server: ``python -m aisandbox_inference``, configured by environment variables."""

from __future__ import annotations

import os
import sys

from aisandbox_process import set_up_grpc

set_up_grpc()  # before gRPC is imported, below

from aisandbox_access import InvalidTokenFile  # noqa: E402
from aisandbox_process import InvalidSetting, log  # noqa: E402

from aisandbox_inference.errors import StartupError  # noqa: E402
from aisandbox_inference.server import create_server  # noqa: E402
from aisandbox_inference.settings import Settings  # noqa: E402


def main() -> int:
    """Serve until SIGTERM or SIGINT; 2 if the server cannot start."""
    try:
        settings = Settings.from_environ(os.environ)
        log.configure(settings.log_level)
        create_server(settings).serve()
    except (InvalidSetting, InvalidTokenFile, StartupError) as error:
        print(f"aisandbox-inference: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
