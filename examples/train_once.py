"""Train once: a network that ends up small, beside the same network trained as usual.

    python examples/train_once.py            # about a minute on two cores

A residual network learns the handwritten digits of scikit-learn. The learner HESSO removes units
while it trains, down to 30 % of the FLOPs; one line of the training loop is new. Writes the small
network as ONNX and what happened as a picture.
"""

import argparse
from pathlib import Path

import torch
from rich.progress import track
from torch import nn
from torch.nn.functional import cross_entropy

import autoprune as ap
from autoprune.cli.demo import DigitNet, Digits, accuracy, load_digits

BATCH = 64


def train(
    digits: Digits, epochs: int, *, flops: float | None
) -> tuple[nn.Module, ap.Pruner | None]:
    torch.manual_seed(0)
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(digits.train_x) // BATCH)
    pruner = None
    if flops is not None:
        pruner = ap.Pruner(model, digits.train_x[:1])
        optimizer = pruner.hesso(optimizer, flops=flops, steps=steps)  # the new line
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)

    for _ in track(range(epochs), description="as usual" if pruner is None else "train once"):
        model.train()
        for chosen in torch.randperm(len(digits.train_x)).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(model(digits.train_x[chosen]), digits.train_y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
        if pruner is not None:
            pruner.log(loss=loss.item(), accuracy=accuracy(model, digits))
    return model, pruner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--flops", type=float, default=0.3, help="share of the FLOPs to keep")
    parser.add_argument("--output", type=Path, default=Path("autoprune-train-once"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    digits = load_digits()
    usual, _ = train(digits, arguments.epochs, flops=None)
    model, pruner = train(digits, arguments.epochs, flops=arguments.flops)
    result = pruner.finish()

    print(result.report)
    print(f"trained as usual    {accuracy(usual, digits):.1%} of {len(digits.test_x)} test images")
    print(f"trained once        {accuracy(model, digits):.1%}")
    print(f"the small network   {accuracy(result.model, digits):.1%}")
    result.save(arguments.output / "small.onnx")
    pruner.plot(arguments.output / "training.png")
    print(f"small.onnx and training.png are in {arguments.output}")


if __name__ == "__main__":
    main()
