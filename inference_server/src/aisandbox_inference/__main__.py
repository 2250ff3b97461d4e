"""Runs the inference-server: ``python -m aisandbox_inference``, set by environment variables."""

from __future__ import annotations

import os
import sys

from aisandbox_process import log
from aisandbox_process.environ import InvalidSetting

from aisandbox_inference.errors import StartupError
from aisandbox_inference.server import create_server
from aisandbox_inference.settings import Settings


def main() -> int:
    """Serve until SIGTERM or SIGINT; 2 if the server cannot start."""
    try:
        settings = Settings.from_environ(os.environ)
        log.configure(settings.log_level)
        create_server(settings).serve()
    except (InvalidSetting, StartupError) as error:
        print(f"aisandbox-inference: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
