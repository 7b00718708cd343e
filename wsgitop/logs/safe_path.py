"""Opening a path as root where others may have laid links: none of theirs is followed.

Root's own links lead where root wants. A link in a directory that another user can write to leads wherever
that user wants: root would append to any file, and make files anywhere. So the path is walked a directory at
a time, each by the descriptor of the one before it, and a link counts as whose directory it lies in. Python
has no openat2(2), whose RESOLVE_NO_SYMLINKS would refuse root's links as well.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Final

MOST_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class ForeignLink(Exception):
    """The path has a link that somebody else can have laid. ``name`` is that component."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def open_as_root(path: str, flags: int, mode: int) -> int:
    """As os.open(). Raises ForeignLink, OSError."""
    directory_fd = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    parts = deque(_parts(path))
    followed = 0
    try:
        while parts:
            name = parts.popleft()
            is_last = not parts
            if is_link(name, directory_fd):
                followed += 1
                if followed > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if _others_can_write(os.fstat(directory_fd)):
                    raise ForeignLink(name)
                if not _is_of_proc(directory_fd):
                    target = os.readlink(name, dir_fd=directory_fd)
                    parts.extendleft(reversed(_parts(target)))
                    if target.startswith("/"):
                        os.close(directory_fd)
                        directory_fd = -1
                        directory_fd = os.open("/", _DIRECTORY)
                    continue
                # What /proc/self/fd/1 leads to need not have a path.
                follow = 0
            else:
                follow = os.O_NOFOLLOW
            if is_last:
                return os.open(name, flags | follow, mode, dir_fd=directory_fd)
            below_fd = os.open(name, _DIRECTORY | follow, dir_fd=directory_fd)
            os.close(directory_fd)
            directory_fd = below_fd
        return os.open(".", flags, mode, dir_fd=directory_fd)
    finally:
        if directory_fd >= 0:
            os.close(directory_fd)


def is_link(name: str, directory_fd: int) -> bool:
    """Whether ``name`` in that directory is a symbolic link; False if there is nothing."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _others_can_write(directory: os.stat_result) -> bool:
    """Whether somebody else than root can put a link there. Sticky directories like /tmp are left to the
    kernel, which follows no link of others in them (proc_sys_fs(5), protected_symlinks).
    """
    if directory.st_uid != 0:
        return True
    by_group = directory.st_mode & stat.S_IWGRP and directory.st_gid != 0
    return bool(by_group or directory.st_mode & stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX


def _is_of_proc(directory_fd: int) -> bool:
    try:
        return os.fstat(directory_fd).st_dev == os.stat("/proc").st_dev  # noqa: PTH116 - beside fstat
    except OSError:
        return False
