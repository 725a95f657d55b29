"""Train once with Lightning.

    python examples/train_once_lightning.py

A residual network learns the handwritten digits of scikit-learn and loses 70 % of its FLOPs on the
way. The learner is what `configure_optimizers` returns; nothing else changes.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import autoprune as ap
from autoprune.cli.demo import DigitNet, accuracy, load_digits
from tests.zoo.shim import ensure_torchvision

if importlib.util.find_spec("torchvision"):
    ensure_torchvision()  # lightning imports torchvision if it is installed
import lightning


class Classifier(lightning.LightningModule):
    """A network and how it is trained.

    Args:
        network: any classifier.
        example: a batch of its inputs.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network = network
        # The ONNX file will take any number of inputs.
        self.pruner = ap.Pruner(network, example, options=ap.Options(dynamic_shapes="batch"))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return cross_entropy(self.network(x), y)

    def configure_optimizers(self):
        steps = int(self.trainer.estimated_stepping_batches)
        base = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        optimizer = self.pruner.hesso(base, flops=0.3, steps=steps)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_epoch_end(self) -> None:
        left = 1 - self.pruner.optimizer.training.zero.float().mean()
        self.print(f"epoch {self.current_epoch + 1}: {left:.0%} of the units left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--devices", default="1", help="how many processes, or auto")
    parser.add_argument("--output", type=Path, default=Path("digits-small.onnx"))
    arguments = parser.parse_args()
    lightning.seed_everything(0)
    digits = load_digits()
    classifier = Classifier(DigitNet(), digits.train_x[:2])
    images = TensorDataset(digits.train_x, digits.train_y)
    loader = DataLoader(images, batch_size=32, shuffle=True, drop_last=True)
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs,
        devices=arguments.devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, loader)
    result = classifier.pruner.finish()
    if trainer.is_global_zero:
        report = result.report
        share = report.after.flops / report.before.flops
        print(f"{share:.1%} of the FLOPs, accuracy {accuracy(result.model, digits):.1%}")
        result.save(arguments.output)
        print(f"saved {arguments.output}")


if __name__ == "__main__":
    main()
