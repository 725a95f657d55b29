"""What is recorded of a run, and where it can be seen."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.optim import SGD

import autoprune as ap
from autoprune.passes.learners import HESSO
from tests.learners.training import (
    STEPS,
    STOP,
    TIMING,
    Perceptron,
    learn,
    squared_error,
    train,
    vectors,
)


def run(metrics=False, steps=STEPS, **settings):
    """A run of HESSO, which may report its loss after every fourth step."""
    model = Perceptron()
    pruner, optimizer = learn(
        HESSO(), SGD(model.parameters(), lr=0.05), model, vectors(0)[0], **settings
    )
    for step in range(steps):
        train(model, optimizer, steps=[step])
        if metrics and step % 4 == 3:
            pruner.log(loss=squared_error(model, step).detach(), accuracy=step / STEPS)
    return pruner


def test_records_follow_the_run():
    pruner = run()
    history = pruner.history
    assert [record.step for record in history] == list(range(1, STEPS + 1))
    assert {record.steps for record in history} == {STEPS}
    # Three periods of four steps from step 8: a third of the half in each.
    zero = {record.step: round(record.zero * 16) for record in history}
    assert [zero[step] for step in (8, 11, 12, 15, 16, 19, STOP, STEPS)] == [0, 0, 3, 3, 5, 5, 8, 8]
    chosen = {record.step: round(record.chosen * 16) for record in history}
    assert [chosen[step] for step in (8, 9, 12, 13, 17, STEPS)] == [0, 3, 3, 5, 8, 8]
    report = pruner.finish().report
    assert history[0].params == history[0].flops == 1
    assert history[-1].params == report.after.params / report.before.params
    assert history[-1].flops == report.after.flops / report.before.flops


def test_long_runs_leave_some_records_and_the_ends_of_periods():
    model = Perceptron()
    pruner = ap.Pruner(model, vectors(0)[0])
    base, steps = SGD(model.parameters(), lr=0.05), 1013
    optimizer = pruner.hesso(base, groups=0.5, steps=steps, timing=TIMING)
    for _ in range(steps):
        optimizer.step()
    recorded = [record.step for record in pruner.history]
    schedule = optimizer.training.schedule
    assert 200 <= len(recorded) <= 210
    assert recorded == sorted(set(recorded))
    for period in range(schedule.periods):
        assert schedule.start + (period + 1) * schedule.length in recorded


def test_the_callback_sees_every_record_when_it_is_made():
    seen = []
    pruner = run(metrics=True, callback=seen.append)
    assert seen == pruner.history
    assert len(seen) == STEPS + STEPS // 4


def test_an_error_of_the_callback_is_not_swallowed():
    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(callback=stop)


def test_own_measurements():
    pruner = run(metrics=True)
    logged = [record for record in pruner.history if record.metrics]
    assert [record.step for record in logged] == [4, 8, 12, 16, 20, 24]
    assert set(logged[0].metrics) == {"loss", "accuracy"}
    assert all(type(value) is float for value in logged[0].metrics.values())
    assert logged[-1].zero == 0.5


@pytest.mark.parametrize("metrics", [False, True])
def test_a_plot(tmp_path, metrics):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    pruner = run(metrics=metrics)
    pruner.plot(tmp_path / "curves.png")
    pixels = matplotlib_image.imread(tmp_path / "curves.png")
    rows = 3 if metrics else 1
    assert pixels.shape[:2] == (round((2.4 * rows + 0.8) * 120), 7 * 120)
    # Three curves in three colours, a legend, axes: not an empty page.
    colors = {tuple(pixel) for pixel in (pixels[..., :3] * 255).astype(int).reshape(-1, 3)}
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colors


def test_a_plot_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "curves.svg"
    path.write_text("old")
    run(steps=2).plot(path)
    assert "<svg" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pruner = run(metrics=True, log_dir=tmp_path)
    pruner.finish()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {
        f"autoprune/{name}" for name in ("zero", "flops", "params", "loss", "accuracy")
    }
    flops = {event.step: event.value for event in events.Scalars("autoprune/flops")}
    for record in pruner.history:
        torch.testing.assert_close(flops[record.step], record.flops)
    losses = [event.value for event in events.Scalars("autoprune/loss")]
    expected = [r.metrics["loss"] for r in pruner.history if r.metrics]
    torch.testing.assert_close(losses, expected)


def test_without_tensorboard_a_folder_for_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ap.AutopruneError, match="log_dir needs TensorBoard"):
        run(log_dir=tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
