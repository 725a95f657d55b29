"""Reports as small tables for notebooks: markup alone, whose text is escaped, in no style but bold.

A notebook shows them in the page that it runs in, so nothing here may be script or style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from autoprune.report.quantities import count, share
from autoprune.report.tables import MULTIPLY_ADDS, cost_rows, remarks

if TYPE_CHECKING:
    from autoprune.report.data import Report

ROWS = 10
"""Groups that are shown; the page of `Report.save("report.html")` has all."""


def report_html(report: Report, title: str = "") -> str:
    """Costs, the groups with the most parameters, and the remarks of a report."""
    changed = ["before", "after", ""] if report.pruned else ["before"]
    inputs = ", ".join(report.inputs) or "the example inputs"
    largest = sorted(report.groups, key=lambda row: -row.params)[:ROWS]
    rest = len(report.groups) - len(largest)
    groups = [
        [row.name, f"{row.units} → {row.kept}" if row.kept < row.units else str(row.units),
         share(row.params), row.guarantee]
        for row in largest
    ]  # fmt: skip
    if rest:
        groups.append([f"and {rest} more", "", "", ""])
    lines = [
        f"{count(len(report.pinned), 'axis', 'axes')} kept whole.",
        *remarks(report),
        MULTIPLY_ADDS,
    ]
    return "".join((
        paragraph(title or f"Cost of one forward pass on {inputs}", bold=True),
        table(["", *changed, "prunable"], cost_rows(report)),
        table(["group", "units", "params", "guarantee"], groups) if groups else "",
        *(paragraph(line) for line in lines),
    ))  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as a table."""
    return (
        f"<table><thead>{_row('th', header)}</thead>"
        f"<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"
    )


def paragraph(text: str, *, bold: bool = False) -> str:
    """A line of text."""
    return f"<p><b>{escape(text)}</b></p>" if bold else f"<p>{escape(text)}</p>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
