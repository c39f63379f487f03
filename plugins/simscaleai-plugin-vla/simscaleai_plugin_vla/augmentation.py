"""Random changes to instructions in training, so that the words that matter are found anywhere."""

from __future__ import annotations

import torch

_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"
_MOST_INSERTED = 4


def vary_words(text: str, *, drop: float, insert: float) -> str:
    """Drop words and insert words that mean nothing.

    Drawn from torch's global generator of the CPU, which a run seeds and a checkpoint restores.

    Args:
        text: The instruction.
        drop: Probability that a word is dropped [0 to 1].
        insert: Probability that meaningless words, 1 to 4 in a row, come before a word [0 to 1].

    Returns:
        The changed instruction.

    Source:
        Ours; dropping words as in Iyyer et al. 2015 (deep averaging networks), section 3.
    """
    if not (drop or insert):
        return text
    words = text.split()
    draws = torch.rand(len(words) + 1, 2).tolist()
    out: list[str] = []
    for place, (first, second) in enumerate(draws):
        if first < insert:
            out += _fillers()
        if place < len(words) and second >= drop:
            out.append(words[place])
    return " ".join(out)


def _fillers() -> list[str]:
    count = int(torch.randint(1, _MOST_INSERTED + 1, ()))
    return [_filler() for _ in range(count)]


def _filler() -> str:
    """Return a pronounceable word of 2 to 7 letters."""
    length, start = (int(n) for n in torch.randint(0, 6, (2,)))
    letters = torch.randint(0, len(_CONSONANTS) * len(_VOWELS), (length + 2,)).tolist()
    kinds = (_CONSONANTS, _VOWELS)
    return "".join(
        kinds[(start + i) % 2][n % len(kinds[(start + i) % 2])] for i, n in enumerate(letters)
    )
