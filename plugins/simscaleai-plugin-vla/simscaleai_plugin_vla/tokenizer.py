"""Text to token ids, offline: bytes, or byte pairs learnt from the instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from simscaleai_core.errors import ConfigError, DataError

AUTO = "auto"
BYTES = "bytes"
BPE = "bpe"
_SPECIAL = ("[PAD]", "[START]")
_NUM_MERGED = 2000


class TextTokenizer:
    """A tokenizer whose state is one string, so that a checkpoint can hold it.

    Args:
        source: ``"bytes"`` or ``"auto"``, which is the same here; the JSON of a `tokenizers`
            tokenizer; or the file that holds it.

    Raises:
        ConfigError: If the source is neither.

    Example:
        >>> TextTokenizer("bytes").encode("Go")
        [1, 222, 72, 80]
    """

    def __init__(self, source: str = BYTES) -> None:
        self.source = BYTES if source == AUTO else source
        if self.source == BYTES:
            self._tokenizer = _blank()
            return
        try:
            text = source if source.lstrip().startswith("{") else Path(source).read_text("utf-8")
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:
            raise ConfigError(
                f"field 'tokenizer': expected 'bytes', 'bpe', a tokenizer's JSON or its file, got "
                f"{source[:60]!r} ({error})."
            ) from error
        self.source = text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def trained(cls, texts: Sequence[str]) -> TextTokenizer:
        """Learn byte pairs from instructions; other words are encoded as bytes.

        Args:
            texts: Instructions.

        Returns:
            The tokenizer.
        """
        tokenizer = _blank()
        trainer = trainers.BpeTrainer(
            vocab_size=_NUM_MERGED,
            special_tokens=list(_SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(texts)), trainer)
        return cls(tokenizer.to_str())

    @property
    def vocab_size(self) -> int:
        """Number of token ids; 0 pads."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, at least one."""
        ids: list[int] = self._tokenizer.encode(text).ids
        start = self._tokenizer.token_to_id(_SPECIAL[1])
        return ids if start is None and ids else [start or 0, *ids]


def tokenizer_for(source: str, instructions: Sequence[str]) -> str:
    """Return the source of a tokenizer, given the instructions of the data.

    Words of the data become single tokens: a policy learns the meaning of a word much sooner than
    that of its bytes.

    Args:
        source: ``"auto"``, ``"bpe"``, or what `TextTokenizer` takes.
        instructions: The distinct instructions of the data.

    Returns:
        The JSON of a trained tokenizer, or the source itself.

    Raises:
        DataError: If byte pairs are to be learnt and there are no instructions.
    """
    if source not in {AUTO, BPE}:
        return source
    if any(instructions):
        return TextTokenizer.trained(instructions).source
    if source == BPE:
        raise DataError(
            "field 'tokenizer': 'bpe' is learnt from the instructions of the data, which has none. "
            "Use 'bytes', or open the dataset with include_language=True."
        )
    return BYTES


def _blank() -> Tokenizer:
    """Return a tokenizer of lower-case bytes without merges."""
    alphabet = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
