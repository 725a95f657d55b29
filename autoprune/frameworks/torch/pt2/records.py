"""The archive: a zip file whose members are stored as they are.

torch writes no other, and only such ones are as small in memory as they are on disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO


class Refused(Exception):
    """Something in a file that is never loaded; the message names it."""


@dataclass(frozen=True)
class Records:
    """The members of an archive, by their names below its one folder."""

    _archive: zipfile.ZipFile
    _members: Mapping[str, zipfile.ZipInfo]

    def names(self, start: str = "") -> list[str]:
        """Names of the members, or of those that begin with `start`."""
        return [name for name in self._members if name.startswith(start)]

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            ValueError: if there is none of that name.
        """
        if name not in self._members:
            raise ValueError(f"it lacks {name}")
        return self._archive.read(self._members[name])


@contextmanager
def open_records(file: BinaryIO) -> Iterator[Records]:
    """The members of an archive.

    Raises:
        Refused: if they are compressed, overlap, or two have one name.
        zipfile.BadZipFile: if it is no archive.
    """
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = member.filename.partition("/")[2]
            if member.compress_type != zipfile.ZIP_STORED:
                raise Refused(f"compressed data ({name})")
            if name in members:
                raise Refused(f"two members called {name!r}")
            members[name] = member
        if sum(member.file_size for member in members.values()) > size:
            raise Refused("members that overlap")
        yield Records(archive, members)
