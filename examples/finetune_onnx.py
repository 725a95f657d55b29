"""Fine-tune an ONNX model in torch, prune it, and write it back.

    python examples/finetune_onnx.py

The model is a digits classifier exported to ONNX; its labels are then shuffled by a fixed
permutation, and the imported model is trained until it knows the new ones.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import autoprune as ap


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    return (model(images).argmax(1) == labels).float().mean().item()


def exported(images: torch.Tensor, labels: torch.Tensor, path: Path) -> None:
    """Somebody's model: all that is left of it is the file."""
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10)
    )
    train(net, images, labels, 100)
    batch = {0: torch.export.Dim.DYNAMIC}
    torch.onnx.export(net, (images[:2],), path, dynamo=True, dynamic_shapes=(batch,), verbose=False)


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    new = torch.randperm(10)[labels]
    train_part, test_part = slice(0, 1400), slice(1400, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exported(images[train_part], labels[train_part], path)

        model = ap.to_torch(path)
        print(f"imported:   {accuracy(model, images[test_part], new[test_part]):.1%}")
        train(model, images[train_part], new[train_part], 200)
        print(f"fine-tuned: {accuracy(model, images[test_part], new[test_part]):.1%}")

        any_batch = ap.Options(dynamic_shapes="batch")
        result = ap.prune(model, images[:2], flops=0.5, options=any_batch)
        train(result.model, images[train_part], new[train_part], 100)
        print(f"pruned:     {accuracy(result.model, images[test_part], new[test_part]):.1%}")
        result.save(Path(folder) / "small.onnx")


if __name__ == "__main__":
    main()
