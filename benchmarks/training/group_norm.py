"""Torch-Pruning's sparse training with its group norm regularizer.

    pip install --no-deps torch-pruning==1.6.1

Settings are those of its own benchmark: groups are ranked all together by the norm of their
weights relative to the largest of the layer, no weight decay while the regularizer is at work,
and 400 small steps of pruning until the target is reached. It is told the heads of attention,
without which the networks that it prunes do not run.
"""

from __future__ import annotations

from torch import nn

import autoprune as ap
from benchmarks.training.loop import Trainer

PRUNING_STEPS = 400


def group_norm(trained: float, trainer: Trainer, network: nn.Module, kept: float) -> nn.Module:
    """Train with the regularizer, prune, and train what is left.

    Args:
        trained: share of the steps that are regularized.
        trainer: of the run.
        network: with its initial weights; it is pruned in place.
        kept: share of the FLOPs to keep.

    Raises:
        ModuleNotFoundError: if Torch-Pruning is not installed.
    """
    import torch_pruning

    recipe, example = trainer.task.recipe, trainer.data.example
    *_, head = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    pruner = torch_pruning.pruner.GroupNormPruner(
        network, example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(normalizer="max"),
        reg=recipe.sparsity, global_pruning=True, pruning_ratio=1.0,
        iterative_steps=PRUNING_STEPS, ignored_layers=[head], num_heads=heads_by_layer(network),
    )  # fmt: skip
    optimizer = recipe.optimizer(network.parameters(), recipe.rate)
    for options in optimizer.param_groups:
        options["weight_decay"] = 0.0
    before = round(trained * trainer.steps)
    trainer.train(network, optimizer, before, on_gradients=lambda: pruner.regularize(network))

    # Its own counter is quick and close; ours, which decides for all methods, takes the last steps.
    counters = (
        (lambda: torch_pruning.utils.count_ops_and_params(network, example)[0], 1.02 * kept),
        (lambda: ap.inspect(network, example).before.flops, kept),
    )
    targets = [count() * share for count, share in counters]
    for (count, _), target in zip(counters, targets, strict=True):
        while count() > target:
            pruner.step()
    optimizer = recipe.optimizer(network.parameters(), recipe.tuning_rate)
    trainer.train(network, optimizer, trainer.steps - before)
    return network


def heads_by_layer(network: nn.Module) -> dict[nn.Module, int]:
    """The heads of all layers that make queries, keys and values, as Torch-Pruning asks for."""
    return {
        layer: heads
        for module in network.modules()
        if (heads := getattr(module, "num_attention_heads", getattr(module, "heads", 0)))
        for name in ("query", "key", "value")
        if isinstance(layer := getattr(module, name, None), nn.Linear)
    }
