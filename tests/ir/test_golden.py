"""Graphs in text, with what the analysis finds: types, unions, pins, groups, and a cut graph.

Each file in `golden` holds the graph with its axis types, the groups, and the graph cut to half the
units of every exact group. Of a graph that you wrote with sizes alone,

    python -m tests.ir.test_golden

makes such a file, and brings the others up to date: read what changed.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from autoprune.analysis.groups import find_groups
from autoprune.analysis.resizing import cut_graph
from autoprune.analysis.typing import infer
from autoprune.ir.text import parse_graph, parse_groups
from autoprune.report.step_trace import cut_text, types_text

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
LEAF = re.compile(
    r"(?<=[\[,x+( ])(\d+)([a-z]+?)(?=x[\d(]|[\],+)\s]|$)|(?:^)(\d+)([a-z]+)(?= )", re.MULTILINE
)


def renamed(text: str) -> str:
    """With letters in the order of their appearance, whatever the solver called leaves."""
    letters: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        size, old = match[1] or match[3], match[2] or match[4]
        return size + letters.setdefault(old, chr(ord("a") + len(letters)))

    return LEAF.sub(rename, text)


def analysed(text: str) -> str:
    """What a file should hold whose title and graph these are."""
    title = text[: text.index("graph(")]
    graph = parse_graph(text.partition("\n}\n")[0] + "\n}\n")
    typed = infer(graph)
    found = find_groups(typed)
    kept = {g.leaf.uid: np.arange(g.units // 2) for g in found if g.guarantee.exact}
    infer(cut_graph(typed, kept))  # raises where sizes do not fit
    return title + renamed(f"{types_text(typed)}\n\n{found}\n\n{cut_text(typed, kept)}\n")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_is_found_is_what_is_written_down(path):
    text = path.read_text(encoding="utf-8")
    assert analysed(text) == text


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_part_of_it_can_be_read(path):
    graph, groups, cut = path.read_text(encoding="utf-8").split("\n\n")
    assert any(parse_groups(groups, parse_graph(graph)))
    assert parse_graph(cut).outputs


if __name__ == "__main__":
    for path in GOLDEN:
        path.write_text(analysed(path.read_text(encoding="utf-8")), encoding="utf-8")
