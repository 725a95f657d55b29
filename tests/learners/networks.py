"""Networks and inputs for the tests of what happens in training."""

import torch
from torch import Tensor, nn

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()


class Residual(nn.Module):
    """A stem, three residual blocks and a head, in double precision and training mode."""

    def __init__(self, width: int = 8):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(4, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 3)
        self.double()

    def block(self, block: nn.Module, x: Tensor) -> Tensor:
        return block(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + self.block(block, x).relu()
        return self.head(x)


def perturbed(model: nn.Module) -> nn.Module:
    """`model` itself, every parameter of which was changed by some ten percent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.mul_(1 + 0.1 * noise)
    return model
