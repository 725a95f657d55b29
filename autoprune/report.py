"""What was pruned, what was not, and why: as data, as JSON, as a table for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from autoprune.analysis.cost import Cost
from autoprune.ir.files import write_atomically

if TYPE_CHECKING:
    from autoprune.backends.onnx import Latency


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group: its units, how many stay, and what removing the others does.

    Attributes:
        name: group name.
        units: units before.
        kept: units after.
        guarantee: `zero-invariant`, `masked`, `compensated` or `approximate`.
        where: parameter dimensions the group owns slices of, e.g. `fc.weight:1`.
        reason: why the guarantee is no stronger, or why the group was left alone.
    """

    name: str
    units: int
    kept: int
    guarantee: str
    where: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """A parameter axis that cannot be pruned, and why."""

    name: str
    size: int
    where: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Report:
    """Before and after.

    Attributes:
        before: cost of the original network on the example inputs.
        after: cost of the pruned network; equal to `before` when nothing was pruned.
        groups: every group.
        pinned: every parameter axis outside the groups.
        unknown_operators: operators without a rule; all they touch is pinned.
        module: `same class` or `GraphModule`.
        module_reason: why the result is a GraphModule, or empty.
        error: largest relative difference between cut and zeroed network over exact groups.
        approximate_error: the same with approximate groups cut as well, or None without any.
        analysis_seconds: time taken to find the groups, after export.
        notes: what a reader should know, such as why little could be pruned.
        latency: measured in ONNX Runtime, or None if it was not.
    """

    before: Cost
    after: Cost
    groups: tuple[GroupRow, ...]
    pinned: tuple[PinnedRow, ...]
    unknown_operators: tuple[str, ...] = ()
    module: str = ""
    module_reason: str = ""
    error: float = 0.0
    approximate_error: float | None = None
    analysis_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    latency: Latency | None = None

    def to_json(self) -> str:
        """Everything in the report as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        write_atomically(path, self.to_json().encode())

    def __str__(self) -> str:
        console = Console(width=110, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._costs()]
        if self.groups:
            parts.append(self._groups())
        if self.pinned:
            parts.append(self._pinned())
        parts.extend(Text(line) for line in self._lines())
        return Group(*parts)

    def _costs(self) -> Table:
        pruned = self.after != self.before
        table = Table(title="Cost on the example inputs", title_justify="left")
        table.add_column("")
        table.add_column("before", justify="right")
        if pruned:
            table.add_column("after", justify="right")
            table.add_column("kept", justify="right")
        rows: list[tuple[str, float, float, Any]] = [
            ("parameters", self.before.params, self.after.params, quantity),
            ("FLOPs", self.before.flops, self.after.flops, quantity),
            ("activation memory", self.before.memory, self.after.memory, _bytes),
        ]
        if self.latency is not None:
            label = f"latency, ONNX Runtime, {self.latency.threads} thread(s)"
            rows.append((label, self.latency.before, self.latency.after, _milliseconds))
        for label, before, after, show in rows:
            cells = [label, show(before)]
            if pruned:
                cells += [show(after), f"{after / before:.1%}" if before else "-"]
            table.add_row(*cells)
        return table

    def _groups(self) -> Table:
        table = Table(title=f"Groups ({len(self.groups)})", title_justify="left")
        for column in ("group", "kept", "guarantee", "slices", "note"):
            table.add_column(column, justify="right" if column == "kept" else "left",
                             overflow="fold")
        for row in self.groups:
            more = f" and {len(row.where) - 1} more" if len(row.where) > 1 else ""
            table.add_row(
                row.name, f"{row.kept}/{row.units}", row.guarantee, f"{row.where[0]}{more}",
                row.reason,
            )  # fmt: skip
        return table

    def _pinned(self) -> Table:
        """Axes pinned for the same reason share a row."""
        by_reason: dict[str, list[PinnedRow]] = {}
        for row in self.pinned:
            by_reason.setdefault(row.reason.split(" (")[0], []).append(row)
        table = Table(title=f"Pinned axes ({len(self.pinned)})", title_justify="left")
        for column in ("why", "axes", "such as"):
            table.add_column(column, overflow="fold")
        for reason, rows in by_reason.items():
            largest = sorted(rows, key=lambda r: -r.size)[:3]
            shown = ", ".join(f"{r.where[0]} ({r.size})" for r in largest)
            table.add_row(reason, str(len(rows)), shown)
        return table

    def _lines(self) -> list[str]:
        lines = list(self.notes)
        if self.module:
            because = f": {self.module_reason}" if self.module_reason else ""
            lines.append(f"The result is of the {self.module}{because}" if not because
                         else f"The result is a {self.module}{because}")
            lines.append(f"Cut and zeroed network differ by {self.error:.1e} (relative).")
        if self.approximate_error is not None:
            lines.append(
                f"With the approximate groups the outputs change by {self.approximate_error:.1e} "
                "(relative)."
            )
        if self.unknown_operators:
            names = ", ".join(self.unknown_operators)
            lines.append(f"Operators without a rule, whose axes are pinned: {names}")
        return lines


def quantity(n: float) -> str:
    """A count with a decimal prefix: 1234567 becomes 1.23 M."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.2f} {prefix}"
    return f"{n:.0f}"


def _bytes(n: float) -> str:
    return f"{quantity(n)}B" if n >= 1e3 else f"{n:.0f} B"


def _milliseconds(t: float) -> str:
    return f"{t:.3f} ms"
