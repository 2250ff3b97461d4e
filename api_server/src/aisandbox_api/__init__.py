"""The gRPC service and its backends.

server = create_server(Settings(models_dir=Path("models")), adapter_factory=MyAdapter)
await server.serve()
"""

import sys

from aisandbox_process.grpc_runtime import set_up_grpc

if sys.argv[:1] == ["-m"]:
    set_up_grpc()  # started as a program; gRPC is imported below

from aisandbox_api.errors import ApiError, StartupError
from aisandbox_api.server import Server, create_server
from aisandbox_api.settings import Settings

__all__ = ["ApiError", "Server", "Settings", "StartupError", "create_server"]
