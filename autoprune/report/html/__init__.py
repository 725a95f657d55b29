"""A report as one HTML page: tables made here, the graph drawn by a script from data in the page.

The page loads nothing from anywhere. All text of the model is escaped, and a content security
policy lets the page's own script and style run and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from autoprune.report.html.drawing import drawing
from autoprune.report.quantities import (
    count,
    milliseconds,
    quantity,
    share,
    size_in_bytes,
    times_faster,
)
from autoprune.report.tables import MULTIPLY_ADDS, grouped, remarks, short_source, spreads

if TYPE_CHECKING:
    from autoprune.report.data import PinnedRow, Report

__all__ = ["page"]

TABLES = ("dom.js", "tables.js")
GRAPH = (
    "network.js", "strips.js", "boxes.js", "layout.js", "drawing.js", "view.js", "modules.js",
    "details.js", "search.js", "start.js",
)  # fmt: skip
"""The parts of the script, in the order in which they need each other."""


class Bar(NamedTuple):
    """A cost before and after, as text and as shares of the cost before in percent."""

    label: str
    before: str
    after: str
    remark: str
    filled: float
    floor: float


class ReasonRow(NamedTuple):
    """Axes pinned for one reason."""

    text: str
    axes: tuple[PinnedRow, ...]


def page(report: Report, title: str) -> str:
    """The page; equal reports give equal pages. A report without its network has no graph."""
    data = drawing(report)
    style, script = _asset("page.css"), _script(TABLES + GRAPH if data else TABLES)
    return _template().render(
        title=title,
        policy="; ".join(
            (
                "default-src 'none'",
                f"style-src '{_digest(style)}'",
                f"script-src '{_digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        style=style,
        script=script,
        report=report,
        bars=_bars(report),
        reasons=_reasons(report),
        remarks=[*_numbers(report), *remarks(report)],
        drawing=data,
    )


def _numbers(report: Report) -> list[str]:
    costs = f"Costs are of one forward pass on {', '.join(report.inputs)}. {MULTIPLY_ADDS}"
    return [costs, *([] if report.latency is None else [spreads(report.latency)])]


def _bars(report: Report) -> list[Bar]:
    bars = []
    for label, name, show in (
        ("Parameters", "params", quantity),
        ("FLOPs", "flops", quantity),
        ("Activations", "memory", size_in_bytes),
    ):
        before, after, least = (
            getattr(cost, name) for cost in (report.before, report.after, report.least)
        )
        whole, made, filled = max(1, before), "", 100.0
        remark = f"{share(1 - least / whole)} prunable"
        if report.pruned:
            made, remark, filled = show(after), share(after / whole), 100 * after / whole
        bars.append(Bar(label, show(before), made, remark, filled, 100 * least / whole))
    if report.latency is not None:
        slow, fast = report.latency.before, report.latency.after
        label = f"ONNX Runtime, {count(report.latency.threads, 'thread')}"
        filled = min(100.0, 100 * fast / slow)
        remark = times_faster(slow, fast)
        bars.append(Bar(label, milliseconds(slow), milliseconds(fast), remark, filled, 0))
    return bars


def _reasons(report: Report) -> list[ReasonRow]:
    """Pinned axes by reason, the commonest reason first."""
    by_text = grouped((row.reason, row) for row in report.pinned)
    reasons = [ReasonRow(text, tuple(rows)) for text, rows in by_text.items()]
    return sorted(reasons, key=lambda reason: -len(reason.axes))


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"


def _script(names: tuple[str, ...]) -> str:
    """The parts as one function, whose names no other script can see."""
    return "\n".join(('"use strict";', "(() => {", *map(_asset, names), "})();"))


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {
        "quantity": quantity, "share": share, "source": short_source, "counted": count,
    }  # fmt: skip
    return environment.from_string(_asset("page.html.jinja"))
