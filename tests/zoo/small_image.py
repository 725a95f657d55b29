"""Small image networks of many tasks: generation, super-resolution, detection, pose, points."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.small_convolution import conv, head


class Cascade(nn.Module):
    """Cascading residual blocks: every output so far concatenated and fused (CARN)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(conv(16, 16) for _ in range(3))
        self.fuse = nn.ModuleList(nn.Conv2d(16 * n, 16, 1) for n in (2, 3, 4))
        self.up, self.leave = nn.Conv2d(16, 64, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        seen = x
        for block, fuse in zip(self.blocks, self.fuse, strict=True):
            seen = torch.cat([seen, block(x) + x], 1)
            x = fuse(seen)
        return self.leave(F.pixel_shuffle(self.up(x), 2).relu())


class ChannelAttention(nn.Module):
    """Residual groups of gated residual blocks under a long skip (RCAN, EDSR)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(16, 20, 3, padding=1) for _ in range(2))
        self.second = nn.ModuleList(nn.Conv2d(20, 16, 3, padding=1) for _ in range(2))
        self.down = nn.ModuleList(nn.Conv2d(16, 4, 1) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(4, 16, 1) for _ in range(2))
        self.last = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        start = x = self.enter(x)
        for first, second, down, up in zip(
            self.first, self.second, self.down, self.up, strict=True
        ):
            y = second(first(x).relu())
            gate = up(down(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
            x = x + 0.1 * y * gate
        return F.pixel_shuffle(self.leave(self.last(x) + start), 2)


class SuperResolver(nn.Module):
    """Residual blocks with PReLU, two shuffled enlargements (SRGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(3, 16, 9, padding=4), nn.PReLU())
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.PReLU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.BatchNorm2d(16),
            )
            for _ in range(2)
        )
        self.up = nn.Sequential(
            *(nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
            *(nn.Conv2d(16, 48, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
        )
        self.leave = nn.Conv2d(12, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        start = x = self.enter(x)
        for block in self.body:
            x = x + block(x)
        return self.leave(self.up(x + start)).tanh()


class DetectionHead(nn.Module):
    """Boxes as distributions over distances (DFL) and classes, three scales joined (YOLOv8)."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 32)
        self.stages = nn.ModuleList(
            conv(a, b, stride=2) for a, b in zip((3, 16, 24), widths, strict=True)
        )
        self.boxes = nn.ModuleList(
            nn.Sequential(conv(w, 20), conv(20, 20), nn.Conv2d(20, 4 * 8, 1)) for w in widths
        )
        self.classes = nn.ModuleList(
            nn.Sequential(conv(w, 12), nn.Conv2d(12, 5, 1)) for w in widths
        )
        self.project = nn.Conv2d(8, 1, 1, bias=False)
        self.project.weight.data = torch.arange(8.0).view(1, 8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        scales = []
        for stage, boxes, classes in zip(self.stages, self.boxes, self.classes, strict=True):
            x = stage(x)
            scales.append(torch.cat([boxes(x), classes(x)], 1).flatten(2))
        boxes, classes = torch.cat(scales, 2).split([32, 5], 1)
        boxes = boxes.view(x.shape[0], 4, 8, -1).transpose(1, 2).softmax(1)
        boxes = self.project(boxes).view(x.shape[0], 4, -1)
        low, high = boxes.chunk(2, 1)
        return torch.cat([(low + high) / 2, high - low, classes.sigmoid()], 1)


class Hourglass(nn.Module):
    """Down and up with skips by addition, applied recursively."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.skip, self.down, self.up = conv(width, width), conv(width, width), conv(width, width)
        self.inner = Hourglass(depth - 1, width) if depth > 1 else conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.skip(x) + F.interpolate(y, scale_factor=2)


class StackedHourglass(nn.Module):
    """The heat maps of the first stack are fed back into the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.stacks = nn.ModuleList(Hourglass(2, 16) for _ in range(2))
        self.features = nn.ModuleList(conv(16, 16, 1) for _ in range(2))
        self.maps = nn.ModuleList(nn.Conv2d(16, 5, 1) for _ in range(2))
        self.merge_features, self.merge_maps = nn.Conv2d(16, 16, 1), nn.Conv2d(5, 16, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, outputs = self.stem(x), []
        for i in range(2):
            y = self.features[i](self.stacks[i](x))
            outputs.append(self.maps[i](y))
            if i == 0:
                x = x + self.merge_features(y) + self.merge_maps(outputs[0])
        return outputs


class SpatialTransformer(nn.Module):
    """Features resampled under a predicted affine map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 16), conv(16, 20), head(20)
        self.locate = nn.Sequential(conv(16, 8, stride=2), head(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        grid = F.affine_grid(self.locate(x).view(-1, 2, 3), list(x.shape), align_corners=False)
        return self.head(self.body(F.grid_sample(x, grid, align_corners=False)))


class TimeUNet(nn.Module):
    """A U-Net whose blocks are shifted and scaled by a time embedding (diffusion)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(8, 24), nn.SiLU(), nn.Linear(24, 24))
        self.stem, self.bottom = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, 2, 1)
        self.modulate, self.norm = nn.Linear(24, 48), nn.GroupNorm(4, 24)
        self.body = nn.Conv2d(24, 24, 3, padding=1)
        self.shift, self.up = nn.Linear(24, 24), nn.ConvTranspose2d(24, 16, 4, 2, 1)
        self.leave = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        angles = time[:, None] * 10.0 ** -torch.arange(4)
        time = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        fine = self.stem(x)
        y = self.bottom(fine.relu())
        scale, offset = self.modulate(F.silu(time))[..., None, None].chunk(2, 1)
        z = self.body(F.silu(self.norm(y) * (1 + scale) + offset))
        y = y + z + self.shift(time)[..., None, None]
        return self.leave(torch.cat([fine, self.up(y)], 1).relu())


class Points(nn.Module):
    """Points transformed by a predicted matrix, shared layers, maximum over points (PointNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.spy = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.pose = nn.Linear(16, 9)
        self.local = nn.Sequential(nn.Conv1d(3, 20, 1), nn.BatchNorm1d(20), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv1d(20, 32, 1), nn.BatchNorm1d(32), nn.ReLU())
        self.label, self.parts = nn.Linear(32, 10), nn.Conv1d(52, 6, 1)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        pose = self.pose(self.spy(points).amax(2)).view(-1, 3, 3) + torch.eye(3)
        local = self.local(torch.bmm(pose, points))
        whole = self.wide(local).amax(2)
        spread = whole.unsqueeze(2).expand(-1, -1, points.shape[2])
        return self.label(whole), self.parts(torch.cat([local, spread], 1))


class GroupedPoints(nn.Module):
    """Neighbours of sampled points gathered, shared layers, maximum (PointNet++, EdgeConv)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 20))
        self.second = nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 24))
        self.leave = nn.Linear(24, 10)

    def neighbours(self, points: Tensor, x: Tensor) -> Tensor:
        """Each point's features beside the differences to its four nearest."""
        nearest = torch.cdist(points, points).topk(4, largest=False).indices
        index = nearest.flatten(1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
        near = x.gather(1, index).view(*nearest.shape, -1)
        here = x.unsqueeze(2).expand_as(near)
        return torch.cat([here, near - here], -1)

    def forward(self, points: Tensor) -> Tensor:
        x = self.first(self.neighbours(points, points)).amax(2)
        x = self.second(self.neighbours(points, x)).amax(2)
        return self.leave(x.mean(1))


class ModulatedConv(nn.Module):
    """The kernel is scaled by a style per example and normalised; one grouped convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.style, self.bias = nn.Linear(12, inputs), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        weight = self.weight * self.style(style)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, batch * channels, height, width)
        x = F.conv2d(x, weight.flatten(0, 1), padding=1, groups=batch)
        x = x.view(batch, -1, height, width) + self.bias[:, None, None]
        return F.leaky_relu(x, 0.2)


class StyledGenerator(nn.Module):
    """A learned constant, modulated by a mapped style (StyleGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, 16, 4, 5))
        self.map = nn.Sequential(nn.Linear(8, 20), nn.LeakyReLU(0.2), nn.Linear(20, 12))
        self.first, self.second = ModulatedConv(16, 20), ModulatedConv(20, 12)
        self.leave = nn.Conv2d(12, 3, 1)

    def forward(self, code: Tensor) -> Tensor:
        style = self.map(code)
        x = self.first(self.constant.expand(code.shape[0], -1, -1, -1), style)
        return self.leave(self.second(F.interpolate(x, scale_factor=2.0), style))


class AutoEncoder(nn.Module):
    """Mean and log-variance of one linear, a decoder from the mean (VAE in evaluation)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 16, stride=2), conv(16, 24, stride=2), nn.Flatten())
        self.latent, self.expand = nn.Linear(24 * 4 * 5, 12), nn.Linear(6, 24 * 4 * 5)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(24, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.latent(self.down(x)).chunk(2, 1)
        return self.up(self.expand(mean).relu().view(-1, 24, 4, 5)), spread


class Codebook(nn.Module):
    """Each latent replaced by the nearest of a table (VQ-VAE)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.latent = conv(3, 16, stride=2), nn.Conv2d(16, 8, 1)
        self.table = nn.Embedding(12, 8)
        self.up = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        z = self.latent(self.down(x)).permute(0, 2, 3, 1)
        nearest = torch.cdist(z.flatten(0, 2), self.table.weight).argmin(1)
        return self.up(self.table(nearest).view(z.shape).permute(0, 3, 1, 2))


class Siamese(nn.Module):
    """One trunk on two images, then the distance of normalised embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv(3, 16), conv(16, 20), head(20, 12))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = F.normalize(self.trunk(left)), F.normalize(self.trunk(right))
        return (a - b).square().sum(1).sqrt()


class Capsules(nn.Module):
    """Votes of primary capsules routed by agreement, squashed vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.primary = conv(3, 16), nn.Conv2d(16, 24, 5, 4)
        self.votes = nn.Parameter(torch.randn(3 * 3 * 4, 5, 6, 8) / 5)

    def squash(self, x: Tensor) -> Tensor:
        size = x.square().sum(-1, keepdim=True)
        return size / (1 + size) * x / (size + 1e-8).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(self.stem(x)).unflatten(1, (3, 8))
        x = self.squash(x.permute(0, 1, 3, 4, 2).flatten(1, 3))
        votes = torch.einsum("npi,pkoi->npko", x, self.votes)
        logits = torch.zeros(votes.shape[:3])
        for _ in range(2):
            y = self.squash((votes * logits.softmax(2).unsqueeze(-1)).sum(1))
            logits = logits + (votes * y.unsqueeze(1)).sum(-1)
        return y.norm(dim=-1)


class PredictedKernel(nn.Module):
    """A small network writes the kernel of a convolution (hypernetwork)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 16), head(12)
        self.latent = nn.Parameter(torch.randn(5))
        self.write = nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 12 * 16 * 9))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.write(self.latent).view(12, 16, 3, 3) / 12
        return self.head(F.conv2d(self.stem(x), kernel, padding=1).relu())


class Involution(nn.Module):
    """Kernels computed from each pixel, applied to its unfolded neighbourhood."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 16), head(16)
        self.reduce, self.kernel = conv(16, 8, 1), nn.Conv2d(8, 4 * 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, channels, height, width = x.shape
        kernel = self.kernel(self.reduce(x)).view(batch, 4, 1, 9, height, width)
        near = F.unfold(x, 3, padding=1).view(batch, 4, channels // 4, 9, height, width)
        return self.head((kernel * near).sum(3).view(batch, channels, height, width))


class DenseBlock(nn.Module):
    """Every layer reads all earlier ones; a transition halves the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.transition, self.head = conv(3, 12), conv(30, 15, 1), head(15)
        self.layers = nn.ModuleList(conv(12 + 6 * i, 6) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return self.head(F.avg_pool2d(self.transition(torch.cat(maps, 1)), 2))


class Relation(nn.Module):
    """All pairs of cells concatenated and summed (relation network)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 12, stride=4), nn.Flatten(2))
        self.pair = nn.Sequential(nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU())
        self.leave = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.stem(x).transpose(1, 2)
        count = cells.shape[1]
        left = cells.unsqueeze(1).expand(-1, count, -1, -1)
        right = cells.unsqueeze(2).expand(-1, -1, count, -1)
        return self.leave(self.pair(torch.cat([left, right], -1)).sum((1, 2)))


def _generator() -> nn.Module:
    """Transposed convolutions from a code (DCGAN)."""
    return nn.Sequential(
        nn.ConvTranspose2d(12, 24, 4, 1, 0, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.ConvTranspose2d(24, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=4),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
        nn.Tanh(),
    )


def _translator() -> nn.Module:
    """Reflection padding and instance norm (CycleGAN, pix2pix)."""
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, 12, 7),
        nn.InstanceNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 20, 3, 2, 1),
        nn.InstanceNorm2d(20, affine=True),
        nn.ReLU(),
        nn.ConvTranspose2d(20, 12, 3, 2, 1, 1),
        nn.InstanceNorm2d(12),
        nn.ReLU(),
        nn.ReflectionPad2d(3),
        nn.Conv2d(12, 3, 7),
        nn.Tanh(),
    )


def _critic() -> nn.Module:
    """Spectral norm and leaky relu (the discriminator of a patch GAN)."""
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(3, 12, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(12, 20, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        nn.Conv2d(20, 1, 3),
    )


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shapes: tuple) -> ZooModel:
    return row(f"small_{name}", make, normal(*(shapes or ((2, 3, 16, 20),))), notes)


IMAGE: tuple[ZooModel, ...] = (
    _row("cascade", Cascade, "cascading concat, pixel shuffle"),
    _row("channel_attention", ChannelAttention, "gated residual blocks, long skip"),
    _row("super_resolver", SuperResolver, "PReLU, shuffles, long skip"),
    _row("detection_head", DetectionHead, "three scales, box distributions"),
    _row("hourglass", StackedHourglass, "nested skips, heat maps fed back"),
    _row("spatial_transformer", SpatialTransformer, "grid sampling"),
    _row("time_unet", TimeUNet, "modulated by a time embedding", (2, 3, 16, 20), (2,)),
    _row("points", Points, "matrix product with the points, max over them", (2, 3, 12)),
    _row("grouped_points", GroupedPoints, "neighbours gathered", (2, 12, 3)),
    _row("styled_generator", StyledGenerator, "kernels scaled per example", (2, 8)),
    _row("autoencoder", AutoEncoder, "flatten, code, unflatten"),
    _row("codebook", Codebook, "nearest table entry"),
    _row("siamese", Siamese, "shared trunk", (2, 3, 16, 20), (2, 3, 16, 20)),
    _row("capsules", Capsules, "routing by agreement"),
    _row("predicted_kernel", PredictedKernel, "kernel written by a network"),
    _row("involution", Involution, "kernels per pixel, unfold"),
    _row("dense_block", DenseBlock, "every layer reads all earlier ones"),
    _row("relation", Relation, "all pairs of cells"),
    _row("generator", _generator, "transposed convolutions, grouped too", (2, 12, 1, 1)),
    _row("translator", _translator, "reflection padding, instance norm"),
    _row("critic", _critic, "spectral norm"),
)
