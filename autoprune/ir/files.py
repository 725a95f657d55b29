"""Files: written all at once or not at all, and read only if they are files.

What is written goes into a new file in the target's folder, under a name that nobody can guess and
that is never opened through a link. It takes the target's place when it is complete. A link at the
target is replaced itself; what it points at stays as it was.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
_NEW |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# A pipe that nobody writes to would be waited for.
_OLD = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_OLD |= getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_FILE = "it is a folder, pipe or device, not a file"


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block succeeds, and else is gone.

    Raises:
        OSError: if the folder does not exist, cannot be written to or is full, or there is
            something at `path` that is no file; nothing is changed then.
    """
    with replacing_all(path) as (file,):
        yield file


@contextmanager
def replacing_all(*paths: str | Path) -> Iterator[tuple[BinaryIO, ...]]:
    """As `replacing`, for files that belong together: all are replaced, or none is.

    The first one refers to the others, so it is never there without them. One of the others that
    stays empty is not written.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, _NO_FILE, str(target))
    made = {target: _beside(target) for target in targets}
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(_create(path)) for path in made.values())
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        _move({t: m for t, m in made.items() if t is targets[0] or m.stat().st_size})
    except OSError as error:
        if error.filename in (None, *map(str, made.values())):
            error.filename, error.filename2 = str(paths[0]), None
        raise
    finally:
        for path in made.values():
            path.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, all of it or nothing; errors as `replacing`."""
    with replacing(path) as file:
        file.write(data)


def read_file(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: if it cannot be read, or is a folder, pipe or device, which may have no end.
    """
    with open_file(path) as file:
        return file.read()


def open_file(path: str | Path) -> BinaryIO:
    """A file, open for reading; errors as `read_file`."""
    file = open(path, "rb", opener=lambda name, _: os.open(name, _OLD))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, _NO_FILE, str(path))
    return file


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(12)}.part")


def _create(path: Path) -> BinaryIO:
    return open(path, "w+b", opener=lambda name, _: os.open(name, _NEW, 0o666))


def _move(made: Mapping[Path, Path]) -> None:
    """Move files to their targets; what was there comes back if one cannot be moved."""
    first, *others = made
    if not others:
        made[first].replace(first)
        return
    kept = {target: _beside(target) for target in made if os.path.lexists(target)}
    try:
        for target, before in kept.items():
            target.replace(before)
        for target in (*others, first):
            made[target].replace(target)
    except BaseException:
        for target in (*others, first):
            if target in kept and os.path.lexists(kept[target]):
                kept[target].replace(target)
            elif target not in kept:
                target.unlink(missing_ok=True)
        raise
    for before in kept.values():
        before.unlink()
