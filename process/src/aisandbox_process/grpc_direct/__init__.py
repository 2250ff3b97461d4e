"""gRPC streams and servers whose waiting thread polls for its own messages, and the same with gRPC's public API.

gRPC's public Python API hands each message from thread to thread; a small message spends most of its time there. What
is here waits on gRPC's completion queues directly. That needs names of ``grpc._cython``, which gRPC does not promise to
keep: this package is the only place of the project that uses them. Before the first use in a process, one round trip
over loopback tests them; if it fails, a warning is logged and the public API is used, which does the same more slowly.
``GRPC_DIRECT=off`` uses the public API without a test.

Needs the extra ``aisandbox-process[grpc]``, which bounds the versions of gRPC. The modules are internal. Must not know
what the bytes mean.
"""

from aisandbox_process.grpc_direct.async_streams import AsyncStreams
from aisandbox_process.grpc_direct.choice import (
    async_streams,
    direct_is_used,
    open_stream,
    serve_methods,
    serve_streams,
)
from aisandbox_process.grpc_direct.client_stream import ClientStream, StreamEnded
from aisandbox_process.grpc_direct.method_server import MethodServer
from aisandbox_process.grpc_direct.methods import (
    Admit,
    Answer,
    BidirectionalMethod,
    Methods,
    StreamingMethod,
    UnaryMethod,
)
from aisandbox_process.grpc_direct.served_stream import ServedStream
from aisandbox_process.grpc_direct.stream_inbox import StreamInbox, Take, resolve
from aisandbox_process.grpc_direct.stream_server import StreamAborted, StreamHandler, StreamServer

__all__ = [
    "Admit",
    "Answer",
    "AsyncStreams",
    "BidirectionalMethod",
    "ClientStream",
    "MethodServer",
    "Methods",
    "ServedStream",
    "StreamAborted",
    "StreamEnded",
    "StreamHandler",
    "StreamInbox",
    "StreamServer",
    "StreamingMethod",
    "Take",
    "UnaryMethod",
    "async_streams",
    "direct_is_used",
    "open_stream",
    "resolve",
    "serve_methods",
    "serve_streams",
]
