"""What is being done is told to whom asks, and to a terminal once it takes long."""

import io
import time

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.report import progress as telling


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(monkeypatch):
    """Make standard error a terminal, on which spinners appear at once."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(telling, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_a_function_hears_every_step():
    heard = []
    ap.prune(network(), torch.randn(2, 8), channels=0.5, options=ap.Options(progress=heard.append))
    assert heard[0] == "tracing the network"
    assert "choosing units" in heard


def test_parts_are_counted(tmp_path):
    heard = []
    with ap.progress(heard.append):
        sparse = ap.sparsify(network(), torch.randn(2, 8), format="csr", sparsity=0.5)
        sparse.save(tmp_path / "net.onnx")
    assert "making weights sparse (2/2)" in heard
    assert heard[-1] == "writing net.onnx"


def test_a_terminal_shows_what_takes_long(monkeypatch):
    terminal = watch(monkeypatch)
    with ap.progress():
        for _ in telling.each(["a"], "measuring [layers]"):
            time.sleep(0.3)
    assert "measuring [layers] 1/1" in terminal.getvalue()


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_silence(monkeypatch, patience):
    terminal = watch(monkeypatch)
    monkeypatch.setattr(telling, "PATIENCE", patience)
    with ap.progress(None if patience == 0.0 else "auto"):
        telling.say("tracing")
        time.sleep(0.2)
    assert terminal.getvalue() == ""


def test_no_terminal_no_spinner(monkeypatch, capsys):
    monkeypatch.setattr(telling, "PATIENCE", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ap.progress():
        telling.say("tracing")
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_an_inner_choice_wins():
    outer, inner = [], []
    with ap.progress(outer.append):
        with ap.progress():
            telling.say("a")
        with ap.progress(inner.append):
            telling.say("b")
        with ap.progress(None):
            telling.say("c")
    assert (outer, inner) == (["a"], ["b"])
