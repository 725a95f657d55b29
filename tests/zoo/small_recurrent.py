"""Small networks that loop over time: recurrent layers and cells, scans, causal convolutions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row


class Layered(nn.Module):
    """A linear, one of torch's recurrent layers, a linear on its outputs and its last states."""

    def __init__(self, cell: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        self.enter, self.cell = nn.Linear(12, 20), cell
        self.leave = nn.Linear(outputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.cell(self.enter(x).relu())
        return self.leave(y)


class LastState(nn.Module):
    """The final hidden state of both layers is read, not the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.leave = nn.LSTM(12, 24, 2, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.cell(x)
        return self.leave(hidden.transpose(0, 1).flatten(1))


class LearnedState(nn.Module):
    """The initial state is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 1, 24))
        self.cell, self.leave = nn.GRU(12, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.cell(x, self.start.expand(-1, x.shape[0], -1).contiguous())[0])


class CellLoop(nn.Module):
    """A cell called once for each step, with residual over time."""

    def __init__(self, long: bool) -> None:
        super().__init__()
        self.long = long
        self.cell = nn.LSTMCell(12, 24) if long else nn.GRUCell(12, 24)
        self.leave = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(x.shape[0], 24)
        carry, steps = torch.zeros_like(hidden), []
        for step in x.unbind(1):
            if self.long:
                hidden, carry = self.cell(step, (hidden, carry))
            else:
                hidden = self.cell(step, hidden)
            steps.append(hidden)
        return self.leave(torch.stack(steps, 1))


