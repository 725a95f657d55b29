"""Which weights become sparse, and in which format each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, TypeVar

from autoprune.errors import FormatError
from autoprune.passes.patterns import check_patterns, first_match
from autoprune.passes.sparsify.layout import Format
from autoprune.passes.sparsify.specs import FormatSpec, check_spec, format_for

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SparseWeight:
    """A weight that becomes sparse, and how it is a matrix.

    Attributes:
        name: of the parameter.
        format: as a matrix [outputs, kernel * inputs].
        dims: its shape, [outputs, inputs, *kernel].
        transposed: whether the parameter is stored as [inputs, outputs].
    """

    name: str
    format: Format
    dims: tuple[int, ...]
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the matrix."""
        return self.dims[0], prod(self.dims[1:])

    def matrix(self, tensor: T) -> T:
        """A tensor or array of the parameter's shape as a matrix.

        Inputs run fastest, so that a pattern along them is one of inputs at the same tap.
        """
        values: Any = tensor
        if self.transposed:
            found: T = values.T
        else:
            found = values.reshape(*self.dims[:2], -1).swapaxes(1, 2).reshape(self.shape)
        return found

    def tensor(self, matrix: T) -> T:
        """A matrix in the shape of the parameter; not always contiguous."""
        values: Any = matrix
        if self.transposed:
            found: T = values.T
        else:
            outputs, inputs = self.dims[:2]
            found = values.reshape(outputs, -1, inputs).swapaxes(1, 2).reshape(self.dims)
        return found


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
    others: Mapping[str, str] | None = None,
) -> tuple[list[tuple[Candidate[T], Format]], dict[str, str]]:
    """The weights that become sparse with their formats, and why others stay dense, by name.

    Args:
        candidates: the weights.
        format: one for all, or by names and patterns; the first pattern that matches counts.
        ignore: names or patterns of weights to leave dense.
        names: those that exist.
        others: why what is no candidate stays dense, by name.

    Raises:
        AutopruneError: if a pattern matches nothing.
        FormatError: if a format is unknown, or fits no weight.
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
            found, obstacle = format_for(spec, candidate.dims)
        if found is None:
            reasons[candidate.names[0]] = obstacle
        else:
            chosen.append((candidate, found))
    reasons.update(others or {})
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3])
        raise FormatError(
            f"there is no layer for the format {format!r}" + (f" ({why})" if why else ""),
            hint="give a smaller format, or formats by name: format={'encoder.*': 'block 8x1'}",
        )
    return chosen, reasons
