"""The report as a table and as JSON."""

import dataclasses
import re

import pytest
from rich.console import Console

from autoprune.analysis.cost import Cost
from autoprune.errors import AutopruneError
from autoprune.report import GroupRow, PinnedRow, Report, UnknownOperator
from autoprune.report.latency import Latency, Spread
from autoprune.report.quantities import milliseconds, quantity, share, times_faster
from autoprune.report.tables import ROWS

SOURCE = "/usr/lib/python3/site-packages/nets/stem.py:12: x = self.conv(x)"
OTHER = "net.py:3: x = roll(self.conv(x))"
INSPECTED = Report(
    before=Cost(10_370, 4_060_000, 65_540),
    after=Cost(10_370, 4_060_000, 65_540),
    least=Cost(5_185, 203, 65_540),
    groups=(
        GroupRow(
            "0.weight:0", 32, 32, "zero-invariant", ("0.weight:0", "0.bias:0", "3.weight:1"), "",
            params=0.5, flops=0.95,
        ),
        GroupRow("3.weight:0", 32, 32, "approximate", ("3.weight:0",), "normalized together"),
    ),
    pinned=(
        PinnedRow("0.weight:1", 3, ("0.weight:1",), "graph input `x`"),
        PinnedRow("0.weight:2", 3, ("0.weight:2",), "a window slides over it", "conv", SOURCE),
        PinnedRow("0.weight:3", 5, ("0.weight:3",), "a window slides over it", "conv", SOURCE),
        PinnedRow("3.weight:2", 3, ("3.weight:2",), "a window slides over it", "conv_1", OTHER),
    ),
    unknown_operators=(UnknownOperator("custom.roll.default", 2, OTHER),),
    inputs=("x: float32[2,3,8,8]",),
)  # fmt: skip
PRUNED = dataclasses.replace(
    INSPECTED,
    after=Cost(5_150, 2_010_000, 45_060),
    groups=(dataclasses.replace(INSPECTED.groups[0], kept=22), INSPECTED.groups[1]),
    module="same class",
    error=1.5e-7,
)

LATENCY = Latency(
    2.0, 1.0, 1, 100, "x: float32[2,3,8,8]", Spread(1.9, 1.95, 2.2), Spread(0.9, 0.95, 1.1)
)

INSPECTED_TEXT = """\
Cost of one forward pass on x: float32[2,3,8,8]
                       cost  prunable
─────────────────────────────────────
parameters          10.37 k    50.0 %
FLOPs                4.06 M   100.0 %
MACs                 2.03 M   100.0 %
activation memory  65.54 kB     0.0 %
FLOPs count a multiply-add as two operations, MACs count it as one.

2 groups of slices that can only go together
group       units  params   FLOPs  guarantee       also in
────────────────────────────────────────────────────────────────
0.weight:0     32  50.0 %  95.0 %  zero-invariant  3.weight:1 +1
3.weight:0     32   0.0 %   0.0 %  approximate
params, FLOPs: the share of the network's that goes if one unit of the group stays
approximate, normalized together: 3.weight:0

4 axes kept whole, and why
axes  because
──────────────────────────────────────────────────────────
   1  graph input `x`
        0.weight:1 (3)
   3  a window slides over it
        0.weight:3 (5), 0.weight:2 (3) and 1 more
        nets/stem.py:12: x = self.conv(x)  and 1 more line

Operators without a rule; the axes they touch are kept whole
operator             calls  first called at
────────────────────────────────────────────────────────────
custom.roll.default      2  net.py:3: x = roll(self.conv(x))"""


def test_inspected():
    assert str(INSPECTED) == INSPECTED_TEXT


def test_pruned():
    lines = str(PRUNED).splitlines()
    assert [line.split() for line in (lines[1], lines[3], lines[6])] == [
        ["before", "after", "prunable"],
        ["parameters", "10.37", "k", "5.15", "k", "49.7%", "50.0", "%"],
        ["activation", "memory", "65.54", "kB", "45.06", "kB", "68.8%", "0.0", "%"],
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
        (("a.b.conv1.weight:0", "a.b.conv1.bias:0", "a.b.conv2.weight:1"), ".conv2:1 +1"),
        (("a.b.weight:0", "a.c.bias:0", "a.d.weight:0"), ".c.bias:0 +1"),
        (("a.weight:0", "b.weight:1"), "b:1"),
        (("weight:0", "table:1"), "table:1"),
    ],
)
def test_where_a_group_occurs(where, shown):
    row = dataclasses.replace(INSPECTED.groups[0], name=where[0], where=where)
    lines = str(dataclasses.replace(INSPECTED, groups=(row,))).splitlines()
    [line] = [line for line in lines if "zero-invariant" in line]
    assert line.split("zero-invariant")[1].strip() == shown


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


