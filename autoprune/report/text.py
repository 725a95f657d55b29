"""The report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autoprune.report.quantities import (
    count,
    milliseconds,
    quantity,
    share,
    size_in_bytes,
    times_faster,
)

if TYPE_CHECKING:
    from autoprune.report.data import GroupRow, PinnedRow, Report

ROWS = 40
"""Groups shown unless everything is asked for."""

EXAMPLES = 2
"""Axes shown for each reason unless everything is asked for."""

_EXACT = "Its outputs and those of the original with the same units set to zero differ by at most"


def render(report: Report, *, everything: bool) -> RenderableType:
    """The whole report; `everything` lists each group and each axis."""
    parts: list[RenderableType] = [heading("Cost of one forward pass on the example inputs")]
    parts.append(_costs(report))
    if report.groups:
        shown = report.groups if everything else report.groups[:ROWS]
        groups = count(len(report.groups), "group")
        parts += [heading(f"{groups} of slices that can only go together"), _groups(shown)]
        if len(shown) < len(report.groups):
            more = len(report.groups) - len(shown)
            parts.append(Text(f"and {more} more, shown by --all and in the JSON and HTML reports"))
        parts.append(Text(_SHARES, style="dim"))
        parts.extend(Text(line) for line in _group_notes(report.groups))
    if report.pinned:
        axes = count(len(report.pinned), "axis", "axes")
        parts.append(heading(f"{axes} kept whole, and why"))
        parts.append(_pinned(report.pinned, everything=everything))
    if report.unknown_operators:
        parts.append(heading("Operators without a rule; the axes they touch are kept whole"))
        parts.append(_unknown(report))
    lines = remarks(report)
    if lines:
        parts.append(heading("Result" if report.module else "Note"))
        parts.extend(Text(line) for line in lines)
    return Group(*parts)


_SHARES = "params, FLOPs: the share of the network's that goes if one unit of the group stays"


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
        padding=(0, 1, 0, 0),
    )


def _costs(report: Report) -> Table:
    before, after, least = report.before, report.after, report.least
    table = plain_table()
    table.add_column("")
    table.add_column("before", justify="right", no_wrap=True)
    if report.pruned:
        table.add_column("after", justify="right", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    table.add_column("prunable", justify="right", no_wrap=True)
    rows: list[tuple[str, float, float, float, Any]] = [
        ("parameters", before.params, after.params, least.params, quantity),
        ("FLOPs", before.flops, after.flops, least.flops, quantity),
        ("activation memory", before.memory, after.memory, least.memory, size_in_bytes),
    ]
    for label, old, new, small, show in rows:
        cells = [label, show(old)]
        if report.pruned:
            cells += [show(new), f"{new / old:.1%}" if old else ""]
        table.add_row(*cells, share(1 - small / old) if old else "")
    if report.latency is not None:
        slow, fast = report.latency.before, report.latency.after
        table.add_row(
            f"ONNX Runtime, {count(report.latency.threads, 'thread')}",
            milliseconds(slow), milliseconds(fast), times_faster(slow, fast),
        )  # fmt: skip
    return table


def _groups(rows: Iterable[GroupRow]) -> Table:
    table = plain_table()
    table.add_column("group", overflow="fold")
    table.add_column("units", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("guarantee", no_wrap=True)
    table.add_column("also in", overflow="fold", max_width=24)
    for row in rows:
        units = f"{row.units} -> {row.kept}" if row.kept < row.units else str(row.units)
        units += " each" if row.outer else ""
        table.add_row(
            Text(row.name), units, share(row.params), share(row.flops), row.guarantee,
            Text(_others(row)),
        )  # fmt: skip
    return table


def _others(row: GroupRow) -> str:
    """The first place in another module, as short as can be, and how many more there are.

    Weights are meant where no parameter is named: `.conv2:1 +3`.
    """
    if len(row.where) < 2:
        return ""
    home = row.where[0].rpartition(".")[0]
    place = next((w for w in row.where[1:] if w.rpartition(".")[0] != home), row.where[1])
    *outer, parameter = place.split(".")
    inner = outer[-2:] if outer and outer[-1].isdigit() else outer[-1:]
    if inner and not inner[-1].isdigit():
        parameter = parameter.removeprefix("weight")
    short = "." * (len(inner) < len(outer)) + ".".join([*inner, parameter]).replace(".:", ":")
    return short if len(row.where) == 2 else f"{short} +{len(row.where) - 2}"


def _group_notes(rows: Iterable[GroupRow]) -> list[str]:
    """Why groups are not zero-invariant or were left alone, once for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            by_reason.setdefault(f"{row.guarantee}, {row.reason}", []).append(row.name)
        if row.outer:
            note = "each: other units stay for each unit of the outer axis"
            by_reason.setdefault(note, []).append(f"{row.name} per {row.outer}")
    return [
        f"{note}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for note, names in by_reason.items()
    ]


def _pinned(rows: Iterable[PinnedRow], *, everything: bool) -> Table:
    """Axes pinned for the same reason share a row: the reason, the largest axes, the code."""
    by_reason: dict[str, list[PinnedRow]] = {}
    for row in rows:
        by_reason.setdefault(row.reason, []).append(row)
    table = plain_table()
    table.add_column("axes", justify="right", no_wrap=True, vertical="top")
    table.add_column("because", overflow="fold")
    for reason, axes in by_reason.items():
        show = _every_axis if everything else _some_axes
        table.add_row(str(len(axes)), Group(Text(reason), Padding(show(axes), (0, 0, 0, 2))))
    return table


def _some_axes(rows: Sequence[PinnedRow]) -> RenderableType:
    largest = sorted(rows, key=lambda row: -row.size)[:EXAMPLES]
    axes = ", ".join(f"{row.where[0]} ({row.size})" for row in largest)
    lines = [Text(f"{axes} and {len(rows) - EXAMPLES} more" if len(rows) > EXAMPLES else axes)]
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    if sources:
        more = f"  and {count(len(sources) - 1, 'more line')}" if len(sources) > 1 else ""
        lines.append(Text(short_source(sources[0]) + more, style="dim"))
    return Group(*lines)


def _every_axis(rows: Sequence[PinnedRow]) -> RenderableType:
    """Every axis, below the line of code that pins it."""
    by_source: dict[str, list[str]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(f"{row.where[0]} ({row.size})")
    lines = []
    for source, axes in by_source.items():
        if source:
            lines.append(Text(short_source(source), style="dim"))
        lines.append(Text(", ".join(axes)))
    return Group(*lines)


def _unknown(report: Report) -> Table:
    table = plain_table()
    table.add_column("operator", overflow="fold")
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("first called at", overflow="fold")
    for row in report.unknown_operators:
        table.add_row(Text(row.name), str(row.calls), Text(short_source(row.source)))
    return table


def short_source(source: str) -> str:
    """A line of code without the folder that packages are installed in."""
    _, installed, rest = source.rpartition("/site-packages/")
    return rest if installed else source


def remarks(report: Report) -> list[str]:
    """What is to be said in sentences: notes, the kind of result, the measured differences."""
    lines = list(report.notes)
    if report.module == "same class":
        lines.append("The pruned network is of the model's own class.")
    elif report.module_reason:
        lines.append(f"The pruned network is a {report.module}: {report.module_reason}.")
    if report.module:
        lines.append(f"{_EXACT} {report.error:.1e} (relative).")
    if report.approximate_error is not None:
        lines.append(
            "Approximate groups were cut too: the outputs then differ from the zeroed "
            f"network's by {report.approximate_error:.1e} (relative)."
        )
    return lines
