"""Opening an artifact: nothing of it is handed out before it equals what the manifest states."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .container import Entry, chunks, member_of, read_directory
from .errors import ArtifactError
from .files import open_file
from .manifest import MANIFEST_NAME, MAX_MANIFEST_SIZE, Manifest
from .manifest_reader import read_manifest

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Archive:
    """An artifact that is open for reading.

    Attributes:
        manifest: what it says about itself.
        digest: the SHA-256 of the manifest, in hexadecimal. The manifest states the SHA-256 of
            every member, so the digest stands for the whole artifact.
    """

    manifest: Manifest
    digest: str
    _file: BinaryIO
    _entries: Mapping[str, Entry]

    def read(self, names: Collection[str] = ()) -> dict[str, bytes]:
        """Check every member, and return the bytes of those named.

        Raises:
            ArtifactError: if a member, named or not, is not what the manifest states.
        """
        found: dict[str, bytes] = {}
        for name, entry in self._entries.items():
            digest = hashlib.sha256()
            data = bytearray()
            for chunk in chunks(self._file, entry):
                digest.update(chunk)
                if name in names:
                    data += chunk
            if digest.hexdigest() != self.manifest.members[name].sha256:
                raise ArtifactError(
                    "the member was changed: it is not the one the manifest states",
                    where=member_of(name, self._file),
                )
            if name in names:
                found[name] = bytes(data)
        return found


@contextmanager
def open_archive(path: str | Path, digest: str | None = None) -> Iterator[Archive]:
    """As `read_archive`, of the file at a path.

    Raises:
        ArtifactError: as `read_archive`.
        OSError: if the file cannot be read, or is none.
    """
    with open_file(path) as file:
        yield read_archive(file, digest)


def read_archive(file: BinaryIO, digest: str | None = None) -> Archive:
    """An artifact, with its manifest read and its members where the manifest says.

    Args:
        file: an open file.
        digest: the digest it must have, if one is known.

    Raises:
        ArtifactError: if it is no artifact, is damaged, or has another digest.
        OSError: if the file cannot be read.
    """
    if digest is not None and not _SHA256.fullmatch(digest):
        raise ArtifactError(f"{digest!r} is no digest: it takes 64 hexadecimal digits")
    entries = read_directory(file)
    data = _manifest_bytes(file, entries)
    found = hashlib.sha256(data).hexdigest()
    if digest is not None and found != digest:
        raise ArtifactError(
            f"the artifact has another digest: {found}",
            where=file.name,
            hint="use the artifact that the digest was printed for",
        )
    manifest = read_manifest(data)
    _check_members(file, entries[1:], manifest)
    return Archive(manifest, found, file, {entry.name: entry for entry in entries[1:]})


def _manifest_bytes(file: BinaryIO, entries: tuple[Entry, ...]) -> bytes:
    if not entries or entries[0].name != MANIFEST_NAME:
        raise ArtifactError(f"the file is no artifact: it lacks {MANIFEST_NAME}", where=file.name)
    if entries[0].size > MAX_MANIFEST_SIZE:
        raise ArtifactError("the manifest is too large", where=file.name)
    return b"".join(chunks(file, entries[0]))


def _check_members(file: BinaryIO, entries: tuple[Entry, ...], manifest: Manifest) -> None:
    sizes = {entry.name: entry.size for entry in entries}
    for name in sorted(sizes.keys() ^ manifest.members.keys()):
        what = "is not in the manifest" if name in sizes else "is missing"
        raise ArtifactError(f"a member {what}", where=member_of(name, file))
    if list(sizes) != sorted(sizes):
        raise ArtifactError("the members are out of order", where=file.name)
    for name, member in manifest.members.items():
        if sizes[name] != member.size:
            raise ArtifactError(
                f"the member has {sizes[name]} bytes, not {member.size} as the manifest states",
                where=member_of(name, file),
            )
