"""The report as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
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
    from autoprune.report.latency import Latency

ROWS = 40
"""Groups shown unless everything is asked for."""

WIDTH = 100
"""Characters in a line of text that is for no terminal."""

EXAMPLES = 2
"""Axes shown for each reason unless everything is asked for."""

Item = TypeVar("Item")

_EXACT = "Its outputs and those of the original with the same units set to zero differ by at most"


def render(report: Report, *, everything: bool, whole: bool = False) -> RenderableType:
    """The report; `everything` lists each group and each axis.

    If it is `whole`, every name is left on one line, however wide that is.
    """
    inputs = ", ".join(report.inputs) or "the example inputs"
    parts: list[RenderableType] = [heading(f"Cost of one forward pass on {inputs}")]
    parts += [_costs(report), Text(MULTIPLY_ADDS, style="dim")]
    if report.latency is not None:
        parts.append(prose(spreads(report.latency), whole=whole))
    if report.groups:
        shown = report.groups if everything else report.groups[:ROWS]
        groups = count(len(report.groups), "group")
        parts.append(heading(f"{groups} of slices that can only go together"))
        parts.append(_groups(shown, whole=whole))
        if len(shown) < len(report.groups):
            more = len(report.groups) - len(shown)
            parts.append(Text(f"and {more} more, shown by --all and in the JSON and HTML reports"))
        parts.append(Text(_SHARES, style="dim"))
        parts.extend(prose(line, whole=whole) for line in _group_notes(report.groups))
    if report.pinned:
        axes = count(len(report.pinned), "axis", "axes")
        parts.append(heading(f"{axes} kept whole, and why"))
        parts.append(_pinned(report.pinned, everything=everything, whole=whole))
    if report.unknown_operators:
        parts.append(heading("Operators without a rule; the axes they touch are kept whole"))
        parts.append(_unknown(report))
    lines = remarks(report)
    if lines:
        parts.append(heading("Result" if report.module else "Note"))
        parts.extend(prose(line, whole=whole) for line in lines)
    return Group(*parts)


MULTIPLY_ADDS = "FLOPs count a multiply-add as two operations, MACs count it as one."

_SHARES = "params, FLOPs: the share of the network's that goes if one unit of the group stays"


def plain_text(parts: RenderableType) -> str:
    """What can be printed as text, as wide as it needs to be."""
    console = Console(width=1 << 16, color_system=None, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(parts)
    return "\n".join(line.rstrip() for line in capture.get().strip().splitlines())


def prose(text: str, *, whole: bool = True) -> Text:
    """Sentences, broken between words where there is no terminal that does so."""
    if not whole:
        return Text(text)
    return Text(fill(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def show(parts: RenderableType, text: str = "") -> None:
    """Print to a terminal in its width, and to anything else as text without broken names.

    That text is given where `plain_text(parts)` is not it.
    """
    console = Console()
    if console.is_terminal:
        console.print(parts, highlight=False)
    else:
        print(text or plain_text(parts))


def heading(text: str) -> Text:
    """The line above a table."""
    return Text(f"\n{text}", style="bold")


def plain_table() -> Table:
    """An empty table as all of ours look."""
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim",
        padding=(0, 1, 0, 0),
    )  # fmt: skip


def add_numbers(table: Table, *titles: str) -> None:
    """Add columns of numbers."""
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)


def grouped(pairs: Iterable[tuple[str, Item]]) -> dict[str, list[Item]]:
    """What comes with each text, such as a reason, by the texts in their order."""
    found: dict[str, list[Item]] = {}
    for text, item in pairs:
        found.setdefault(text, []).append(item)
    return found


def and_more(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def cost_rows(report: Report) -> list[list[str]]:
    """What the network costs: a label, before, after and its share if it was pruned, prunable."""
    before, after, least = report.before, report.after, report.least
    rows: list[tuple[str, float, float, float, Any]] = [
        ("parameters", before.params, after.params, least.params, quantity),
        ("FLOPs", before.flops, after.flops, least.flops, quantity),
        ("MACs", before.flops / 2, after.flops / 2, least.flops / 2, quantity),
        ("activation memory", before.memory, after.memory, least.memory, size_in_bytes),
    ]
    found = []
    for label, old, new, small, show in rows:
        cells = [label, show(old)]
        if report.pruned:
            cells += [show(new), f"{new / old:.1%}" if old else ""]
        found.append([*cells, share(1 - small / old) if old else ""])
    if report.latency is not None:
        slow, fast = report.latency.before, report.latency.after
        found.append([
            f"ONNX Runtime, {count(report.latency.threads, 'thread')}",
            milliseconds(slow), milliseconds(fast), times_faster(slow, fast),
        ])  # fmt: skip
    return found


def spreads(latency: Latency) -> str:
    """What times are of, and how far apart they are."""
    spreads = (("before", latency.before_spread), ("after", latency.after_spread))
    known = "; ".join(f"{name}: {spread}" for name, spread in spreads if spread is not None)
    of = f"Times are medians of {latency.rounds} runs in turns, on {latency.inputs}"
    return f"{of} ({known})." if known else f"{of}."


def summary(report: Report, *, result: bool = False) -> list[str]:
    """Four lines about a report: what costs have become, and of how many groups.

    They are about what was pruned, perhaps nothing, if it is that of a result; else what could be.
    """
    lines = []
    for label, old, *rest in cost_rows(report):
        if label not in ("parameters", "FLOPs"):
            continue
        become = f", of which {rest[0]} can go"
        if report.pruned:
            become = f" -> {rest[0]}, {rest[1]}"
        elif result:
            become = ", as before"
        lines.append(f"  {label:<10}  {old}{become}")
    latency = report.latency
    lines.append(
        f"  {'latency':<10}  {milliseconds(latency.before)} -> {milliseconds(latency.after)}, "
        f"{times_faster(latency.before, latency.after)} on {latency.inputs}"
        if latency
        else f"  {'input':<10}  {', '.join(report.inputs)}"
    )
    smaller = sum(row.kept < row.units for row in report.groups)
    groups = count(len(report.groups), "group")
    found = f"{smaller} of {groups} lost units" if report.pruned or result else groups
    lines.append(
        f"  {'groups':<10}  {found}, {count(len(report.pinned), 'axis', 'axes')} kept whole"
    )
    return lines


def _costs(report: Report) -> Table:
    table = plain_table()
    table.add_column("")
    add_numbers(table, *(("before", "after", "") if report.pruned else ("cost",)), "prunable")
    for row in cost_rows(report):
        table.add_row(*row)
    return table


def _groups(rows: Iterable[GroupRow], *, whole: bool) -> Table:
    table = plain_table()
    table.add_column("group", overflow="fold")
    add_numbers(table, "units", "params", "FLOPs")
    table.add_column("guarantee", no_wrap=True)
    table.add_column("also in", overflow="fold", max_width=None if whole else 24)
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
    notes: list[tuple[str, str]] = []
    for row in rows:
        if row.reason:
            notes.append((f"{row.guarantee}, {short_source(row.reason)}", row.name))
        if row.outer:
            note = "each: other units stay for each unit of the outer axis"
            notes.append((note, f"{row.name} per {row.outer}"))
    return [f"{note}: {and_more(names)}" for note, names in grouped(notes).items()]


def _pinned(rows: Iterable[PinnedRow], *, everything: bool, whole: bool) -> Table:
    """Axes pinned for the same reason share a row: the reason, the largest axes, the code."""
    table = plain_table()
    add_numbers(table, "axes")
    table.add_column("because", overflow="fold")
    for reason, axes in grouped((row.reason, row) for row in rows).items():
        show = _every_axis if everything else _some_axes
        table.add_row(
            str(len(axes)), Group(prose(reason, whole=whole), Padding.indent(show(axes, whole), 2))
        )
    return table


def _some_axes(rows: Sequence[PinnedRow], whole: bool) -> RenderableType:
    largest = sorted(rows, key=lambda row: -row.size)[:EXAMPLES]
    axes = ", ".join(f"{row.name} ({row.size})" for row in largest)
    more = f" and {len(rows) - EXAMPLES} more" * (len(rows) > EXAMPLES)
    lines = [prose(axes + more, whole=whole)]
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    if sources:
        more = f"  and {count(len(sources) - 1, 'more line')}" if len(sources) > 1 else ""
        lines.append(Text(short_source(sources[0]) + more, style="dim"))
    return Group(*lines)


def _every_axis(rows: Sequence[PinnedRow], whole: bool) -> RenderableType:
    """Every axis, below the line of code that pins it."""
    lines = []
    for source, axes in grouped((row.source, f"{row.name} ({row.size})") for row in rows).items():
        if source:
            lines.append(Text(short_source(source), style="dim"))
        lines.append(prose(", ".join(axes), whole=whole))
    return Group(*lines)


def _unknown(report: Report) -> Table:
    table = plain_table()
    table.add_column("operator", overflow="fold")
    add_numbers(table, "calls")
    table.add_column("first called at", overflow="fold")
    for row in report.unknown_operators:
        table.add_row(Text(row.name), str(row.calls), Text(short_source(row.source)))
    return table


def short_source(source: str) -> str:
    """A line of code, or a text with such, without the folder that packages are installed in."""
    return re.sub(r"(?<![^\s(])/[^:(]*/site-packages/", "", source)


def remarks(report: Report) -> list[str]:
    """What is to be said in sentences: notes, the kind of result, the measured differences."""
    lines = list(report.notes)
    if report.module == "same class":
        lines.append("The pruned network is of the model's own class.")
    elif report.module_reason:
        reason = short_source(report.module_reason)
        lines.append(f"The pruned network is a {report.module}: {reason}.")
    if report.module:
        lines.append(f"{_EXACT} {report.error:.1e} (relative).")
    if report.approximate_error is not None:
        lines.append(
            "Approximate groups were cut too: the outputs then differ from the zeroed "
            f"network's by {report.approximate_error:.1e} (relative)."
        )
    return lines
