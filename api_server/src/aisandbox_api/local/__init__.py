"""The local backend: a run is a folder and a child process of the service."""

from aisandbox_api.local.backend import LocalBackend

__all__ = ["LocalBackend"]
