"""The container: a zip file with one possible form for given contents.

Zip leaves room for what an artifact has no use for and readers disagree about: bytes before,
between and after the members, local headers that contradict the directory, links, encryption,
comments, dates, zip64. Here each of those fields has one value, and the reader refuses any other,
so every program sees in an artifact what this one does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .errors import ArtifactError
from .manifest import MAX_MEMBERS
from .manifest_reader import MEMBER_NAME

STORED, DEFLATED = 0, 8
MAX_RATIO = 200
"""How many times smaller a member may be compressed; what compresses better is stored as it is."""
MAX_FILE_SIZE = 2**32 - 1

_LOCAL = struct.Struct("<4s5H3I2H")
_RECORD = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")

_VERSION = 20  # the first that deflates
_UNIX = 3 << 8
_FLAGS = 0
_TIME, _DATE = 0, 1 << 5 | 1  # midnight of 1980-01-01, the first there is
_REGULAR_FILE = 0o100644 << 16

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a member lies, and how.

    Attributes:
        name: its name.
        method: STORED or DEFLATED.
        crc: the CRC-32 of its bytes.
        packed: how many bytes it takes in the file.
        size: how many bytes it has.
        offset: where its local header begins.
    """

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int

    def header(self) -> bytes:
        """What stands before its bytes."""
        name = self.name.encode()
        return _LOCAL.pack(
            b"PK\3\4", _VERSION, _FLAGS, self.method, _TIME, _DATE,
            self.crc, self.packed, self.size, len(name), 0,
        ) + name  # fmt: skip

    def record(self) -> bytes:
        """What the directory at the end of the file says of it."""
        name = self.name.encode()
        return _RECORD.pack(
            b"PK\1\2", _UNIX | _VERSION, _VERSION, _FLAGS, self.method, _TIME, _DATE,
            self.crc, self.packed, self.size, len(name), 0, 0, 0, 0, _REGULAR_FILE, self.offset,
        ) + name  # fmt: skip

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.offset + _LOCAL.size + len(self.name.encode()) + self.packed


def end_record(count: int, size: int, offset: int) -> bytes:
    """The last bytes of the file: how many records the directory has, its size and offset."""
    return _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)


def read_directory(file: BinaryIO) -> tuple[Entry, ...]:
    """The members of a container, in order.

    Raises:
        ArtifactError: if the file has any other form than the one this format allows.
    """
    size = file.seek(0, 2)
    if size > MAX_FILE_SIZE:
        raise ArtifactError("the file is too large for an artifact", where=file.name)
    if size < _END.size or _at(file, 0, 4) != b"PK\3\4":
        raise ArtifactError(
            "the file is no artifact",
            where=file.name,
            hint="artifacts are the .apz files that `autoprune compile` writes",
        )
    end = _at(file, size - _END.size, _END.size)
    count, length, offset = _END.unpack(end)[4:7]
    if end != end_record(count, length, offset) or offset + length != size - _END.size:
        raise ArtifactError(
            "the file is truncated, or something was added to it",
            where=file.name,
            hint="copy the artifact again",
        )
    if count > MAX_MEMBERS + 1:
        raise ArtifactError(f"the artifact has more than {MAX_MEMBERS} members", where=file.name)
    entries = tuple(_records(_at(file, offset, length), file))
    if len(entries) != count or (entries[-1].end if entries else 0) != offset:
        raise ArtifactError("the artifact's directory is damaged", where=file.name)
    for entry in entries:
        header = entry.header()
        if _at(file, entry.offset, len(header)) != header:
            raise ArtifactError(
                "the member's header contradicts the directory", where=member_of(entry.name, file)
            )
    return entries


def _records(directory: bytes, file: BinaryIO) -> Iterator[Entry]:
    place = position = 0
    names: set[str] = set()
    while place < len(directory):
        if len(directory) - place < _RECORD.size:
            raise ArtifactError("the artifact's directory is damaged", where=file.name)
        fields = _RECORD.unpack_from(directory, place)
        method, offset = fields[4], fields[16]
        crc, packed, size, length = fields[7:11]
        start = place + _RECORD.size
        name = directory[start : start + length].decode("ascii", errors="replace")
        where = member_of(name, file)
        if not MEMBER_NAME.fullmatch(name):
            raise ArtifactError("a member has a name that is not allowed", where=where)
        if name in names:
            raise ArtifactError("a member occurs twice", where=where)
        names.add(name)
        entry = Entry(name, method, crc, packed, size, offset)
        record = entry.record()
        if directory[place : place + len(record)] != record or entry.offset != position:
            raise ArtifactError("a member has properties that are not allowed", where=where)
        if entry.method not in (STORED, DEFLATED):
            raise ArtifactError("a member is packed in an unknown way", where=where)
        if entry.method == STORED and entry.packed != entry.size:
            raise ArtifactError("a member's sizes contradict each other", where=where)
        if entry.size > entry.packed * MAX_RATIO:
            raise ArtifactError("a member is packed too tightly to be honest", where=where)
        yield entry
        place += len(record)
        position = entry.end


def member_of(name: str, file: BinaryIO) -> str:
    """How messages call a member."""
    return f"{ascii(name)[1:-1]} in {file.name}"


def chunks(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The bytes of a member, piece by piece, and never more than `entry.size` of them.

    Raises:
        ArtifactError: while iterating, if they do not unpack to that size and checksum.
    """
    file.seek(entry.offset + len(entry.header()))
    crc = size = 0
    for chunk in _unpacked(file, entry):
        size += len(chunk)
        if size > entry.size:
            break
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if size != entry.size or crc != entry.crc:
        raise _damaged(file, entry)


def _unpacked(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    left = entry.packed

    def read() -> bytes:
        nonlocal left
        data = file.read(min(left, _CHUNK))
        left -= len(data)
        return data

    if entry.method == STORED:
        yield from iter(read, b"")
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflate.eof:
        data = inflate.unconsumed_tail or read()
        try:
            chunk = inflate.decompress(data, _CHUNK)
        except zlib.error as error:
            raise _damaged(file, entry) from error
        if not data and not chunk:
            raise _damaged(file, entry)
        yield chunk
    if inflate.unused_data or left:
        raise _damaged(file, entry)


def _damaged(file: BinaryIO, entry: Entry) -> ArtifactError:
    return ArtifactError(
        "the member is damaged",
        where=member_of(entry.name, file),
        hint="copy the artifact again",
    )


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
