"""Train once in several processes: each has a part of every batch, and all decide alike.

    torchrun --nproc-per-node 2 examples/train_once_torchrun.py

A residual network learns the handwritten digits of scikit-learn and loses 70 % of its FLOPs on the
way. On a machine with GPUs every process uses one of them.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import autoprune as ap
from autoprune.cli.demo import DigitNet, Digits, accuracy, load_digits


def train(digits: Digits, epochs: int, device: torch.device) -> ap.Result:
    model = DigitNet()
    # Before the model is wrapped; the ONNX file will take any number of images.
    pruner = ap.Pruner(model, digits.train_x[:2], options=ap.Options(dynamic_shapes="batch"))
    wrapped = DistributedDataParallel(model.to(device))

    images = TensorDataset(digits.train_x, digits.train_y)
    sampler = DistributedSampler(images, drop_last=True)
    loader = DataLoader(images, batch_size=32, sampler=sampler)
    steps = len(loader) * epochs
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    optimizer = pruner.hesso(base, flops=0.3, steps=steps)  # the only new line
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps)

    for epoch in range(epochs):
        wrapped.train()
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(wrapped(x.to(device)), y.to(device)).backward()
            optimizer.step()
            schedule.step()
        if distributed.get_rank() == 0:
            left = 1 - optimizer.training.zero.float().mean().item()
            print(f"epoch {epoch + 1}: {left:.0%} of the units left", flush=True)
    return pruner.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("digits-small.onnx"))
    arguments = parser.parse_args()
    distributed.init_process_group()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.manual_seed(0)
    digits = load_digits()
    result = train(digits, arguments.epochs, device)
    if distributed.get_rank() == 0:
        report = result.report
        share = report.after.flops / report.before.flops
        print(f"{share:.1%} of the FLOPs, accuracy {accuracy(result.model, digits):.1%}")
        result.save(arguments.output)
        print(f"saved {arguments.output}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