class GatesByHand(nn.Module):
    """An LSTM written out: one projection, chunked into four gates."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.hidden = nn.Linear(12, 96), nn.Linear(24, 96, bias=False)
        self.leave = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 24)
        c = torch.zeros(x.shape[0], 24)
        for step in x.unbind(1):
            i, f, g, o = (self.input(step) + self.hidden(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.leave(h)


class ConvLSTM(nn.Module):
    """State and input concatenated, one convolution for all gates."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(3 + 12, 48, 3, padding=1), nn.Conv2d(12, 2, 1)

    def forward(self, frames: Tensor) -> Tensor:
        batch, _, _, height, width = frames.shape
        h = frames.new_zeros(batch, 12, height, width)
        c = frames.new_zeros(batch, 12, height, width)
        for frame in frames.unbind(1):
            i, f, o, g = self.gates(torch.cat([frame, h], 1)).split(12, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class SelectiveScan(nn.Module):
    """A state space with input-dependent steps, unrolled (Mamba)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(12, 48, bias=False), nn.Linear(24, 10, bias=False)
        self.conv = nn.Conv1d(24, 24, 3, groups=24, padding=2)
        self.select, self.step = nn.Linear(24, 4 + 6 + 6, bias=False), nn.Linear(4, 24)
        self.decay = nn.Parameter(torch.log(torch.arange(1.0, 7.0)).repeat(24, 1))
        self.skip = nn.Parameter(torch.ones(24))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        x, gate = self.enter(x).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., :length].transpose(1, 2))
        step, b, c = self.select(x).split([4, 6, 6], -1)
        step = F.softplus(self.step(step))
        decay = torch.exp(step.unsqueeze(-1) * -torch.exp(self.decay))
        drive = step.unsqueeze(-1) * b.unsqueeze(2) * x.unsqueeze(-1)
        state, outputs = torch.zeros_like(drive[:, 0]), []
        for t in range(length):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * c[:, t].unsqueeze(1)).sum(-1))
        y = torch.stack(outputs, 1) + x * self.skip
        return self.leave(y * F.silu(gate))


class Retention(nn.Module):
    """Queries and keys weighed by a fixed decay per head, then a norm of each head (RetNet)."""

    decay: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 24), nn.Linear(12, 24), nn.Linear(12, 48)
        self.gate, self.norm = nn.Linear(12, 48), nn.GroupNorm(4, 48, affine=False)
        self.leave = nn.Linear(48, 10)
        distance = torch.arange(9)[:, None] - torch.arange(9)
        rate = 1 - 2.0 ** -torch.arange(2, 6)
        decay = torch.where(distance >= 0, rate[:, None, None] ** distance.clamp(min=0), 0.0)
        self.register_buffer("decay", decay)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            f(x).view(batch, length, 4, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = (q @ k.mT * self.decay) @ v
        y = self.norm(y.transpose(1, 2).reshape(batch * length, 48)).view(batch, length, 48)
        return self.leave(F.silu(self.gate(x)) * y)


class LinearRecurrence(nn.Module):
    """A diagonal recurrence computed by a cumulative sum of logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.forget, self.leave = (
            nn.Linear(12, 24),
            nn.Linear(12, 24),
            nn.Linear(24, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        decay = F.logsigmoid(self.forget(x)).cumsum(1)
        y = torch.exp(decay) * (self.value(x) * torch.exp(-decay)).cumsum(1)
        return self.leave(y.relu())


class CausalBlock(nn.Module):
    """Two dilated causal convolutions with weight norm and a residual (TCN)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.pad = 2 * dilation
        self.one = norm(nn.Conv1d(inputs, outputs, 3, dilation=dilation))
        self.two = norm(nn.Conv1d(outputs, outputs, 3, dilation=dilation))
        self.short = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(F.pad(x, (self.pad, 0))).relu()
        y = self.two(F.pad(y, (self.pad, 0))).relu()
        return (y + self.short(x)).relu()


class WaveNet(nn.Module):
    """Dilated convolutions, tanh times sigmoid, residual and skip sums."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(5, 16, 1)
        self.gates = nn.ModuleList(nn.Conv1d(16, 40, 2, dilation=2**i) for i in range(3))
        self.residual = nn.ModuleList(nn.Conv1d(20, 16, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(20, 24, 1) for _ in range(3))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(24, 12, 1), nn.ReLU(), nn.Conv1d(12, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.enter(x), torch.zeros(())
        for i in range(3):
            value, gate = self.gates[i](F.pad(x, (2**i, 0))).chunk(2, 1)
            y = value.tanh() * gate.sigmoid()
            x, total = x + self.residual[i](y), total + self.skips[i](y)
        return self.head(total)


class Attended(nn.Module):
    """A recurrent encoder, and additive attention over its outputs at each decoding step."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(12, 16, batch_first=True, bidirectional=True)
        self.cell, self.start = nn.GRUCell(32, 24), nn.Linear(32, 24)
        self.key, self.query = nn.Linear(32, 20), nn.Linear(24, 20)
        self.score, self.leave = nn.Linear(20, 1, bias=False), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        memory, _ = self.encoder(x)
        keys, hidden, steps = self.key(memory), self.start(memory.mean(1)).tanh(), []
        for _ in range(3):
            scores = self.score(torch.tanh(keys + self.query(hidden).unsqueeze(1))).softmax(1)
            hidden = self.cell((scores * memory).sum(1), hidden)
            steps.append(self.leave(hidden))
        return torch.stack(steps, 1)


class Flow(nn.Module):
    """Runge-Kutta steps of one small network (a neural ordinary differential equation)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(12, 20), nn.Linear(20, 10)
        self.field = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 20))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(2):
            a = self.field(x)
            b = self.field(x + a / 4)
            x = x + (a + self.field(x + b / 2)) / 4
        return self.leave(x)


def _temporal() -> nn.Module:
    blocks = (CausalBlock(5, 16, 1), CausalBlock(16, 20, 2), CausalBlock(20, 20, 4))
    return nn.Sequential(*blocks, nn.Conv1d(20, 6, 1))


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shape: int) -> ZooModel:
    return row(f"small_{name}", make, normal(shape or (2, 9, 12)), notes)


def _layered(name: str, make: Callable[[], nn.RNNBase], outputs: int, notes: str) -> ZooModel:
    return _row(name, lambda: Layered(make(), outputs), notes)


RECURRENT: tuple[ZooModel, ...] = (
    _layered(
        "lstm", lambda: nn.LSTM(20, 24, batch_first=True, bidirectional=True), 48, "bidirectional"
    ),
    _layered("gru", lambda: nn.GRU(20, 24, batch_first=True), 24, "GRU"),
    _layered("rnn", lambda: nn.RNN(20, 24, nonlinearity="relu"), 24, "relu, time first"),
    _layered(
        "lstm_stacked", lambda: nn.LSTM(20, 24, 3, batch_first=True), 24, "three layers, one call"
    ),
    _layered(
        "lstm_projected", lambda: nn.LSTM(20, 24, proj_size=8, batch_first=True), 8, "projection"
    ),
    _layered(
        "gru_stacked",
        lambda: nn.GRU(20, 24, 2, batch_first=True, bidirectional=True, bias=False),
        48,
        "two bidirectional layers without bias",
    ),
    _row("lstm_last", LastState, "final states of both layers"),
    _row("gru_learned_state", LearnedState, "initial state is a parameter"),
    _row("lstm_cell", lambda: CellLoop(long=True), "unrolled cell"),
    _row("gru_cell", lambda: CellLoop(long=False), "unrolled cell"),
    _row("lstm_by_hand", GatesByHand, "four gates of one projection"),
    _row("conv_lstm", ConvLSTM, "convolutional gates, frames", 2, 3, 3, 8, 10),
    _row("selective_scan", SelectiveScan, "state space with selection, unrolled"),
    _row("retention", Retention, "decay instead of softmax, norm of each head"),
    _row("linear_recurrence", LinearRecurrence, "cumulative sums over time"),
    _row("temporal", _temporal, "causal dilated convolutions, weight norm", 2, 5, 24),
    _row("wavenet", WaveNet, "gates, residual and skip sums", 2, 5, 24),
    _row("attended_decoder", Attended, "recurrent encoder, additive attention"),
    _row("flow", Flow, "one network evaluated in steps"),
)
