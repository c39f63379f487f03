"""Random changes to instructions in training: words are dropped, and meaningless ones inserted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"
_MAX_INSERTED = 4


class WordVariation(nn.Module):
    """Changes the instructions of training batches, after a number of batches with plain ones.

    Meaningless words make a policy robust to phrasings that are not in the data. From the start,
    they hide the words that matter: on the task reach_language, a policy trained on plain
    instructions followed them after 300 steps; one trained on varied instructions from the start
    did not after 650.

    Args:
        drop: Probability that a word is dropped [0 to 1].
        insert: Probability that meaningless words are inserted before a word [0 to 1].
        after: Training batches with plain instructions before the varied ones.
    """

    batches: Tensor

    def __init__(self, *, drop: float, insert: float, after: int) -> None:
        super().__init__()
        self._drop, self._insert, self._after = drop, insert, after
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._is_over = False
        # the counter on the host: to read it on the device would be to wait for all its work
        self._known: Tensor | None = torch.zeros((), dtype=torch.int64, device="cpu")
        self.register_load_state_dict_post_hook(_forget_count)  # type: ignore[no-untyped-call]

    def forward(self, texts: Sequence[str]) -> Sequence[str]:
        """Return the instructions of one training batch, each distinct one changed at random."""
        if not self._is_over:
            self._is_over = self._count()
        if not self._is_over:
            return texts
        changed = {
            text: vary_words(text, drop=self._drop, insert=self._insert)
            for text in dict.fromkeys(texts)
        }
        return [changed[text] for text in texts]

    def _count(self) -> bool:
        """Count a batch with plain instructions; return whether there were enough before it."""
        if self._known is None:
            self._known = self.batches.to("cpu", copy=True)
        if int(self._known) >= self._after:
            return True
        self._known.add_(1)
        self.batches.add_(1)
        return False


def _forget_count(module: nn.Module, _: Any) -> None:
    """Read the counter anew: it was just loaded."""
    module._is_over, module._known = False, None  # type: ignore[assignment]


def vary_words(text: str, *, drop: float, insert: float) -> str:
    """Drop words and insert meaningless ones.

    Drawn from torch's global generator of the CPU, which a run seeds and a checkpoint restores.

    Args:
        text: The instruction.
        drop: Probability that a word is dropped [0 to 1].
        insert: Probability that 1 to 4 meaningless words are inserted before a word [0 to 1].

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
    for position, (first, second) in enumerate(draws):
        if first < insert:
            out += _fillers()
        if position < len(words) and second >= drop:
            out.append(words[position])
    return " ".join(out)


def _fillers() -> list[str]:
    count = int(torch.randint(1, _MAX_INSERTED + 1, ()))
    return [_filler() for _ in range(count)]


def _filler() -> str:
    """Return a pronounceable word of 2 to 7 letters."""
    length, start = (int(n) for n in torch.randint(0, 6, (2,)))
    letters = torch.randint(0, len(_CONSONANTS) * len(_VOWELS), (length + 2,)).tolist()
    kinds = (_CONSONANTS, _VOWELS)
    return "".join(
        kinds[(start + i) % 2][n % len(kinds[(start + i) % 2])] for i, n in enumerate(letters)
    )