def test_reasons_name_no_folder_of_packages():
    reason = "left alone: a norm (/my home/lib/site-packages/nets/stem.py:12: x = self.norm(x))"
    row = dataclasses.replace(INSPECTED.groups[1], reason=reason)
    text = " ".join(str(dataclasses.replace(INSPECTED, groups=(row,))).split())
    assert "a norm (nets/stem.py:12: x = self.norm(x))" in text


def test_text_has_every_name_on_one_line():
    name = "encoder.a_very_long_name_of_a_layer." * 5 + "weight:0"
    row = dataclasses.replace(INSPECTED.groups[1], name=name, where=(name, f"other.{name}"))
    pinned = dataclasses.replace(INSPECTED.pinned[0], name=name, where=(name,))
    unknown = UnknownOperator("library." + "operator_" * 20, 1)
    report = dataclasses.replace(
        PRUNED, groups=(row,), pinned=(pinned,), unknown_operators=(unknown,)
    )
    for text in (str(report), report.text(everything=True)):
        assert text.count(name) == 3
        assert unknown.name in text
        assert "normalized together" in text
        assert "…" not in text


def test_repr_is_short():
    assert repr(PRUNED).splitlines() == [
        "Report: print it for the tables",
        "  parameters  10.37 k -> 5.15 k, 49.7%",
        "  FLOPs       4.06 M -> 2.01 M, 49.5%",
        "  input       x: float32[2,3,8,8]",
        "  groups      1 of 2 groups lost units, 4 axes kept whole",
    ]
    assert len(repr(INSPECTED).splitlines()) == 5
    assert "2.00x faster on x: float32[2,3,8,8]" in repr(
        dataclasses.replace(PRUNED, latency=LATENCY)
    )


def test_markup_for_notebooks_is_text_alone():
    hostile = "<script>alert(1)</script>"
    row = dataclasses.replace(PRUNED.groups[0], name=hostile)
    report = dataclasses.replace(PRUNED, groups=(row, *many(20)), notes=(hostile,))
    markup = report._repr_html_()
    assert set(re.findall(r"<(\w+)", markup)) == {
        "p", "b", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert markup.count("&lt;script&gt;") == 2
    assert "and 11 more" in markup
    assert "49.7%" in markup


def many(count):
    row = INSPECTED.groups[0]
    return tuple(dataclasses.replace(row, name=f"g{i}") for i in range(count))


def test_many_groups_are_cut_short():
    text = str(dataclasses.replace(INSPECTED, groups=many(ROWS + 7)))
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
        report = dataclasses.replace(PRUNED, latency=LATENCY)
        assert "2.00x faster" in str(report)
        assert "100 runs in turns, on x: float32[2,3,8,8]" in " ".join(str(report).split())
        assert "before: shortest 1.9, half 1.95 to 2.2 ms" in " ".join(str(report).split())
    report.save(tmp_path / "report.json")
    assert Report.from_json((tmp_path / "report.json").read_text()) == report


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"before": 3}', "null"])
def test_no_report(text):
    with pytest.raises(AutopruneError, match="this is not a report"):
        Report.from_json(text)


def test_everything():
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(dataclasses.replace(INSPECTED, groups=many(ROWS + 7)).table(everything=True))
    text = capture.get()
    assert f"g{ROWS + 6} " in text
    assert "more" not in text
    assert "nets/stem.py:12: x = self.conv(x)" in text
    assert "net.py:3" in text
    assert "0.weight:2 (3), 0.weight:3 (5)" in text


def test_reasons_are_told_with_the_place():
    row = dataclasses.replace(INSPECTED.groups[1], name="4.weight:0")
    report = dataclasses.replace(INSPECTED, groups=(*INSPECTED.groups, row))
    assert "approximate, normalized together: 3.weight:0 and 1 more" in str(report)


def test_quantities():
    shown = [quantity(n) for n in (0, 999, 1000, 1234567, 4.2e9)]
    assert shown == ["0", "999", "1.00 k", "1.23 M", "4.20 G"]
    assert [milliseconds(t) for t in (0.0461, 9.5, 123.4)] == ["0.0461 ms", "9.5 ms", "123 ms"]
    assert [share(s) for s in (0, 1e-5, 0.1234, 1)] == ["0.0 %", "<0.1 %", "12.3 %", "100.0 %"]
    assert times_faster(2, 1) == "2.00x faster"
    assert times_faster(1, 1.5) == "1.50x slower"
