"""Zeros in blocks: at once, at once with correction, and by training.

    python examples/sparsify.py            # about ten seconds

A perceptron learns the handwritten digits of scikit-learn. Then nine of ten weights go, in blocks
of 32 outputs at one input, for which `autoprune.compile` has kernels. Writes the last network as
ONNX.
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import autoprune as ap
from autoprune.cli.demo import Digits, accuracy, load_digits
from autoprune.passes.learners.masks import GMP, SRSTE, Learnable

BATCH = 64
METHODS = {"gradually (GMP)": GMP(), "straight through": SRSTE(), "learned masks": Learnable()}


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, digits: Digits, epochs: int
) -> nn.Module:
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(digits.train_x)).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(digits.train_x[chosen]), digits.train_y[chosen]).backward()
            optimizer.step()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--output", type=Path, default=Path("sparse.onnx"))
    arguments = parser.parse_args()
    digits, epochs = load_digits(), arguments.epochs

    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    dense = nn.Sequential(*layers, nn.Linear(256, 10))
    train(dense, torch.optim.AdamW(dense.parameters(), lr=1e-3), digits, epochs)
    accuracies = {"dense": accuracy(dense, digits)}

    x = digits.train_x
    wanted = {"format": "block 32x1", "sparsity": arguments.sparsity, "ignore": "5"}
    result = ap.sparsify(dense, x[:1], **wanted)
    accuracies["at once"] = accuracy(result.model, digits)
    result = ap.sparsify(dense, x[:1], **wanted, calibration=x.split(256))
    accuracies["at once, corrected"] = accuracy(result.model, digits)

    for name, method in METHODS.items():
        model = copy.deepcopy(dense)
        sparsifier = ap.Sparsifier(model, x[:1], **wanted)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        optimizer = sparsifier.train(optimizer, method, steps=epochs * -(-len(x) // BATCH))
        train(model, optimizer, digits, epochs)
        result = sparsifier.finish()
        accuracies[name] = accuracy(result.model, digits)

    print(result.report)
    print("\naccuracy on test images")
    for name, share in accuracies.items():
        print(f"  {name:<20} {share:.1%}")
    print(f"written: {result.save(arguments.output)}")


if __name__ == "__main__":
    main()
