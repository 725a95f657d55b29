"""What is printed between the steps of a pruning, and where to."""

import io

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.ir.text import parse_graph
from autoprune.report.step_trace import show


def never():
    raise AssertionError("described for nobody")


def test_it_goes_where_it_is_asked_to(capsys, monkeypatch):
    monkeypatch.delenv("AUTOPRUNE_TRACE", raising=False)
    texts, file = [], io.StringIO()
    show(texts.append, "groups", lambda: 1)
    show(file, "groups", lambda: 1)
    show(True, "groups", lambda: 1)
    assert texts == [file.getvalue()] == [capsys.readouterr().err] == ["# groups\n\n1\n\n"]


@pytest.mark.parametrize(("value", "is_shown"), [("1", True), ("0", False), ("", False)])
def test_the_environment_asks_for_it(capsys, monkeypatch, value, is_shown):
    monkeypatch.setenv("AUTOPRUNE_TRACE", value)
    show(None, "groups", (lambda: 1) if is_shown else never)
    assert bool(capsys.readouterr().err) == is_shown
    show(False, "groups", never)


def test_every_step_of_a_pruning_says_what_it_found():
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    steps: dict[str, str] = {}

    def note(text: str) -> None:
        title, _, found = text.partition("\n\n")
        steps[title] = found

    ap.prune(model, torch.zeros(2, 8), sizes={"0": 4}, options=ap.Options(trace=note))
    assert list(steps) == [
        "# axis types", "# groups", "# costs", "# scores", "# kept units", "# cut graph",
    ]  # fmt: skip
    types = steps["# axis types"]
    assert "# 2.weight:1 is 0.weight:0" in types
    assert "# 2.weight:0 pinned: graph output `linear_1`" in types
    assert "compensated: 0.weight:0" in steps["# groups"]
    assert "0.weight:0: 4 units, [" in steps["# kept units"]
    cut = parse_graph(steps["# cut graph"])
    assert cut.parameter_of["0.weight"].value.shape == (4, 8)
    assert "# statistics over a share of 0.25" in steps["# cut graph"]
    assert parse_graph(types).digest != cut.digest
