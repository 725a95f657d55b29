"""The report as a table and as JSON."""

import dataclasses

import pytest
from rich.console import Console

from autoprune.analysis.cost import Cost
from autoprune.errors import AutopruneError
from autoprune.report import GroupRow, PinnedRow, Report, UnknownOperator
from autoprune.report.quantities import milliseconds, quantity, share, times_faster
from autoprune.report.text import ROWS

INSPECTED = Report(
    before=Cost(10_370, 4_060_000, 65_540),
    after=Cost(10_370, 4_060_000, 65_540),
    groups=(
        GroupRow("0.weight:0", 32, 32, "zero-invariant", ("0.weight:0", "3.weight:1"), ""),
        GroupRow("3.weight:0", 32, 32, "approximate", ("3.weight:0",), "normalized together"),
    ),
    pinned=(
        PinnedRow("0.weight:1", 3, ("0.weight:1",), "graph input `x`"),
        PinnedRow("0.weight:2", 3, ("0.weight:2",), "a window slides over it (convolution)"),
        PinnedRow("0.weight:3", 3, ("0.weight:3",), "a window slides over it (convolution)"),
    ),
    unknown_operators=("custom.roll.default",),
)
PRUNED = dataclasses.replace(
    INSPECTED,
    after=Cost(5_150, 2_010_000, 45_060),
    groups=(dataclasses.replace(INSPECTED.groups[0], kept=22), INSPECTED.groups[1]),
    module="same class",
    error=1.5e-7,
)

INSPECTED_TEXT = """\
Cost of one forward pass on the example inputs
parameters           10.37 k
FLOPs                 4.06 M
activation memory   65.54 kB

2 groups of slices that can only go together
group        units   guarantee        also in
────────────────────────────────────────────────
0.weight:0      32   zero-invariant   3.weight:1
3.weight:0      32   approximate
approximate, normalized together: 3.weight:0

3 axes kept whole, and why
because                   axes   such as (size)
───────────────────────────────────────────────────────────────
graph input `x`              1   0.weight:1 (3)
a window slides over it      2   0.weight:2 (3), 0.weight:3 (3)

Note
Operators without a rule, whose axes are kept whole: custom.roll.default"""


def test_inspected():
    assert str(INSPECTED) == INSPECTED_TEXT


def test_pruned():
    lines = str(PRUNED).splitlines()
    assert [line.split() for line in lines[1:6:2]] == [
        ["before", "after"],
        ["parameters", "10.37", "k", "5.15", "k", "49.7%"],
        ["activation", "memory", "65.54", "kB", "45.06", "kB", "68.8%"],
    ]
    assert "32 -> 22" in str(PRUNED)
    assert "model's own class" in str(PRUNED)
    assert "1.5e-07" in str(PRUNED)


def test_a_graph_module_says_why():
    report = dataclasses.replace(
        PRUNED, module="GraphModule", module_reason="its forward does not follow",
        approximate_error=0.25,
    )  # fmt: skip
    text = " ".join(str(report).split())
    assert "is a GraphModule: its forward does not follow." in text
    assert "2.5e-01" in text


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        (("a.b.conv1.weight:0", "a.b.conv2.weight:1"), ".conv2.weight:1"),
        (("a.b.weight:0", "a.c.weight:0", "a.d.weight:0"), ".c.weight:0 and 1 more"),
        (("a.weight:0", "b.weight:1"), "b.weight:1"),
    ],
)
def test_where_a_group_occurs(where, shown):
    row = dataclasses.replace(INSPECTED.groups[0], name=where[0], where=where)
    assert shown in str(dataclasses.replace(INSPECTED, groups=(row,))).split(" " * 3, 3)[-1]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_nothing_is_cropped(width):
    name = "encoder.layers.11.self_attention.query_projection.weight:0/1"
    row = dataclasses.replace(
        INSPECTED.groups[1], name=name, where=(name, name.replace("query", "key"))
    )
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(dataclasses.replace(INSPECTED, groups=(row,)))
    text = "".join(capture.get().split())
    assert "query_projection" in text or "key_projection" in text
    assert text.count("weight:0/1") >= 2


def test_many_groups_are_cut_short():
    row = INSPECTED.groups[0]
    groups = tuple(dataclasses.replace(row, name=f"g{i}") for i in range(ROWS + 7))
    text = str(dataclasses.replace(INSPECTED, groups=groups))
    assert "and 7 more" in text
    assert f"g{ROWS - 1} " in text
    assert f"g{ROWS} " not in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_width_shows_every_name(width):
    name = "encoder.layer.11.attention.self.query.weight:0/1"
    row = dataclasses.replace(INSPECTED.groups[1], name=name, where=(name,))
    report = dataclasses.replace(PRUNED, groups=(row,))
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(report)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in capture.get()
    first_column = "".join(line[: line.find("  ")].strip() for line in lines if "zero" not in line)
    assert name.replace(" ", "") in first_column.replace(" ", "")


@pytest.mark.parametrize("latency", [False, True])
def test_json_round_trip(tmp_path, latency):
    report = PRUNED
    if latency:
        from autoprune.backends.latency import Latency

        report = dataclasses.replace(PRUNED, latency=Latency(2.0, 1.0, 1, 100))
        assert "2.00x faster" in str(report)
    report.save(tmp_path / "report.json")
    assert Report.from_json((tmp_path / "report.json").read_text()) == report


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"before": 3}', "null"])
def test_no_report(text):
    with pytest.raises(AutopruneError, match="this is not a report"):
        Report.from_json(text)


def test_quantities():
    shown = [quantity(n) for n in (0, 999, 1000, 1234567, 4.2e9)]
    assert shown == ["0", "999", "1.00 k", "1.23 M", "4.20 G"]
    assert [milliseconds(t) for t in (0.0461, 9.5, 123.4)] == ["0.0461 ms", "9.5 ms", "123 ms"]
    assert times_faster(2, 1) == "2.00x faster"
    assert times_faster(1, 1.5) == "1.50x slower"
