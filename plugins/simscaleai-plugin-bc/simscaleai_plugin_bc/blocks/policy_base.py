"""What the policies of this family share: building from data, acting, hyperparameters.

B: samples, D: dimensions of the state, A: dimensions of an action.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import attrs
import torch
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_core.host.configuration import structure
from simscaleai_plugin_bc.blocks.action_space import ACTIONS, ActionSpace
from simscaleai_plugin_bc.blocks.fitting import (
    check_normalization,
    check_reach,
    fit_actions,
    input_shapes,
    least_spread,
    scale_actions,
    with_horizon,
)
from simscaleai_plugin_bc.blocks.inputs import Inputs
from simscaleai_plugin_bc.blocks.measuring import check_rotations, measured, valid_rows
from simscaleai_plugin_bc.blocks.normalization import Normalizer
from simscaleai_plugin_bc.blocks.observations import ObservationBatch

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@contextmanager
def eval_mode(policy: nn.Module) -> Iterator[None]:
    """Run the body in eval mode and without gradients; restore the mode afterwards."""
    was_training = policy.training
    if was_training:
        policy.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            policy.train()


class ImitationPolicy(nn.Module):
    """A policy with inputs, a normaliser of actions and serialisable hyperparameters.

    Args:
        inputs: Turns observations into features.
        action_dim: Dimensions A of an action.
        hparams: Arguments that build the same policy again.
    """

    horizon_option: ClassVar[str] = "horizon"
    """Name of the option that is the timesteps of a window, if the policy has one."""
    actions_to_range: bool = False
    """Whether actions are mapped to [-1, 1] by their range, also where it is much smaller."""

    def __init__(self, inputs: Inputs, action_dim: int, hparams: Mapping[str, Any]) -> None:
        super().__init__()
        self.hparams: dict[str, Any] = dict(hparams)
        self.inputs = inputs
        self.action_dim = action_dim
        space = inputs.space
        self.action_space = ActionSpace(
            action_dim, inputs.state_space, space.delta_actions, space.rotations
        )
        self.action_normalizer = Normalizer(self.action_space.dim, inputs.units.count)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> Self:
        """Build the policy for a dataset.

        Args:
            data: Description of the dataset.
            options: The policy's options and the arguments of its constructor.

        Returns:
            A policy that carries the data's statistics.

        Raises:
            DataError: If the data lacks what the policy needs.
        """
        options = with_horizon(data, options, cls.horizon_option)
        shapes = input_shapes(data, options, use_image=bool(options.get("use_image")))
        policy = cls(**{**shapes, "action_dim": data.action_dim, **options})
        policy.adapt_to(data)
        return policy

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit its normalisers if they are not fitted yet.

        Args:
            data: Description of the dataset.

        Raises:
            DataError: If dimensions or keys do not fit; the key, and both shapes, are named.
        """
        if data.action_dim != self.action_dim:
            raise DataError(
                f"the data does not fit the policy: expected {self.action_dim} action "
                f"dimensions, got {data.action_dim}. Build it with action_dim={data.action_dim}.",
                key="actions",
            )
        self.inputs.adapt_to(data)
        self.hparams["state_keys"] = self.inputs.state_keys
        check_normalization(self.inputs, clips=self._clips)
        if not self.action_normalizer.fitted:
            for source, part in self.inputs.units.parts(data):
                self._fit_actions(part, source)

    def _fit_actions(self, data: DataSpec, source: int | None) -> None:
        mode = self.inputs.space.normalization.get(ACTIONS)
        space, normalizer = self.action_space, self.action_normalizer
        plain = data.statistics.get(ACTIONS)
        found = plain if space.is_plain else measured(data, self._action_rows)
        if mode == "none" and found is not None and self._clips:
            check_reach(found)
        if not space.is_plain and found is not None:
            mode = mode or ("range" if self.actions_to_range else "mean_std")
            scale_actions(normalizer, found, mode, least=least_spread(space, plain), source=source)
        else:
            to_range = self.actions_to_range
            fit_actions(normalizer, data, to_range=to_range, mode=mode, source=source)

    @property
    def _clips(self) -> bool:
        """Whether the head, if there is one, samples no action outside [-1, 1]."""
        return bool(getattr(getattr(self, "head", None), "clips", False))

    def actions_and_state(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the actions of a batch and the state that each may be relative to.

        Args:
            batch: Observations by key, in the data's units, and ``actions`` `[B, A]` or
                `[B, T, A]`.

        Returns:
            The actions, and the state `[B, D]` or `[B, T, D]` at the same timesteps.
        """
        return batch["actions"], self.inputs.joined(batch["observations"])

    def _encoded_actions(self, batch: Batch) -> Tensor:
        """Return the actions to the network, normalised `[B, E]` or `[B, T, E]`."""
        source = self.inputs.units.of(self.inputs.units.named(batch))
        if self.action_space.is_plain:
            encoded = batch["actions"]
        else:
            encoded = self.action_space.encode(*self.actions_and_state(batch))
        normalized: Tensor = self.action_normalizer(encoded, source)
        return normalized

    def _absolute(self, predicted: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """Return actions `[B, ..., E]` that may be averaged, of what the network predicts.

        `predicted` is `[B, E]` or `[B, T, E]`, the observations are those of one timestep.
        """
        source = self.inputs.units.of(observations)
        encoded: Tensor = self.action_normalizer.inverse(predicted, source)
        if self.action_space.is_plain:
            return encoded
        state = self.inputs.joined(observations)
        state = state.unsqueeze(1) if encoded.ndim > state.ndim else state
        return self.action_space.absolute(encoded.float(), state)

    def _action_rows(self, batch: Batch) -> Tensor:
        """Return the actions to the network that are no padding, not normalised `[N, E]`."""
        actions, state = self.actions_and_state(batch)
        check_rotations(
            self.action_space.spans, valid_rows(actions, batch.get("is_pad")), "the actions"
        )
        return valid_rows(self.action_space.encode(actions, state), batch.get("is_pad"))

    def set_source(self, name: str) -> None:
        """Choose the source of the data whose units observations and actions have in acting.

        Args:
            name: One of those that the policy was trained on with statistics by source.

        Raises:
            ConfigError: If there is no such source.
        """
        self.inputs.units.choose(name)

    @property
    def state_normalizer(self) -> Normalizer:
        """The normaliser of the state."""
        return self.inputs.state_normalizer

    @property
    def wants_sample_keys(self) -> bool:
        """Whether batches need ``sample_keys``."""
        return self.inputs.augments

    def predict(self, obs: Any) -> Any:
        """Return the actions for one observation or a batch of them.

        Args:
            obs: Observations by key, or the state itself: NumPy or torch, `[D]` or `[B, D]`;
                images `[C, H, W]` or `[B, C, H, W]` in [0, 1], or uint8 with channels last.

        Returns:
            Actions `[A]` or `[B, A]`, NumPy if the observations are, in the data's units.

        Raises:
            DataError: If a key is missing or has the wrong size.
        """
        batch = self.inputs.to_batch(obs)
        with eval_mode(self):
            return batch.to_output(self._act(batch))

    def _act(self, batch: ObservationBatch) -> Any:
        """Return actions `[B, A]` in the data's units."""
        raise NotImplementedError


class FamilyPolicy(ImitationPolicy):
    """A policy whose options are the fields of an options class.

    Args:
        state_dim: Dimensions D of the state: all its observation keys, concatenated.
        action_dim: Dimensions A of an action.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_size: Height and width of every image [pixels]; other sizes are refused.
        state_dims: Dimensions of each key, where rotations or relative actions need them.
        sources: Sources of the data with statistics of their own.
        options: Fields of `options_class`.

    Raises:
        ConfigError: If an option is unknown or does not fit.
    """

    options_class: ClassVar[type]
    """The options; `hidden_dim`, `use_image`, `image_keys` and the augmentations among them."""
    component: ClassVar[str]
    """Name of the component, for messages."""
    __signature__: ClassVar[inspect.Signature]

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        *,
        state_keys: Sequence[str] | None = None,
        image_size: int | Sequence[int] = (128, 128),
        state_dims: Sequence[int] | None = None,
        sources: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        chosen: Any = structure(self.options_class, options, place=f"$.{self.component}")
        image_keys = list(chosen.image_keys or ("image",)) if chosen.use_image else []
        inputs = Inputs(
            state_dim,
            state_keys=state_keys,
            image_keys=image_keys,
            image_size=image_size,
            image_dim=chosen.hidden_dim,
            augment_shift=chosen.augment_shift,
            augment_colour=chosen.augment_colour,
            state_dims=state_dims,
            space=chosen,
            sources=sources,
        )
        shapes = {
            "state_dim": state_dim,
            "action_dim": action_dim,
            "state_keys": inputs.state_keys,
            "image_size": list(inputs.image_size),
            **given_lists(state_dims=state_dims, sources=sources),
        }
        table = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.asdict(chosen).items()}
        if chosen.use_image:
            table["image_keys"] = image_keys
        super().__init__(inputs, action_dim, {**shapes, **table})
        self.options = chosen

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if hasattr(cls, "options_class"):
            cls.__signature__ = _signature(cls)

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> Any:
        """Return the options class for those of `options` that it has; the rest is left out."""
        known = attrs.fields_dict(cls.options_class)
        given = {k: v for k, v in options.items() if k in known}
        return structure(cls.options_class, given, place=f"$.{cls.component}")

    @classmethod
    def data_options(cls, **options: Any) -> dict[str, Any]:
        """Return how a dataset should be opened for a policy with these options.

        Args:
            options: The policy's options.

        Returns:
            Keyword arguments of a dataset: its windows, and the images if the policy sees them.
        """
        chosen = cls.chosen(options)
        wanted = cls.window_options(chosen)
        return {**wanted, "include_image": True} if chosen.use_image else wanted

    @classmethod
    def window_options(cls, options: Any) -> dict[str, Any]:  # noqa: ARG003 - for subclasses
        """Return the dataset's options about windows; none for single timesteps.

        Args:
            options: An instance of `options_class`.

        Returns:
            Keyword arguments of a dataset.
        """
        return {}


def given_lists(**lists: Sequence[Any] | None) -> dict[str, list[Any]]:
    """Return the arguments that are given, as lists, for hyperparameters."""
    return {name: list(values) for name, values in lists.items() if values is not None}


def _signature(policy: type[FamilyPolicy]) -> inspect.Signature:
    """Return the signature of a constructor, with ``**options`` spelt out field by field.

    With it, `help` and the check of keywords before a policy is built know the options.
    """
    found: dict[str, inspect.Parameter] = {}
    family = policy.__mro__[: policy.__mro__.index(FamilyPolicy) + 1]
    for constructor in (vars(cls)["__init__"] for cls in family if "__init__" in vars(cls)):
        given = list(inspect.signature(constructor).parameters.values())[1:]
        found = {**{p.name: p for p in given if p.kind not in _VARIABLE}, **found}
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in given):
            return inspect.Signature(given)
    for field in attrs.fields(policy.options_class):
        option = inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default
        )
        found.setdefault(field.name, option)
    return inspect.Signature(sorted(found.values(), key=lambda p: p.kind))
