"""Random changes to instructions in training, so that the words that matter are found anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"
_MOST_INSERTED = 4


class WordVariation(nn.Module):
    """Changes the instructions of training batches, once the words have been bound to places.

    Words that mean nothing make a policy robust to phrasings that it has not seen. From the start
    they hide the words that matter: on the task reach_language a policy that was told plainly
    followed its instructions after 300 steps, one that never was told plainly not after 650.

    Args:
        drop: Probability that a word is dropped [0 to 1].
        insert: Probability that meaningless words come before a word [0 to 1].
        after: Training batches with plain instructions that come first.
    """

    batches: Tensor

    def __init__(self, *, drop: float, insert: float, after: int) -> None:
        super().__init__()
        self._drop, self._insert, self._after = drop, insert, after
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._is_over = False  # spares a look at the device once it is so
        self.register_load_state_dict_post_hook(_look_again)  # type: ignore[no-untyped-call]

    def forward(self, texts: Sequence[str]) -> Sequence[str]:
        """Return the instructions of one training batch, each distinct one changed at random."""
        if not self._is_over:
            self._is_over = int(self.batches) >= self._after
        if not self._is_over:
            self.batches.add_(1)
            return texts
        changed = {
            text: vary_words(text, drop=self._drop, insert=self._insert)
            for text in dict.fromkeys(texts)
        }
        return [changed[text] for text in texts]


def _look_again(module: nn.Module, _: Any) -> None:
    """Let the counter decide that was loaded, not the one before."""
    module._is_over = False  # type: ignore[assignment]


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
