"""Files in a run's folder, opened so that nobody who can write there can make the reader wait or fill its memory.

The code of a run writes into its folder: a named pipe in the place of a file would block whoever opens it, a link in
the place of a file or folder would lead to the files of another run, and a file may have any size. Must not know what
the files are.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from aisandbox_model_store.errors import Damaged

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a named pipe is opened at once, and refused below
    | _NO_LINK
    | getattr(os, "O_BINARY", 0)
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_HAS_DESCRIPTORS = os.open in os.supports_dir_fd
"""Windows opens nothing relative to a folder's descriptor: there links are looked for before the file is opened."""

_JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
"""Windows' link to a folder, which everybody may make."""


def open_regular(path: Path, below: Path | None = None) -> BinaryIO:
    """Open a file for reading. ``below``: the folder that is trusted, None: that of the file.

    Raises Damaged for anything but a regular file, and for a link in the place of the file or of a folder between
    ``below`` and the file; OSError.
    """
    descriptor = _open(path, below or path.parent, _FILE)
    try:
        mode = os.fstat(descriptor).st_mode
    except BaseException:
        os.close(descriptor)
        raise
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise Damaged(path, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int, below: Path | None = None) -> bytes:
    """Return the contents, at most ``limit`` bytes. Raises Damaged for more, and as :func:`open_regular`; OSError."""
    with open_regular(path, below) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Damaged(path, f"has more than {limit:,} bytes")
    return data


def list_folder(path: Path, below: Path) -> dict[str, os.stat_result]:
    """Return what a folder holds and the status of each entry, of a link its own.

    Raises Damaged for a link in the place of a folder between ``below`` and this one, or of this one; OSError.
    """
    if not _HAS_DESCRIPTORS:
        _refuse_links(path, below)
        return {name: os.lstat(path / name) for name in os.listdir(path)}
    descriptor = _open(path, below, _FOLDER | _NO_LINK)
    try:
        return {name: os.stat(name, dir_fd=descriptor, follow_symlinks=False) for name in os.listdir(descriptor)}
    finally:
        os.close(descriptor)


def _open(path: Path, below: Path, flags: int) -> int:
    """Open ``path`` one folder after the other, so that no folder can be exchanged for a link in between."""
    if not _HAS_DESCRIPTORS:
        _refuse_links(path, below)
        return os.open(path, flags)
    *folders, name = path.relative_to(below).parts
    at = os.open(below, _FOLDER)
    try:
        for folder in folders:
            inner = _open_at(at, folder, path, _FOLDER | _NO_LINK)
            os.close(at)
            at = inner
        return _open_at(at, name, path, flags)
    finally:
        os.close(at)


def _open_at(folder: int, name: str, path: Path, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise Damaged(path, "is not a regular file") from None
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(folder, name):
            raise Damaged(path, f"is not a regular file of its own: {name!r} is a link") from None
        error.filename = str(path)
        raise


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return True  # exchanged meanwhile


def _refuse_links(path: Path, below: Path) -> None:
    for each in (path, *path.parents):
        if each == below:
            return
        if each.exists() and _leads_elsewhere(os.lstat(each)):
            raise Damaged(path, f"is not a regular file of its own: {each.name!r} is a link")


def _leads_elsewhere(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION
