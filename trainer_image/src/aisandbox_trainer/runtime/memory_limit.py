"""The bound of this process's memory: RLIMIT_DATA, so that an allocation fails instead of the whole machine.

RLIMIT_DATA counts private writable memory (the heap and anonymous mappings, since Linux 4.7). RLIMIT_AS would also
count what is only reserved: the address space of CUDA, files that are mapped, PyTorch's libraries. A cgroup of its own
needs permissions that a service has not. Must not know what needs the memory.
"""

from __future__ import annotations

import sys

import structlog

if sys.platform == "linux":
    import resource

log = structlog.get_logger(__name__)


def limit_memory(bound: int) -> bool:
    """Sets the soft limit of this process to ``bound`` bytes; whether that was possible.

    Never above a limit that exists. An allocation beyond it raises MemoryError, or PyTorch's RuntimeError.
    """
    if sys.platform != "linux":
        return False
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        known = [value for value in (soft, hard) if value != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min([bound, *known]), hard))
    except (OSError, ValueError) as error:
        log.warning("memory is not limited", error=str(error))
        return False
    return True
