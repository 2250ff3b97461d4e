"""Files in a run's folder, opened so that nobody who can write there can make the reader wait or fill its memory.

The code of a run writes into its folder: a named pipe in the place of a file would block whoever opens it, a link would
lead elsewhere, and a file may have any size. Must not know what the files are.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from aisandbox_model_store.errors import Damaged

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a named pipe is opened at once, and refused below
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises Damaged for anything but a regular file (a link too), OSError."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise Damaged(path, "is no regular file") from None
        raise
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    if not is_regular:
        os.close(descriptor)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise Damaged(path, "is no regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Return the contents, at most ``limit`` bytes. Raises Damaged for more, and as :func:`open_regular`; OSError."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Damaged(path, f"has more than {limit:,} bytes")
    return data
