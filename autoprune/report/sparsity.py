"""What became of the weights of a network that was made sparse, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from autoprune.report.notebook import paragraph, table
from autoprune.report.quantities import count
from autoprune.report.tables import (
    add_numbers,
    and_more,
    grouped,
    heading,
    plain_table,
    plain_text,
    prose,
)


@dataclass(frozen=True)
class SparseRow:
    """What became of a weight.

    Attributes:
        name: of the parameter.
        shape: outputs and inputs of the matrix.
        format: name of the format.
        sparsity: share of the weights that is removed.
        error: squared error of the layer's outputs on calibration data relative to the squared
            outputs; None without calibration.
    """

    name: str
    shape: tuple[int, int]
    format: str
    sparsity: float
    error: float | None = None


@dataclass(frozen=True, repr=False)
class SparsityReport:
    """What became sparse, and why the rest did not; prints as a table.

    Attributes:
        rows: the sparse weights.
        parameters: of the network, the sparse ones included.
        reasons: why other weights of layers stay dense, by name.
        notes: what else is to be said, in sentences.
    """

    rows: tuple[SparseRow, ...]
    parameters: int
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        """Share of the listed weights that is removed."""
        sizes = [row.shape[0] * row.shape[1] for row in self.rows]
        removed = sum(row.sparsity * size for row, size in zip(self.rows, sizes, strict=True))
        return removed / sum(sizes)

    def __str__(self) -> str:
        return plain_text(self.__rich__())

    def __repr__(self) -> str:
        return (
            f"SparsityReport: {self.sparsity:.1%} of the weights in "
            f"{count(len(self.rows), 'tensor')} are zero, "
            f"{count(len(self.reasons), 'tensor')} left dense; print it for the tables"
        )

    def _repr_html_(self) -> str:
        rows = [
            [row.name, "x".join(map(str, row.shape)), row.format, f"{row.sparsity:.1%}"]
            for row in self.rows
        ]
        return "".join((
            paragraph("Sparse weights", bold=True),
            table(["weight", "outputs x inputs", "format", "zero"], rows),
            *(paragraph(line) for line in (self._total(), *_reasons(self.reasons), *self.notes)),
        ))  # fmt: skip

    def __rich__(self) -> RenderableType:
        rows = plain_table()
        rows.add_column("weight", overflow="fold")
        add_numbers(rows, "outputs", "inputs")
        rows.add_column("format", no_wrap=True)
        calibrated = any(row.error is not None for row in self.rows)
        add_numbers(rows, "zero", *(["output error"] if calibrated else []))
        for row in self.rows:
            outputs, inputs = row.shape
            error = "" if row.error is None else f"{row.error:.2%}"
            cells = (str(outputs), str(inputs), row.format, f"{row.sparsity:.1%}", error)
            rows.add_row(Text(row.name), *cells[: 5 if calibrated else 4])
        parts: list[RenderableType] = [heading("Sparse weights"), rows, Text(self._total())]
        if self.reasons:
            parts.append(heading(f"{count(len(self.reasons), 'weight')} left dense"))
        parts.extend(prose(line) for line in (*_reasons(self.reasons), *self.notes))
        return Group(*parts)

    def _total(self) -> str:
        listed = sum(row.shape[0] * row.shape[1] for row in self.rows)
        return (
            f"{self.sparsity:.1%} of these weights are zero, "
            f"{self.sparsity * listed / max(1, self.parameters):.1%} of all parameters."
        )


def _reasons(reasons: Mapping[str, str]) -> list[str]:
    by_reason = grouped((why, name) for name, why in reasons.items())
    return [f"{and_more(names)}: {why}" for why, names in by_reason.items()]
