"""Train once with Hugging Face Accelerate.

    accelerate launch examples/train_once_accelerate.py

or with `torchrun --nproc-per-node 2`, or `python` for one process. A residual network learns the
handwritten digits of scikit-learn and loses 70 % of its FLOPs on the way.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import autoprune as ap
from autoprune.cli.demo import DigitNet, Digits, accuracy, load_digits


def train(accelerator: Accelerator, digits: Digits, epochs: int) -> ap.Result:
    model = DigitNet()
    # Before the model is prepared; the ONNX file will take any number of images.
    pruner = ap.Pruner(model, digits.train_x[:2], options=ap.Options(dynamic_shapes="batch"))

    images = TensorDataset(digits.train_x, digits.train_y)
    loader = DataLoader(images, batch_size=32, shuffle=True, drop_last=True)
    model, loader = accelerator.prepare(model, loader)
    steps = len(loader) * epochs
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    optimizer = pruner.hesso(base, flops=0.3, steps=steps)  # the only new line
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps)
    optimizer = accelerator.prepare(optimizer)

    for epoch in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(cross_entropy(model(x), y))
            optimizer.step()
            schedule.step()
        left = 1 - pruner.optimizer.training.zero.float().mean().item()
        accelerator.print(f"epoch {epoch + 1}: {left:.0%} of the units left")
    return pruner.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("digits-small.onnx"))
    arguments = parser.parse_args()
    accelerator = Accelerator()
    set_seed(0)
    digits = load_digits()
    result = train(accelerator, digits, arguments.epochs)
    if accelerator.is_main_process:
        report = result.report
        share = report.after.flops / report.before.flops
        print(f"{share:.1%} of the FLOPs, accuracy {accuracy(result.model, digits):.1%}")
        result.save(arguments.output)
        print(f"saved {arguments.output}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
