"""A policy that looks at images, reads an instruction and feels its state.

B: samples, N: slots, K: cameras, C, H, W: channels, height and width, D: dimensions of the state,
T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import torch
from simscaleai_plugin_bc.chunk_acting import ChunkActing
from simscaleai_plugin_bc.fitting import input_shapes
from simscaleai_plugin_bc.heads.base import Head
from simscaleai_plugin_bc.inputs import Inputs
from simscaleai_plugin_bc.policy_base import acting
from torch import Tensor

from simscaleai_core.configio import structure
from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_plugin_vla.augmentation import WordVariation
from simscaleai_plugin_vla.build import (
    build_head,
    build_network,
    build_tokenizer,
    open_backbones,
    resolved,
)
from simscaleai_plugin_vla.listening import Listener
from simscaleai_plugin_vla.options import VLAOptions
from simscaleai_plugin_vla.text import Instructions, tokenized
from simscaleai_plugin_vla.tokenizer import AUTO, BYTES, tokenizer_for
from simscaleai_plugin_vla.vision import ImageNormalizer

_PLACE = "$.vla"


class VLAPolicy(ChunkActing):
    """A transformer from images, an instruction and the state to a chunk of actions.

    Everything that acting needs is inside: the statistics of state, action and images, and the
    tokenizer.

    Args:
        state_dim: Dimensions D of the state: all its observation keys, concatenated; 0 for none.
        action_dim: Dimensions A of an action.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_keys: Observation keys of the cameras, in order.
        image_size: Height and width of every camera's images [pixels]; other sizes are refused.
        backbones: Configurations of the pretrained encoders by part, as a checkpoint holds them;
            their weights are then not loaded from where the options say.
        options: See `VLAOptions`.

    Raises:
        ConfigError: If an option is unknown or out of range.

    Source:
        Ours, in the family of RT-1 (Brohan et al. 2022, arXiv:2212.06817) and Octo (Ghosh et al.
        2024, arXiv:2405.12213): tokens of each modality, a transformer, a head for chunks.

    Example:
        >>> policy = VLAPolicy(state_dim=2, action_dim=4, image_size=32, size="debug")
        >>> seen = {"state": torch.zeros(2), "image": torch.zeros(3, 32, 32)}
        >>> policy.predict(seen, language="reach the red ball").shape
        torch.Size([4])
    """

    horizon_option: ClassVar[str] = "action_horizon"

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        *,
        state_keys: Sequence[str] | None = None,
        image_keys: Sequence[str] = ("image",),
        image_size: int | Sequence[int] = (128, 128),
        backbones: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        chosen = structure(VLAOptions, options, place=_PLACE)
        size = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
        inputs = Inputs(
            state_dim,
            state_keys=state_keys,
            image_keys=image_keys,
            image_size=size,
            augment_shift=chosen.augment_shift,
            augment_colour=chosen.augment_colour,
        )
        given = {
            "state_dim": state_dim,
            "action_dim": action_dim,
            "state_keys": inputs.state_keys,
            "image_keys": list(image_keys),
            "image_size": size,
        }
        super().__init__(inputs, action_dim, {**given, **resolved(chosen, size)})
        self.options = chosen
        self.actions_to_range = chosen.action_head_type != "mlp"
        self.tokenizer = build_tokenizer(chosen)
        opened = open_backbones(chosen, backbones or {})
        self.hparams["tokenizer"] = self.tokenizer.source
        self.hparams["backbones"] = {part: b.about for part, b in opened.items()}
        own = chosen.vision_backbone is None  # a pretrained encoder normalises as it was trained
        self.image_normalizer = ImageNormalizer(len(inputs.image_keys), size) if own else None
        self.network = build_network(
            self.hparams, vocab_size=self.tokenizer.vocab_size, backbones=opened
        )
        self.head = build_head(self.hparams, self.network.fusion.out_dim)
        self.vary = WordVariation(
            drop=chosen.word_dropout, insert=chosen.word_insertion, after=chosen.vary_words_after
        )
        self._listener = Listener(is_needed=chosen.use_language)
        self.set_execution()
        if chosen.compile:
            self.network.compile(dynamic=True)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> Self:
        """Build the policy for a dataset.

        Args:
            data: What the dataset says of itself.
            options: See `VLAOptions`, and the constructor.

        Returns:
            A policy that carries the data's statistics.

        Raises:
            DataError: If the data has no images, or no instructions where they are asked for.
        """
        if not data.image_keys:
            raise DataError(
                "the policy looks at images, but the data has none: expected an observation key "
                f"of shape (3, H, W), got {', '.join(data.observations) or 'none'}. Record with "
                "images, or open the dataset with include_image=True."
            )
        if options.get("text_backbone") is None:
            source = options.get("tokenizer", AUTO)
            options["tokenizer"] = tokenizer_for(source, data.instructions)
            is_learnt = options["tokenizer"] not in {source, BYTES}
            if is_learnt and options.get("spelling") is None:
                options["spelling"] = False  # tokens are words
        shapes = input_shapes(data, options, use_image=True)
        policy = cls(**{**shapes, "action_dim": data.action_dim, **options})
        policy.adapt_to(data)
        return policy

    @classmethod
    def data_options(cls, **options: Any) -> dict[str, Any]:
        """Return how a dataset should be opened for a policy with these options.

        Args:
            options: The policy's options.

        Returns:
            Keyword arguments of a dataset: windows of `action_horizon` actions from every timestep
            of an episode on, with the images, state and instruction that they start from.
        """
        known = {k: v for k, v in options.items() if k in attrs.fields_dict(VLAOptions)}
        chosen = structure(VLAOptions, known, place=_PLACE)
        return {
            "seq_len": chosen.action_horizon,
            "obs_len": 1,
            "pad": True,
            "include_image": True,
            "include_language": chosen.use_language,
        }

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy; take its statistics if the policy has none yet.

        Args:
            data: What the dataset says of itself.

        Raises:
            DataError: If windows, instructions, dimensions or sizes do not fit.
        """
        if self.options.use_language and not data.language:
            raise DataError(
                "the policy follows instructions, but the data has none: expected an instruction "
                "with every sample. Build the policy with use_language=False, or open the dataset "
                "with include_language=True."
            )
        super().adapt_to(data)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Observations `[B, D]` by key (of windows `[B, T, D]` the first), images
                `[B, C, H, W]`, ``actions`` `[B, T, A]`, ``language`` (B texts) and, where windows
                reach beyond an episode, ``is_pad``, bool `[B, T]`.

        Returns:
            ``loss`` `[]` and what else the head reports.

        Raises:
            DataError: If the chunks have another length, or there are no instructions.
        """
        actions, is_pad = self._targets(batch)
        texts: Sequence[str] | None = batch.get("language")
        if self.options.use_language and texts is None:
            raise DataError(
                "the batch has no instructions: expected 'language', a text for each sample. Open "
                "the dataset with include_language=True, or build the policy with "
                "use_language=False."
            )
        if texts is not None and self.training:
            texts = self.vary(texts)
        context = self._context(self.inputs.observed(batch), texts)
        head: Head = self.head  # type: ignore[assignment]
        return head.loss(context, actions, is_pad)

    def predict(self, obs: Any, language: str | Sequence[str] | None = None) -> Any:
        """Return the next action for one observation or for each of a batch.

        Chunks are executed slot by slot; a slot whose instruction changes looks again at once.

        Args:
            obs: Observations by key: NumPy or torch, `[D]` or `[B, D]`; images `[C, H, W]` or
                `[B, C, H, W]` in [0, 1], or uint8 with channels last.
            language: The instruction, one for all or one for each; None is an empty one.

        Returns:
            Actions `[A]` or `[B, A]`, NumPy if the observations are, in the data's units.

        Raises:
            DataError: If a key is missing or has the wrong size, or instructions are missing.
        """
        reading = self.inputs.read(obs)
        texts = self._listener.read(language, reading.size)
        self.reset(self._listener.changes(texts))

        def plan(slots: Any, indices: Any) -> Tensor:
            told = [texts[slot] for slot in slots]
            return self._chunks(self._context(reading.rows(slots), told), indices)

        with acting(self):
            actions = self.executor.act(reading.size, plan)
        return reading.answer(actions)

    def predict_chunk(self, obs: Any, language: str | Sequence[str] | None = None) -> Any:
        """Return the chunks for one observation or a batch; nothing is kept between calls.

        Args:
            obs: As for `predict`.
            language: As for `predict`.

        Returns:
            Actions `[T, A]` or `[B, T, A]`, NumPy if the observations are, in the data's units.
        """
        reading = self.inputs.read(obs)
        texts = self._listener.read(language, reading.size)
        with acting(self):
            context = self._context(reading.tensors, texts)
            return reading.answer(self._chunks(context, [0] * reading.size))

    def _context(self, observations: Mapping[str, Tensor], texts: Sequence[str] | None) -> Tensor:
        """Return what the head acts on, `[B, E]`."""
        images = torch.stack(
            [_first(self.inputs.images(observations, k), 4) for k in self.inputs.image_keys], dim=1
        )
        if self.image_normalizer is not None:
            if self.training:
                self.image_normalizer.observe(images)
            images = self.image_normalizer(images)
        state = _first(self.inputs.state(observations), 2) if self.inputs.state_dim else None
        told: Instructions | None = None
        if self.options.use_language and texts is not None:
            told = tokenized(
                texts,
                self.tokenizer,
                max_length=self.options.max_text_length,
                device=images.device,
            )
        context: Tensor = self.network(images, state, told)
        return context


def _first(value: Tensor, ndim: int) -> Tensor:
    """Return the first timestep of a window `[B, T, ...]`; what has no time stays."""
    return value[:, 0] if value.ndim > ndim else value
