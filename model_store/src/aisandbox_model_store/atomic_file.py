"""Durable and atomic writes: after a crash a file or folder is complete or absent.

Owns fsync, temporary names and the recognition of a full disk. Must not know what is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from aisandbox_model_store.errors import DiskFull, ModelStoreError

_FULL_ERRORS = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_FULL_BYTES = 1 << 20
"""Below this number of free bytes a failed write means a full disk, whatever its exception (torch: RuntimeError)."""


def write_atomically(path: Path, data: bytes, *, is_private: bool = False) -> None:
    """Replace the file ``path`` by one that holds ``data``, durably; its folder must exist.

    ``is_private``: only the owner may read it.

    Readers see the old bytes or the new ones. Raises DiskFull, or OSError; then the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    with remove_on_error(temporary), raise_disk_full(path.parent):  # checked before the temporary is removed
        write_durably(temporary, data, 0o600 if is_private else 0o666)
        os.replace(temporary, path)
    sync_folder(path.parent)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file, with the permissions that ``mode`` and the umask leave, and flush it to the disk.

    Raises FileExistsError, OSError.
    """
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Flush a file that other code has written to the disk. Raises OSError."""
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_folder(path: Path) -> None:
    """Make the folder ``path`` and the missing ones above it, so that they survive a power cut.

    Raises DiskFull, OSError.
    """
    if path.is_dir():
        return
    create_folder(path.parent)
    with raise_disk_full(path.parent):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut. Raises OSError."""
    if os.name == "nt":  # Windows has no such call; NTFS journals renames
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def raise_disk_full(folder: Path) -> Iterator[None]:
    """Raise DiskFull for an exception of the block if the disk of ``folder`` is full."""
    try:
        yield
    except ModelStoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL_ERRORS:
            raise DiskFull(folder) from error
        if _is_full(folder):
            raise DiskFull(folder) from error
        raise


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


@contextlib.contextmanager
def remove_on_error(path: Path) -> Iterator[None]:
    """Remove the temporary file or folder ``path`` when the block fails, whatever the reason."""
    try:
        yield
    except BaseException:
        discard(path)
        raise


def discard(path: Path) -> None:
    """Remove a file or folder as far as possible; never raises."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
