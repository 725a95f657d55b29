"""Pruned models of libraries with configurations save and load by the library's own means."""

import copy
import logging
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import autoprune as ap
from tests.zoo.models import get


@dataclass
class Config:
    hidden: int = 24
    inner: int | None = None
    layers: int = 2
    window: int = 24


class Network(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        inner = config.inner or 3 * config.hidden + 8
        self.stem, self.head = nn.Linear(8, config.hidden), nn.Linear(config.hidden, 3)
        self.positions = nn.Parameter(torch.randn(config.window))
        self.up = nn.ModuleList(nn.Linear(config.hidden, inner) for _ in range(config.layers))
        self.down = nn.ModuleList(nn.Linear(inner, config.hidden) for _ in range(config.layers))

    def save_pretrained(self, folder):
        torch.save(self.state_dict(), folder / "weights.pt")

    def forward(self, x: Tensor) -> Tensor:
        x = (self.stem(x) * self.positions[: x.shape[1], None]).relu()
        for up, down in zip(self.up, self.down, strict=True):
            x = (x + down(up(x).relu())).relu()
        return self.head(x)


X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def prune(**options):
    torch.manual_seed(0)
    model = Network(Config())
    return model, ap.prune(
        model, X, channels=0.5, multiple_of=1, options=ap.Options(**options)
    )  # fmt: skip


def test_the_configuration_follows_the_cut_and_nothing_else_in_it():
    model, result = prune(keep_config=True)
    assert result.model.config == Config(hidden=12, inner=40, layers=2, window=24)
    assert model.config == Config()
    rebuilt = Network(result.model.config)
    rebuilt.load_state_dict(result.model.state_dict())
    torch.testing.assert_close(rebuilt(X), result.model(X), rtol=0, atol=0)


def test_a_note_says_what_the_configuration_cannot_describe():
    torch.manual_seed(0)
    model = Network(Config())
    result = ap.prune(model, X, channels=0.5, multiple_of=1, ignore=["up.0"])
    assert result.model.config == Config()
    assert any("configuration" in note for note in result.report.notes)


def test_a_configuration_that_is_a_dict_is_left_as_it_is():
    torch.manual_seed(0)
    model = Network(Config())
    model.config = {"hidden": 24}
    result = ap.prune(model, X, channels=0.5, multiple_of=1)
    assert result.model.config == {"hidden": 24}
    assert any("configuration is a dict" in note for note in result.report.notes)


@dataclass
class Shared:
    """One width for two kinds of layers, and a width that has to be a multiple of another."""

    width: int = 24
    heads: int = 4
    inner: int = 40

    def validate(self):
        if self.width % self.heads:
            logging.getLogger("a library").warning("an odd width")
            raise ValueError("width is no multiple of heads")


class Halves(nn.Module):
    def __init__(self, config: Shared):
        super().__init__()
        self.config = config
        self.stem, self.head = nn.Linear(8, config.width), nn.Linear(config.width, 3)
        self.first, self.second = self.pair(config), self.pair(config)

    @staticmethod
    def pair(config: Shared):
        return nn.ModuleDict(
            {
                "up": nn.Linear(config.width, config.inner),
                "down": nn.Linear(config.inner, config.width),
            }
        )

    def save_pretrained(self, folder, state_dict=None):
        torch.save((self.config, self.state_dict()), folder + "/weights.pt")

    @classmethod
    def from_pretrained(cls, folder):
        config, state = torch.load(folder + "/weights.pt", weights_only=False)
        config.validate()
        model = cls(config)
        model.load_state_dict(state)
        return model

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for pair in (self.first, self.second):
            x = (x + pair["down"](pair["up"](x).relu())).relu()
        return self.head(x)


def test_sizes_are_chosen_among_those_a_configuration_accepts(tmp_path, caplog):
    torch.manual_seed(0)
    model = Halves(Shared())
    options = ap.Options(keep_config=True)
    result = ap.prune(model, X, params=0.6, multiple_of=1, options=options)
    config = result.model.config
    assert config.width % config.heads == 0
    assert not caplog.records  # of what is only tried
    assert config.inner < 40
    assert {g.kept for g in result.report.groups if g.units == 40} == {config.inner}
    result.model.save_pretrained(str(tmp_path))
    loaded = Halves.from_pretrained(str(tmp_path))
    torch.testing.assert_close(loaded(X), result.model(X), rtol=0, atol=0)


def test_a_checkpoint_that_could_not_be_read_is_not_written(tmp_path):
    torch.manual_seed(0)
    options = ap.Options(keep_config=False)
    result = ap.prune(
        Halves(Shared()), X, channels=0.5, multiple_of=1, ignore=["first"], options=options
    )
    for model in (result.model, copy.deepcopy(result.model)):
        with pytest.raises(ap.AutopruneError, match="cannot describe"):
            model.save_pretrained(str(tmp_path))
        assert type(model) is Halves
        assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="cannot describe"):
        result.model.save_pretrained(str(tmp_path), state_dict=None)


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "least"), [("hf_llama", 5), ("hf_bert", 2), ("hf_gpt2", 2)])
def test_transformers_load_what_was_saved(name, least, tmp_path):
    row = get(name)
    model, inputs = row.build(), row.inputs()
    result = ap.prune(
        model, inputs, channels=0.5, multiple_of=1, options=ap.Options(keep_config=True)
    )
    small = result.model.eval()
    small.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert sum(g.kept < g.units for g in result.report.groups) >= least
    assert sum(p.numel() for p in loaded.parameters()) < sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs)[0], small(**inputs)[0], rtol=0, atol=0)
