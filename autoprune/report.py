"""What was pruned, what was not, and why: as data, as JSON, as a table for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from autoprune.analysis.cost import Cost
from autoprune.errors import AutopruneError
from autoprune.ir.files import write_atomically

if TYPE_CHECKING:
    from autoprune.backends.onnx import Latency

ROWS = 40
"""Groups shown in a table; JSON holds all of them."""


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
        analysis_seconds: processor time taken to find the groups, after export.
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

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read a report back.

        Raises:
            AutopruneError: if the text is no report.
        """
        try:
            data = json.loads(text)
            data["before"], data["after"] = Cost(**data["before"]), Cost(**data["after"])
            data["groups"] = tuple(_row(GroupRow, row) for row in data["groups"])
            data["pinned"] = tuple(_row(PinnedRow, row) for row in data["pinned"])
            for name in ("unknown_operators", "notes"):
                data[name] = tuple(data[name])
            if data["latency"] is not None:
                from autoprune.backends.onnx import Latency

                data["latency"] = Latency(**data["latency"])
            return cls(**data)
        except (KeyError, TypeError, ValueError) as error:
            raise AutopruneError(
                f"this is not a report: {type(error).__name__}: {error}",
                hint="a report is what Report.save or Report.to_json wrote",
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        write_atomically(path, self.to_json().encode())

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, highlight=False, emoji=False)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().strip().splitlines())

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [
            heading("Cost of one forward pass on the example inputs"), self._costs()
        ]  # fmt: skip
        if self.groups:
            count = _count(len(self.groups), "group")
            parts += [heading(f"{count} of slices that can only go together"), self._groups()]
            parts.extend(Text(line) for line in self._group_notes())
        if self.pinned:
            count = _count(len(self.pinned), "axis", "axes")
            parts += [heading(f"{count} kept whole, and why"), self._pinned()]
        if self._lines():
            parts.append(heading("Result" if self.module else "Note"))
            parts.extend(Text(line) for line in self._lines())
        return Group(*parts)

    @property
    def pruned(self) -> bool:
        """Whether any group lost units."""
        return any(row.kept < row.units for row in self.groups)

    def _costs(self) -> Table:
        table = plain_table()
        table.show_header = self.pruned
        table.add_column("")
        table.add_column("before", justify="right", no_wrap=True)
        if self.pruned:
            table.add_column("after", justify="right", no_wrap=True)
            table.add_column("", justify="right", no_wrap=True)
        rows: list[tuple[str, float, float, Any]] = [
            ("parameters", self.before.params, self.after.params, quantity),
            ("FLOPs", self.before.flops, self.after.flops, quantity),
            ("activation memory", self.before.memory, self.after.memory, _bytes),
        ]
        for label, before, after, show in rows:
            cells = [label, show(before)]
            if self.pruned:
                cells += [show(after), f"{after / before:.1%}" if before else ""]
            table.add_row(*cells)
        if self.latency is not None:
            slow, fast = self.latency.before, self.latency.after
            table.add_row(
                f"ONNX Runtime, {_count(self.latency.threads, 'thread')}",
                milliseconds(slow), milliseconds(fast), times_faster(slow, fast),
            )  # fmt: skip
        return table

    def _groups(self) -> Table:
        table = plain_table()
        table.add_column("group", overflow="fold")
        table.add_column("units", justify="right", no_wrap=True)
        table.add_column("guarantee", no_wrap=True)
        table.add_column("also in", overflow="fold")
        for row in self.groups[:ROWS]:
            units = f"{row.units} -> {row.kept}" if row.kept < row.units else str(row.units)
            table.add_row(row.name, units, row.guarantee, _others(row))
        if len(self.groups) > ROWS:
            table.add_row(f"and {len(self.groups) - ROWS} more, see the JSON report")
        return table

    def _group_notes(self) -> list[str]:
        """Why groups are not zero-invariant or were left alone, once for each reason."""
        by_reason: dict[str, list[str]] = {}
        for row in self.groups:
            if row.reason:
                note = f"{row.guarantee}, {row.reason.split(' (')[0]}"
                by_reason.setdefault(note, []).append(row.name)
        return [
            f"{note}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for note, names in by_reason.items()
        ]

    def _pinned(self) -> Table:
        """Axes pinned for the same reason share a row."""
        by_reason: dict[str, list[PinnedRow]] = {}
        for row in self.pinned:
            by_reason.setdefault(row.reason.split(" (")[0], []).append(row)
        table = plain_table()
        table.add_column("because", overflow="fold")
        table.add_column("axes", justify="right", no_wrap=True)
        table.add_column("such as (size)", overflow="fold")
        for reason, rows in by_reason.items():
            largest = sorted(rows, key=lambda r: -r.size)[:2]
            shown = ", ".join(f"{r.where[0]} ({r.size})" for r in largest)
            table.add_row(reason, str(len(rows)), shown)
        return table

    def _lines(self) -> list[str]:
        lines = list(self.notes)
        if self.module == "same class":
            lines.append("The pruned network is of the model's own class.")
        elif self.module:
            lines.append(f"The pruned network is a {self.module}: {self.module_reason}.")
        if self.module:
            lines.append(f"{_EXACT} {self.error:.1e} (relative).")
        if self.approximate_error is not None:
            lines.append(
                "Approximate groups were cut too: the outputs then differ from the zeroed "
                f"network's by {self.approximate_error:.1e} (relative)."
            )
        if self.unknown_operators:
            names = ", ".join(self.unknown_operators)
            lines.append(f"Operators without a rule, whose axes are kept whole: {names}")
        return lines


_EXACT = "Its outputs and those of the original with the same units set to zero differ by at most"


def _row(kind: Any, data: dict[str, Any]) -> Any:
    return kind(**{**data, "where": tuple(data["where"])})


def heading(text: str) -> Text:
    """The line above a table."""
    return Text(f"\n{text}", style="bold")


def plain_table() -> Table:
    """An empty table as all of ours look."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
    )


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _others(row: GroupRow) -> str:
    """The next place after the one in the name, without the path they share, and a count."""
    if len(row.where) < 2:
        return ""
    here, other = row.name.split("."), row.where[1].split(".")
    shared = 0
    while shared < min(len(here), len(other)) - 1 and here[shared] == other[shared]:
        shared += 1
    place = "." * (shared > 0) + ".".join(other[shared:])
    return place if len(row.where) == 2 else f"{place} and {len(row.where) - 2} more"


def quantity(n: float) -> str:
    """A count with a decimal prefix: 1234567 becomes 1.23 M."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.2f} {prefix}"
    return f"{n:.0f}"


def _bytes(n: float) -> str:
    return f"{quantity(n)}B" if n >= 1e3 else f"{n:.0f} B"


def milliseconds(t: float) -> str:
    """A duration, to three digits or so."""
    return f"{t:.3g} ms" if t < 100 else f"{t:.0f} ms"


def times_faster(before: float, after: float) -> str:
    """How much less time, in words."""
    return f"{before / after:.2f}x faster" if before >= after else f"{after / before:.2f}x slower"
