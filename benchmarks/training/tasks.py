"""The tasks, and the recipes that were chosen for them by trial."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from benchmarks.training.brown import LENGTH, WORDS, brown
from benchmarks.training.images import cifar10, fashion_mnist
from benchmarks.training.networks import Decoder, resnet20, vgg_small
from benchmarks.training.reviews import reviews
from benchmarks.training.sentences import minilm_classifier
from benchmarks.training.task import Recipe, Task


def _sgd(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


def _adamw(
    parameters: Iterable[nn.Parameter], rate: float, *, decay: float
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=decay)


IMAGES = Recipe(
    epochs=10, batch=128, optimizer=_sgd, rate=0.1, tuning_rate=0.05, label_smoothing=0.1,
    sparsity=5e-4,
)  # fmt: skip

WORD_BY_WORD = Recipe(
    epochs=2, batch=32, optimizer=partial(_adamw, decay=0.1), rate=2e-3, tuning_rate=1e-3,
    sparsity=5e-4,
)  # fmt: skip

SENTENCES = Recipe(
    epochs=3, batch=32, optimizer=partial(_adamw, decay=0.01), rate=1e-4, tuning_rate=1e-4,
    sparsity=5e-4,
)  # fmt: skip

TASKS = {
    task.name: task
    for task in (
        Task("vgg", "VGG-small, Fashion-MNIST", "accuracy", fashion_mnist, vgg_small, IMAGES),
        Task(
            "gpt", "GPT, Brown corpus", "perplexity",
            brown, partial(Decoder, WORDS, LENGTH), WORD_BY_WORD,
        ),
        Task("minilm", "MiniLM, reviews", "accuracy", reviews, minilm_classifier, SENTENCES),
        Task("resnet20", "ResNet-20, Fashion-MNIST", "accuracy", fashion_mnist, resnet20, IMAGES),
        Task(
            "cifar-vgg", "VGG-small, CIFAR-10", "accuracy",
            cifar10, partial(vgg_small, channels=3), IMAGES,
        ),
        Task(
            "cifar-resnet20", "ResNet-20, CIFAR-10", "accuracy",
            cifar10, partial(resnet20, channels=3), IMAGES,
        ),
    )
}  # fmt: skip
