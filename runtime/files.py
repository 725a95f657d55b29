"""Files: written all at once or not at all, and read only if they are files.

As in `autoprune.ir.files`, which is not on the device.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
_NEW |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# A pipe that nobody writes to would be waited for.
_OLD = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_OLD |= getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block succeeds, and else is gone.

    It lies in the same folder under a name that nobody can guess, and no link is followed: one at
    `path` is replaced itself.

    Raises:
        OSError: if the folder does not exist, cannot be written to or is full, or there is a
            folder, pipe or device at `path`; nothing is changed then.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a folder, pipe or device, not a file", str(path))
    made = target.with_name(f".{secrets.token_hex(12)}.part")
    try:
        with open(made, "w+b", opener=lambda name, _: os.open(name, _NEW, 0o666)) as file:
            yield file
        made.replace(target)
    except OSError as error:
        if error.filename in (None, str(made)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        made.unlink(missing_ok=True)


def open_file(path: str | Path) -> BinaryIO:
    """A file, open for reading.

    Raises:
        OSError: if it cannot be read, or is a folder, pipe or device, which may have no end.
    """
    file = open(path, "rb", opener=lambda name, _: os.open(name, _OLD))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a folder, pipe or device, not a file", str(path))
    return file
