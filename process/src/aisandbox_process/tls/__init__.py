"""TLS of servers and of channels: the files, their renewal while a process runs, and tokens that go with calls.

Needs only the standard library; :mod:`aisandbox_process.grpc_tls` makes gRPC's servers and channels of it. The modules
are internal. Must not know what is served, or who a token is for.
"""

from aisandbox_process.tls.channel_security import (
    PLAINTEXT,
    ChannelSecurity,
    InvalidChannelSecurity,
    checked_token,
    read_token,
    split_scheme,
)
from aisandbox_process.tls.problems import connection_problem, speaks_tls
from aisandbox_process.tls.server_certificate import ServerCertificate
from aisandbox_process.tls.server_files import ServerFiles, server_files

__all__ = [
    "PLAINTEXT",
    "ChannelSecurity",
    "InvalidChannelSecurity",
    "ServerCertificate",
    "ServerFiles",
    "checked_token",
    "connection_problem",
    "read_token",
    "server_files",
    "speaks_tls",
    "split_scheme",
]
