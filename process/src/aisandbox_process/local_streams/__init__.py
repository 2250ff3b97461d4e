"""Bidirectional streams of bytes between processes of one machine, over a Unix socket instead of gRPC.

A stream has what a bidirectional call of gRPC has: metadata, messages in both directions, a half-close, a cancellation,
and a status with a message at the end. One connection is one stream. What is sent is a few bytes longer than the
message and nobody parses it, so a message costs two system calls and no thread: a tenth of gRPC's. Both ends are of
the same version, on one machine, and the file of the socket is its owner's. Where there are no Unix sockets
(:data:`IS_AVAILABLE`) gRPC is used. The modules are internal. Must not know what the bytes mean.
"""

from aisandbox_process.local_streams.client import LocalStream
from aisandbox_process.local_streams.served import ServedLocalStream
from aisandbox_process.local_streams.server import IS_AVAILABLE, LocalStreamServer

__all__ = ["IS_AVAILABLE", "LocalStream", "LocalStreamServer", "ServedLocalStream"]
