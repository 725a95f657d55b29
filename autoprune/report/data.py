"""The report as plain data, and its JSON form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from autoprune.analysis.cost import Cost
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError
from autoprune.ir.files import write_atomically
from autoprune.ir.positions import Kept
from autoprune.report.latency import Latency, Spread


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group: its units, how many stay, what they cost, what removing the others does.

    Attributes:
        name: group name.
        units: units before.
        kept: units after.
        guarantee: `zero-invariant`, `masked`, `compensated` or `approximate`.
        where: parameter dimensions the group owns slices of, e.g. `fc.weight:1`.
        reason: why the guarantee is no stronger, or why the group was left alone.
        source: line of the user's code that the reason is about, or empty.
        params: share of the network's parameters that goes if a single unit stays.
        flops: the same of its FLOPs.
        unit_params: parameters that go with the first unit.
        unit_flops: FLOPs that go with the first unit.
        outer: the axis for each of whose units other units stay (heads, say), or empty.
    """

    name: str
    units: int
    kept: int
    guarantee: str
    where: tuple[str, ...]
    reason: str
    source: str = ""
    params: float = 0.0
    flops: float = 0.0
    unit_params: int = 0
    unit_flops: int = 0
    outer: str = ""


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """A parameter axis that cannot be pruned, and why.

    Attributes:
        name: as for groups.
        size: number of positions.
        where: parameter dimensions it occurs in.
        reason: why it cannot be pruned.
        node: name of the operator call that pins it, or empty.
        source: line of the user's code that makes this call, or empty.
    """

    name: str
    size: int
    where: tuple[str, ...]
    reason: str
    node: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class UnknownOperator:
    """An operator without a rule: how often it is called, and the first line that does."""

    name: str
    calls: int
    source: str = ""


@dataclass(frozen=True)
class Subject:
    """The network that a report is about, with the leaf of each group by name, for drawing it."""

    typed: TypedGraph
    leaves: Mapping[str, int]
    kept: Kept


@dataclass(frozen=True, repr=False)
class Report:
    """Before and after.

    Attributes:
        before: cost of the original network on the example inputs.
        after: cost of the pruned network; equal to `before` when nothing was pruned.
        least: cost if of every exact group a single unit stayed.
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
        inputs: the example inputs that costs are of, such as `x: float32[1,3,224,224]`.
        subject: the network itself; None in a report read from JSON, which does not hold it.
    """

    before: Cost
    after: Cost
    least: Cost
    groups: tuple[GroupRow, ...]
    pinned: tuple[PinnedRow, ...]
    unknown_operators: tuple[UnknownOperator, ...] = ()
    module: str = ""
    module_reason: str = ""
    error: float = 0.0
    approximate_error: float | None = None
    analysis_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    latency: Latency | None = None
    inputs: tuple[str, ...] = ()
    subject: Subject | None = field(default=None, repr=False, compare=False)

    @property
    def pruned(self) -> bool:
        """Whether any group lost units."""
        return any(row.kept < row.units for row in self.groups)

    def to_json(self) -> str:
        """Everything in the report except the network itself, as JSON text."""
        data = dataclasses.asdict(dataclasses.replace(self, subject=None))
        del data["subject"]
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read a report back.

        Raises:
            AutopruneError: if the text is no report.
        """
        try:
            data = json.loads(text)
            for name in ("before", "after", "least"):
                data[name] = Cost(**data[name])
            rows = {"groups": GroupRow, "pinned": PinnedRow, "unknown_operators": UnknownOperator}
            for name, kind in rows.items():
                data[name] = tuple(kind(**_tuples(row)) for row in data[name])
            for name in ("notes", "inputs"):
                data[name] = tuple(data.get(name, ()))
            if data["latency"] is not None:
                latency = dict(data["latency"])
                for name in ("before_spread", "after_spread"):
                    if latency.get(name) is not None:
                        latency[name] = Spread(*latency[name])
                data["latency"] = Latency(**latency)
            return cls(**data)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise AutopruneError(
                f"this is not a report: {type(error).__name__}: {error}",
                hint="a report is what Report.save or Report.to_json wrote",
            ) from error

    def to_html(self, title: str = "autoprune") -> str:
        """The report as one HTML page that needs nothing else."""
        from autoprune.report.html import page

        return page(self, title)

    def save(self, path: str | Path) -> None:
        """Write the report, as a page (`.html`) or as JSON (`.json`).

        Raises:
            AutopruneError: if the suffix is another one.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in (".html", ".htm", ".json"):
            raise AutopruneError(
                f"cannot save a report as {suffix or 'a file without suffix'}",
                where=str(target),
                hint="use .html for a page with the network drawn, or .json for the data",
            )
        text = self.to_json() if suffix == ".json" else self.to_html(target.stem)
        write_atomically(target, text.encode())

    def table(self, *, everything: bool = False) -> RenderableType:
        """The report for a terminal, cut short unless `everything` is asked for."""
        from autoprune.report.tables import render

        return render(self, everything=everything)

    def text(self, *, everything: bool = False) -> str:
        """The same as plain text of any width, for files and pipes: no name is broken."""
        from autoprune.report.tables import plain_text, render

        return plain_text(render(self, everything=everything, whole=True))

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        from autoprune.report.tables import summary

        return "\n".join(["Report: print it for the tables", *summary(self)])

    def _repr_html_(self) -> str:
        from autoprune.report.notebook import report_html

        return report_html(self)

    def __rich__(self) -> RenderableType:
        return self.table()


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(value) if isinstance(value, list) else value for k, value in row.items()}
