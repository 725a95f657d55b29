"""Which weights become sparse, and in which format each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoprune.passes.patterns import check_patterns, first_match
from autoprune.passes.sparsify.layout import Format
from autoprune.passes.sparsify.specs import FormatSpec, check_spec, format_for, none_found

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """A weight that may become sparse.

    Attributes:
        weight: in the form of its framework.
        names: by which it can be chosen; the first is its own.
        dims: its shape, [outputs, inputs, *kernel].
        obstacle: why no weight like this can become sparse.
        unusual: why it only does so if it is named.
    """

    weight: T
    names: tuple[str, ...]
    dims: tuple[int, ...]
    obstacle: str = ""
    unusual: str = ""


def select(
    candidates: Iterable[Candidate[T]],
    format: FormatSpec,
    ignore: Sequence[str],
    names: Sequence[str],
) -> tuple[list[tuple[Candidate[T], Format]], dict[str, str]]:
    """The weights that become sparse with their formats, and why others stay dense, by name.

    Args:
        candidates: the weights.
        format: one for all, or by names and patterns; the first pattern that matches counts.
        ignore: names or patterns of weights to leave dense.
        names: those that exist.

    Raises:
        AutopruneError: if a pattern matches nothing.
        FormatError: if a format is unknown.
    """
    named: Mapping[str, str | Format] = format if isinstance(format, Mapping) else {}
    check_patterns(ignore, names, "ignore")
    check_patterns(named, names, "format")
    check_spec(format)
    chosen: list[tuple[Candidate[T], Format]] = []
    reasons: dict[str, str] = {}
    for candidate in candidates:
        ignored, named_by = (first_match(p, candidate.names) for p in (ignore, tuple(named)))
        wanted = None if named_by is None else named[named_by]
        if isinstance(format, Mapping) and wanted is None:
            continue
        obstacle = candidate.obstacle or (candidate.unusual if wanted is None else "")
        if ignored is not None:
            obstacle = f"ignore={ignored!r}"
        found = None
        if not obstacle:
            spec = format if wanted is None else wanted
            assert not isinstance(spec, Mapping)
            kind = "conv" if len(candidate.dims) > 2 else "linear"
            found, obstacle = format_for(spec, candidate.dims, kind)
        if found is None:
            reasons[candidate.names[0]] = obstacle
        else:
            chosen.append((candidate, found))
    return chosen, reasons


def check_found(found: Sequence[object], format: FormatSpec, reasons: Mapping[str, str]) -> None:
    """Refuse to make nothing sparse.

    Raises:
        FormatError: if nothing was found.
    """
    if not found:
        raise none_found(format, reasons)
