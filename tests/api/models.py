"""Small networks for the tests of the public functions."""

import torch
import torch.nn.functional as F
from torch import nn


class Digits(nn.Sequential):
    """A classifier of images: convolutions, batch norm, dropout."""

    def __init__(self, width=32):
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Dropout(0.5), nn.Conv2d(2 * width, width, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5),
        )  # fmt: skip


class Mixer(nn.Module):
    """Attention and a feed-forward layer in RMS-normalized residual branches; tied words."""

    def __init__(self, words=11, width=32, heads=4):
        super().__init__()
        self.heads, self.width = heads, width // heads
        self.words = nn.Embedding(words, width)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, i):
        n, t = i.shape
        x = self.words(i)
        q, k, v = (
            p.view(n, t, self.heads, -1).transpose(1, 2)
            for p in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x)


class Branchy(nn.Module):
    """Its forward states sizes as literals, so a cut network cannot be of this class."""

    def __init__(self):
        super().__init__()
        self.a, self.z = nn.Linear(4, 256), nn.Linear(256, 3)

    def forward(self, x):
        y = self.a(x).view(-1, 4, 64).relu()
        return self.z(y.reshape(-1, 256))


def build(make, seed=0):
    """The network of `make` with weights, biases and statistics that all matter."""
    torch.manual_seed(seed)
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
WORDS = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))

MODELS = {
    "digits": (Digits, IMAGES),
    "mixer": (Mixer, WORDS),
    "branchy": (Branchy, VECTORS),
}
