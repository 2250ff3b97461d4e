"""The gRPC service and its backends.

server = create_server(Settings(models_dir=Path("models")), adapter_factory=MyAdapter)
await server.serve()

The names of ``__all__`` are public; every module of this package is internal. They are imported at their first use, so
that the import of this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aisandbox_api.errors import AddressInUse, ApiError, StartupError
    from aisandbox_api.server import Server, create_server
    from aisandbox_api.settings import Settings
    from aisandbox_api.space_checks import space_problems

__all__ = ["AddressInUse", "ApiError", "Server", "Settings", "StartupError", "create_server", "space_problems"]

_MODULES = {
    "AddressInUse": "errors",
    "ApiError": "errors",
    "Server": "server",
    "Settings": "settings",
    "StartupError": "errors",
    "create_server": "server",
    "space_problems": "space_checks",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
