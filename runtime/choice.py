"""Whether native code runs, and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .archive import Archive
from .cpu import this_cpu
from .engine import Provider, start
from .errors import TargetError
from .manifest import Library
from .native import choose_library

_UNTRUSTED = (
    "the artifact's native code is not loaded, because nothing says that it can be trusted, and "
    "the standard model runs; pass digest= (--digest) as printed when it was compiled, or "
    "trust_native=True (--trust-native)"
)


@dataclass(frozen=True, slots=True)
class Started:
    """A model of an artifact that is ready to run.

    Attributes:
        session: the `onnxruntime.InferenceSession`.
        stored: the members that test vectors are in.
        library: the native code that it runs with, or None for the standard model.
        notice: why the standard model runs although there is native code, or None.
    """

    session: Any
    stored: dict[str, bytes]
    library: Library | None
    notice: str | None

    @property
    def backend(self) -> str:
        """What runs: `native` and the library's label, or `dense` for the standard model."""
        return f"native {self.library.label}" if self.library else "dense"


def start_chosen(
    archive: Archive,
    *,
    trusted: bool,
    native: bool = True,
    fallback: bool = False,
    threads: int | None = None,
    providers: Sequence[Provider] | None = None,
) -> Started:
    """Start the native code of an artifact, or its standard model.

    Args:
        archive: the artifact; all of it is checked.
        trusted: whether the caller vouches for the artifact.
        native: whether to run native code at all.
        fallback: where the native code does not run, run the standard model rather than raise.
        threads: as for `start`.
        providers: as for `start`.

    Raises:
        ArtifactError: as `start`.
        TargetError: as `start`, or if no library is for this processor.
    """
    notice = None
    if native and archive.manifest.libraries and not trusted:
        notice = _UNTRUSTED
    elif native and archive.manifest.libraries:
        try:
            library = choose_library(archive.manifest.libraries, this_cpu())
            return Started(*start(archive, library, threads, providers), library, None)
        except TargetError as error:
            if not fallback:
                raise
            notice = f"{error.what}; the standard model runs"
    return Started(*start(archive, None, threads, providers), None, notice)
