"""How a process of the project begins: it reads its settings, sets up its log and gRPC's native core.

The names in ``__all__`` are for others and need only the standard library. The modules :mod:`.log`,
:mod:`.stop_signals`, :mod:`.fork_server`, :mod:`.passed_checks`, :mod:`.coroutines`, :mod:`.grpc_context`,
:mod:`.grpc_options`, :mod:`.connection_watch`, :mod:`.tls`, :mod:`.metrics_server` (extra ``metrics``),
:mod:`.grpc_tls`, :mod:`.grpc_direct`, :mod:`.local_streams` and :mod:`.grpc_reflection` (extra ``grpc``) are for
others too. Must not know what any process is for.
"""

from aisandbox_process.addresses import (
    GRPC_SCHEMES,
    InvalidHostPort,
    address_group,
    is_loopback,
    join_host_port,
    split_host_port,
)
from aisandbox_process.connection_limits import ConnectionLimits, connection_limits
from aisandbox_process.environ import (
    LOG_LEVELS,
    Environ,
    InvalidSetting,
    Network,
    choice,
    log_level,
    networks,
    port,
    positive_number,
    quoted,
    required,
    seconds,
    switch,
    whole_number,
)
from aisandbox_process.grpc_runtime import set_up_grpc
from aisandbox_process.texts import printable
from aisandbox_process.token_bucket import TokenBucket, bucket_of_log_lines

__all__ = [
    "GRPC_SCHEMES",
    "LOG_LEVELS",
    "ConnectionLimits",
    "Environ",
    "InvalidHostPort",
    "InvalidSetting",
    "Network",
    "TokenBucket",
    "address_group",
    "bucket_of_log_lines",
    "choice",
    "connection_limits",
    "is_loopback",
    "join_host_port",
    "log_level",
    "networks",
    "port",
    "positive_number",
    "printable",
    "quoted",
    "required",
    "seconds",
    "set_up_grpc",
    "split_host_port",
    "switch",
    "whole_number",
]
