"""A policy from images, an instruction and the state to actions.

B: samples, K: cameras, C, H, W: channels, height and width, D: dimensions of the state,
T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import torch
from simscaleai_plugin_bc.blocks.chunking import ChunkingPolicy
from simscaleai_plugin_bc.blocks.fitting import input_shapes, window_length, with_horizon
from simscaleai_plugin_bc.blocks.inputs import Inputs
from simscaleai_plugin_bc.blocks.policy_base import eval_mode, given_lists
from torch import Tensor

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_core.hookspecs import simscale_transform_batch
from simscaleai_core.host.configuration import structure
from simscaleai_plugin_vla.augmentation import WordVariation
from simscaleai_plugin_vla.build import (
    build_head,
    build_network,
    build_tokenizer,
    open_backbones,
    resolved,
)
from simscaleai_plugin_vla.instructions import InstructionTracker
from simscaleai_plugin_vla.options import VLAOptions
from simscaleai_plugin_vla.text import InstructionTokens, tokenize
from simscaleai_plugin_vla.tokenizer import AUTO, BYTES, tokenizer_for
from simscaleai_plugin_vla.vision import ImageNormalizer

_PLACE = "$.vla"
_TOKENS = "instruction_tokens"  # of a batch that `prepared` has seen


class VLAPolicy(ChunkingPolicy):
    """A transformer from images, an instruction and the state to a chunk of actions.

    Everything that inference needs is inside: the statistics of state, action and images, and the
    tokenizer.

    Args:
        state_dim: Dimensions D of the state: all its observation keys, concatenated; 0 for none.
        action_dim: Dimensions A of an action.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_keys: Observation keys of the cameras, in order.
        image_size: Height and width of every camera's images [pixels]; other sizes are refused.
        backbones: Configurations of the pretrained encoders by part, as a checkpoint holds them;
            their weights are then not loaded from the sources that the options name.
        state_dims: Dimensions of each key, where rotations or relative actions need them.
        sources: Sources of the data with statistics of their own.
        options: See `VLAOptions`.

    Raises:
        ConfigError: If an option is unknown or out of range.

    Source:
        Ours, in the family of RT-1 (Brohan et al. 2022, arXiv:2212.06817) and Octo (Ghosh et al.
        2024, arXiv:2405.12213): tokens of each modality, a transformer, a head for chunks.

    Example:
        >>> policy = VLAPolicy(state_dim=2, action_dim=4, image_size=32, size="debug")
        >>> observation = {"state": torch.zeros(2), "image": torch.zeros(3, 32, 32)}
        >>> policy.predict(observation, language="reach the red ball").shape
        torch.Size([4])
    """

    horizon_option: ClassVar[str] = "action_horizon"
    block_classes: ClassVar[tuple[str, ...]] = ("Block", "FusionLayer")
    """Classes of the layers, which a strategy may shard one at a time."""

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        *,
        state_keys: Sequence[str] | None = None,
        image_keys: Sequence[str] = ("image",),
        image_size: int | Sequence[int] = (128, 128),
        backbones: Mapping[str, Any] | None = None,
        state_dims: Sequence[int] | None = None,
        sources: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        chosen = structure(VLAOptions, options, place=_PLACE)
        inputs = Inputs(
            state_dim,
            state_keys=state_keys,
            image_keys=image_keys,
            image_size=image_size,
            augment_shift=chosen.augment_shift,
            augment_colour=chosen.augment_colour,
            state_dims=state_dims,
            space=chosen,
            sources=sources,
        )
        size = list(inputs.image_size)
        shapes = {
            "state_dim": state_dim,
            "action_dim": action_dim,
            "state_keys": inputs.state_keys,
            "image_keys": list(image_keys),
            "image_size": size,
            **given_lists(state_dims=state_dims, sources=sources),
        }
        super().__init__(inputs, action_dim, {**shapes, **resolved(chosen, size)})
        self.options = chosen
        self.actions_to_range = chosen.action_head_type != "mlp"
        self.tokenizer = build_tokenizer(chosen)
        opened = open_backbones(chosen, backbones or {})
        abouts = {part: backbone.about for part, backbone in opened.items()}
        self.hparams |= {"tokenizer": self.tokenizer.source, "backbones": abouts}
        is_own = chosen.vision_backbone is None  # a pretrained encoder normalises its images itself
        self.image_normalizer = ImageNormalizer(len(inputs.image_keys), size) if is_own else None
        sizes = {"state_dim": inputs.state_space.dim, "vocab_size": self.tokenizer.vocab_size}
        self.network = build_network(self.hparams, backbones=opened, **sizes)
        self.head = build_head(self.hparams, self.network.fusion.out_dim, self.action_space.dim)
        self.vary = WordVariation(
            drop=chosen.word_dropout, insert=chosen.word_insertion, after=chosen.vary_words_after
        )
        self._instructions = InstructionTracker(is_needed=chosen.use_language)
        self.set_execution()
        if chosen.compile:
            self.network.compile(dynamic=True)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> Self:
        """Build the policy for a dataset.

        Args:
            data: Description of the dataset.
            options: See `VLAOptions`, and the constructor.

        Returns:
            A policy that carries the data's statistics.

        Raises:
            DataError: If the data has no images, or no instructions where they are asked for.
        """
        if not data.image_keys:
            raise DataError(
                "the policy needs images, but the data has none: expected an observation key "
                f"of shape (3, H, W), got {', '.join(data.observations) or 'none'}. Record with "
                "images, such as --images 64, or choose a policy that needs none."
            )
        if options.get("text_backbone") is None:
            source = options.get("tokenizer", AUTO)
            options["tokenizer"] = tokenizer_for(source, data.instructions)
            is_learnt = options["tokenizer"] not in {source, BYTES}
            if is_learnt and options.get("spelling") is None:
                options["spelling"] = False  # tokens are words
        options = with_horizon(data, options, cls.horizon_option)
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
            **window_length(chosen, cls.horizon_option),
            "obs_len": 1,
            "pad": True,
            "include_image": True,
            "include_language": chosen.use_language,
        }

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit its normalisers if they are not fitted yet.

        Args:
            data: Description of the dataset.

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
                `[B, C, H, W]`, ``actions`` `[B, T, A]`, ``language`` (B instructions) and, where
                windows reach beyond an episode, ``is_pad``, bool `[B, T]`.

        Returns:
            ``loss`` `[]` and what else the head reports.

        Raises:
            DataError: If the chunks have another length, or there are no instructions.
        """
        actions, is_pad = self._targets(batch)
        if _TOKENS in batch:
            features = self._encoded(batch["observations"], batch[_TOKENS])
        else:
            texts = self._varied(batch)
            features = self._features(self.inputs.augmented(batch), texts)
        return self.head.loss(features, actions, is_pad)

    @simscale_transform_batch
    def prepared(self, batch: Batch) -> Batch:
        """Return a training batch with all done that no compiled graph can contain.

        Args:
            batch: As for `forward`.

        Returns:
            The batch for `forward`: images are augmented and seen by their normaliser, and the
            instructions are varied and have become tokens.
        """
        texts = self._varied(batch)
        observations = self.inputs.first_timestep(self.inputs.augmented(batch))
        if self.image_normalizer is not None:
            self.image_normalizer.observe(self._images(observations))
        return {**batch, "observations": observations, _TOKENS: self._tokens(texts)}

    def _varied(self, batch: Batch) -> Sequence[str] | None:
        """Return the instructions of a batch, changed at random in training."""
        texts: Sequence[str] | None = batch.get("language")
        if self.options.use_language and texts is None:
            raise DataError(
                "the batch has no instructions: expected 'language', a text for each sample. Open "
                "the dataset with include_language=True, or build the policy with "
                "use_language=False."
            )
        return self.vary(texts) if texts is not None and self.training else texts

    def predict(self, obs: Any, language: str | Sequence[str] | None = None) -> Any:
        """Return the next action for one observation or for each of a batch.

        A sub-environment whose instruction changes gets a new chunk at once.

        Args:
            obs: Observations by key: NumPy or torch, `[D]` or `[B, D]`; images `[C, H, W]` or
                `[B, C, H, W]` in [0, 1], or uint8 with channels last.
            language: The instruction, one for all or one for each; None is an empty one.

        Returns:
            Actions `[A]` or `[B, A]`, NumPy if the observations are, in the data's units.

        Raises:
            DataError: If a key is missing or has the wrong size, or instructions are missing.
        """
        batch = self.inputs.to_batch(obs)
        instructions = self._instructions.resolve(language, batch.size)
        self.executor.forget(self._instructions.update(instructions))

        def predict_chunks(envs: Any, counts: Any) -> Tensor:
            observations = batch.select(envs)
            features = self._features(observations, [instructions[env] for env in envs])
            return self._sample_chunks(features, envs, counts, observations)

        with eval_mode(self):
            actions = self._execute(batch.size, predict_chunks)
        return batch.to_output(actions)

    def predict_chunk(
        self, obs: Any, language: str | Sequence[str] | None = None, seeds: Any = None
    ) -> Any:
        """Return the chunks for one observation or a batch; nothing is kept between calls.

        Args:
            obs: As for `predict`.
            language: As for `predict`.
            seeds: Seed of the noise of each, integers `[B]`; 0 if not given. A head that does not
                sample needs none.

        Returns:
            Actions `[T, A]` or `[B, T, A]`, NumPy if the observations are, in the data's units.
        """
        batch = self.inputs.to_batch(obs)
        instructions = self._instructions.resolve(language, batch.size)
        with eval_mode(self):
            features = self._features(batch.tensors, instructions)
            return batch.to_output(self._independent_chunks(features, seeds, batch.tensors))

    def _features(
        self, observations: Mapping[str, Tensor], instructions: Sequence[str] | None
    ) -> Tensor:
        """Return features for the action head, `[B, 2 * E]` for tokens of width E."""
        observations = self.inputs.first_timestep(observations)
        if self.image_normalizer is not None and self.training:
            self.image_normalizer.observe(self._images(observations))
        return self._encoded(observations, self._tokens(instructions))

    def _encoded(
        self, observations: Mapping[str, Tensor], tokens: InstructionTokens | None
    ) -> Tensor:
        """Return features `[B, 2 * E]` of observations without time and the instructions."""
        images = self._images(observations)
        if self.image_normalizer is not None:
            images = self.image_normalizer(images)
        state = self.inputs.state(observations) if self.inputs.state_dim else None
        features: Tensor = self.network(images, state, tokens)
        return features

    def _images(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the images of all cameras `[B, K, C, H, W]`."""
        keys = self.inputs.image_keys
        return torch.stack([self.inputs.images(observations, key) for key in keys], dim=1)

    def _tokens(self, instructions: Sequence[str] | None) -> InstructionTokens | None:
        if not self.options.use_language or instructions is None:
            return None
        device, length = self.inputs.state_normalizer.mean.device, self.options.max_text_length
        return tokenize(instructions, self.tokenizer, max_length=length, device=device)
