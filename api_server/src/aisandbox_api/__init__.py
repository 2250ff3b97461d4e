"""The gRPC service and its backends.

server = create_server(Settings(models_dir=Path("models")), adapter_factory=MyAdapter)
await server.serve()
"""

import os
import sys

if sys.argv[:1] == ["-m"]:
    # Started as a program: its log says what gRPC's native one says beside it. gRPC looks when it is imported, below.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from aisandbox_api.errors import ApiError, StartupError
from aisandbox_api.server import Server, create_server
from aisandbox_api.settings import Settings

__all__ = ["ApiError", "Server", "Settings", "StartupError", "create_server"]
