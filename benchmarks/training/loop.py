"""The training loop that every method runs, in one phase or two, and the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training.task import Data, Inputs, Task

WARM_UP = 0.1
"""Share of a phase in which the learning rate rises; a cosine brings it down to zero."""

TESTED_AT_ONCE = 64
"""Examples."""


@dataclass
class Trainer:
    """Trains the network of one run, in one phase or several that share what is given here.

    Attributes:
        task: what is trained.
        data: of the task.
        seed: of the order of the examples and their augmentation.
        advance: called after each step, with the steps done and the steps in all.
        curve: epochs done and what the test gave then.
    """

    task: Task
    data: Data
    seed: int
    advance: Callable[[int, int], None] = lambda done, steps: None
    curve: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.task.recipe
        self.steps_per_epoch = len(self.data.train) // recipe.batch
        self.steps = round(recipe.epochs * self.steps_per_epoch)
        self._batches = self._drawn(torch.Generator().manual_seed(self.seed))
        self._done = 0

    def train(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        on_gradients: Callable[[], None] = lambda: None,
    ) -> None:
        """Take steps with a learning rate that rises and falls, and test after each epoch.

        Args:
            network: whose parameters change.
            optimizer: of its parameters, with the peak of the learning rate.
            steps: to take; they count on from those of earlier phases.
            on_gradients: called between the backward pass and the step.

        Raises:
            FloatingPointError: if the loss is not a finite number at the end of an epoch.
        """
        network.to(memory_format=torch.channels_last).train()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share(step, steps))
        for step in range(1, steps + 1):
            inputs, targets = next(self._batches)
            optimizer.zero_grad()
            loss = cross_entropy(network, inputs, targets, self.task.recipe.label_smoothing)
            loss.backward()
            on_gradients()
            optimizer.step()
            schedule.step()
            self._done += 1
            self.advance(self._done, self.steps)
            if step == steps or self._done % self.steps_per_epoch == 0:
                if not math.isfinite(loss.item()):
                    raise FloatingPointError(f"the loss is {loss.item()} after step {self._done}")
                self.curve.append((self._done / self.steps_per_epoch, self.test(network)))

    def test(self, network: nn.Module) -> float:
        """What the task's metric is on the test examples."""
        loss, correct = evaluate(network, self.data)
        return math.exp(loss) if self.task.metric == "perplexity" else 100 * correct

    def probe(self, network: nn.Module) -> Callable[[], Tensor]:
        """The loss of a network on one training batch, always the same."""
        inputs, targets = self.data.train.take(slice(self.task.recipe.batch))
        inputs = self.data.prepare(inputs, None)
        return torch.no_grad()(lambda: cross_entropy(network, inputs, targets))

    def _drawn(self, generator: torch.Generator) -> Iterator[tuple[Inputs, Tensor]]:
        train, size = self.data.train, self.task.recipe.batch
        while True:
            order = torch.randperm(len(train), generator=generator)
            for start in range(0, len(train) - size + 1, size):
                inputs, targets = train.take(order[start : start + size])
                yield self.data.prepare(inputs, generator), targets


def share(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of its peak."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def cross_entropy(
    network: nn.Module, inputs: Inputs, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean loss over all predictions; the network computes in bfloat16 where that is safe."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(*inputs)
    return F.cross_entropy(
        logits.float().flatten(0, -2), targets.flatten(), label_smoothing=smoothing
    )


@torch.no_grad()
def evaluate(network: nn.Module, data: Data) -> tuple[float, float]:
    """Mean loss and share of right predictions over the test examples."""
    was_training = network.training
    network.eval()
    loss = correct = 0.0
    for start in range(0, len(data.test), TESTED_AT_ONCE):
        inputs, targets = data.test.take(slice(start, start + TESTED_AT_ONCE))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(*data.prepare(inputs, None))
        logits, targets = logits.float().flatten(0, -2), targets.flatten()
        loss += F.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(-1) == targets).sum().item()
    network.train(was_training)
    predictions = data.test.targets.numel()
    return loss / predictions, correct / predictions
