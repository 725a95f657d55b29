"""Writing folders so that nobody sees half of one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_free(path: str | Path) -> None:
    """Check that a folder can be made at a path.

    Raises:
        OSError: if there is something but an empty folder, or the folder it is in does not exist.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(errno.EEXIST, "there is something already", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no folder to make it in", str(path))


@contextmanager
def making_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block succeeds.

    Raises:
        OSError: as `check_free`, or if it cannot be written to; nothing is written then.
    """
    check_free(path)
    target = Path(path)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
