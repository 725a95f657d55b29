"""The demo, on a narrow network and one epoch."""

import pytest
import torch

import autoprune as ap
from autoprune.cli import demo
from autoprune.cli.demo import show, story
from autoprune.cli.main import main


@pytest.fixture(scope="module")
def digits():
    return demo.load_digits()


def test_the_digits_are_all_there(digits):
    assert len(digits.train_x) + len(digits.test_x) == 1797
    assert digits.train_x.shape[1:] == (1, demo.SIDE, demo.SIDE)
    assert set(digits.test_y.tolist()) == set(range(10))
    assert digits.train_x.min() >= -1
    assert digits.train_x.max() <= 1


def test_training_is_repeatable_and_learns(digits):
    curves = []
    for _ in range(2):
        torch.manual_seed(0)
        curves.append(demo.train(demo.DigitNet((8, 8, 16)), digits, 2, 0.1))
    assert curves[0] == curves[1]
    assert curves[0][-1] > 0.5


@pytest.mark.slow
def test_the_whole_story(tmp_path, capsys):
    told = demo.demo(tmp_path / "out", epochs=1, widths=(16, 16, 32))
    out = capsys.readouterr().out
    compiled, int8 = (isinstance(a, story.Artifact) for a in (told.artifact, told.int8))
    missing = "" if int8 else "int8" if compiled else "digits"
    written = [path.name for path in told.files]
    assert written == [name for name in show.FILES if not missing or missing not in name]
    assert all(path.stat().st_size > 50 for path in told.files)
    assert told.onnx == (told.trained[-1], told.tuned[-1])
    assert told.report.after.flops / told.report.before.flops == pytest.approx(0.3, abs=0.01)
    assert "test accuracy" in out
    assert "pruned.onnx" in out
    again = ap.load(demo.DigitNet((16, 16, 32)), tmp_path / "out" / "pruned.safetensors")
    assert demo.accuracy(again, demo.load_digits()) == told.tuned[-1]
    if compiled:
        assert told.artifact.accuracy == told.sparsified[-1]
        digest = (tmp_path / "out" / "digits.digest").read_text()
        assert main(["verify", str(tmp_path / "out" / "digits.apz"), "--digest", digest]) == 0
    if int8:
        # Between two images that are as good as equally likely, eight bits may decide otherwise.
        assert told.int8.accuracy == pytest.approx(told.artifact.accuracy, abs=0.02)


def test_without_a_compiler(monkeypatch):
    """The demo says what is missing, and shows the rest."""
    monkeypatch.setattr(story.shutil, "which", lambda name: None)
    monkeypatch.setattr(story, "find_spec", lambda name: name)
    assert story._missing() == "gcc is not installed"
    monkeypatch.setattr(story, "find_spec", lambda name: None)
    assert "autoprune[compile]" in story._missing()


def test_the_command(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("autoprune.cli.demo.demo", lambda *args: calls.append(args))
    assert main(["demo", "--output", str(tmp_path), "--epochs", "3"]) == 0
    assert main(["demo", "-o", str(tmp_path)]) == 0
    assert calls == [(tmp_path, 3), (tmp_path, demo.EPOCHS)]
