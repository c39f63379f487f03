"""What the network sees of the state and predicts as actions, and the way back.

Rotations are six numbers to the network, and some actions are relative to the state. D: dimensions
of the state, A: dimensions of an action in the data, E: dimensions of one to the network.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

import torch
from attrs import evolve, frozen
from torch import Tensor

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.options import REPRESENTATIONS
from simscaleai_plugin_bc.blocks.rotations import (
    SIX,
    from_matrix,
    from_six,
    product,
    to_matrix,
    to_six,
)

ACTIONS = "actions"
"""Name of the actions in tables beside observation keys."""

_NAMED = re.compile(r"(.+?)(?:\[(\d+):(\d+)\])?\Z")
_RANGE = re.compile(r"(\d+):(\d+)\Z")


@frozen
class Span:
    """A range of the dimensions of one key, or of the actions, and the rotation that it may be."""

    start: int
    """First dimension."""
    stop: int
    """The dimension after the last."""
    kind: str | None = None
    """Representation of the rotation; None for plain numbers."""
    state: Span | None = None
    """Range of the state that it is relative to."""

    @property
    def columns(self) -> slice:
        """Its dimensions, as an index."""
        return slice(self.start, self.stop)

    @property
    def encoded(self) -> int:
        """Dimensions to the network."""
        return SIX if self.kind else self.stop - self.start

    def is_within(self, other: Span) -> bool:
        """Return whether all of its dimensions are among the other's."""
        return other.start <= self.start and self.stop <= other.stop

    def matrix(self, values: Tensor) -> Tensor:
        """Return its rotations `[..., 3, 3]` among `values` `[..., D]`."""
        return to_matrix(values[..., self.columns], self.kind or "")


class StateSpace:
    """The state to the network: each rotation as six numbers.

    Args:
        dims: Dimensions of each observation key of the state, in order.
        rotations: Representation by key, or by a range of a key such as ``pose[3:7]``.

    Raises:
        ConfigError: If a key is unknown, or a range does not fit.
    """

    def __init__(self, dims: Mapping[str, int], rotations: Mapping[str, str]) -> None:
        self.dims = dict(dims)
        """Dimensions in the data of each observation key."""
        self._starts = {k: sum(list(dims.values())[:i]) for i, k in enumerate(dims)}
        found = [self.find(n, k, "rotations") for n, k in rotations.items() if not _is_action(n)]
        self.spans = tuple(_covering(sum(dims.values()), _disjoint(found, "rotations")))
        self.dim = sum(span.encoded for span in self.spans)
        """Dimensions to the network."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing changes."""
        return not any(span.kind for span in self.spans)

    def encode(self, state: Tensor) -> Tensor:
        """Return what the network sees, not yet normalised, of a state `[..., D]`."""
        if self.is_plain:
            return state
        parts = [
            to_six(span.matrix(state)) if span.kind else state[..., span.columns]
            for span in self.spans
        ]
        return torch.cat(parts, dim=-1)

    def encoded_of(self, key: str) -> slice:
        """Return the columns to the network of one observation key."""
        first, last = self._starts[key], self._starts[key] + self.dims[key]
        before = sum(s.encoded for s in self._cut(0, first))
        return slice(before, before + sum(s.encoded for s in self._cut(first, last)))

    def find(self, text: str, kind: str | None, option: str) -> Span:
        """Return the columns of the state that a key, or a range of one, names.

        Args:
            text: Such as ``ee_pos`` or ``joint_pos[0:7]``.
            kind: Representation of the rotation there, if it is one.
            option: Name of the option, for messages.

        Returns:
            The range.

        Raises:
            ConfigError: If the key is unknown, or the range is outside it or does not fit.
        """
        key, start, stop = _named(text)
        if key not in self.dims:
            raise ConfigError(
                f"{option}: expected 'actions' or an observation key of the state "
                f"({', '.join(sorted(self.dims)) or 'none is known'}), got {key!r}. Name another, "
                "or build the policy from the data (from_data), which tells its keys."
            )
        found = _checked(text, start, stop, self.dims[key], kind, option)
        first = self._starts[key]
        return evolve(found, start=first + found.start, stop=first + found.stop)

    def rotation_at(self, span: Span) -> str | None:
        """Return the representation of the rotation that stands exactly there, if one does."""
        same = [s.kind for s in self.spans if (s.start, s.stop) == (span.start, span.stop)]
        return same[0] if same else None

    def _cut(self, first: int, last: int) -> Iterator[Span]:
        for span in self.spans:
            start, stop = max(first, span.start), min(last, span.stop)
            if start < stop:
                yield evolve(span, start=start, stop=stop)


class ActionSpace:
    """Actions to the network, and back to the data: training and execution use the same object.

    Args:
        action_dim: Dimensions A of an action.
        state: The state that actions may be relative to.
        deltas: Observation key, or range of one, by a range of action dimensions such as ``0:3``.
        rotations: Representation by key or range of the actions, such as ``actions[3:7]``.

    Raises:
        ConfigError: If a table names what is not there, or dimensions do not match.

    Source:
        Ours; relative actions as in Chi et al. 2024 (UMI, arXiv:2402.10329), section III-A, but
        with differences of positions in the frame of the data.

    Example:
        >>> state = StateSpace({"ee_pos": 2}, {})
        >>> space = ActionSpace(3, state, {"0:2": "ee_pos"}, {})
        >>> space.encode(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 2.0]))
        tensor([4., 4., 7.])
    """

    def __init__(
        self,
        action_dim: int,
        state: StateSpace,
        deltas: Mapping[str, str],
        rotations: Mapping[str, str],
    ) -> None:
        turned = [
            _checked(n, *_named(n)[1:], action_dim, kind, "rotations")
            for n, kind in rotations.items()
            if _is_action(n)
        ]
        _disjoint(turned, "rotations")
        relative = [_relative(n, key, action_dim, state, turned) for n, key in deltas.items()]
        _disjoint(relative, "delta_actions")
        edges = {0, action_dim}
        for span in (*turned, *relative):
            edges |= {span.start, span.stop}
        places = sorted(edges)
        self.spans = tuple(
            _joined(Span(a, b), turned, relative, state)
            for a, b in itertools.pairwise(places)
            if not any(s.start < a < s.stop for s in turned)
        )
        self.dim = sum(span.encoded for span in self.spans)
        """Dimensions E of an action to the network."""
        self.has_rotations = any(span.kind for span in self.spans)
        self.is_plain = not (self.has_rotations or relative)
        """Whether nothing changes."""

    def encode(self, actions: Tensor, state: Tensor) -> Tensor:
        """Return actions to the network `[..., E]`, not yet normalised.

        Args:
            actions: Actions in the data's units `[..., A]`.
            state: The state that they are relative to `[..., D]`, with as many dimensions.
        """
        if self.is_plain:
            return actions
        parts = []
        for span in self.spans:
            if span.kind:
                turned = span.matrix(actions)
                if span.state:
                    before = span.state.matrix(state).transpose(-1, -2)
                    turned = product(before.expand_as(turned), turned)
                parts.append(to_six(turned))
            elif span.state:
                parts.append(actions[..., span.columns] - state[..., span.state.columns])
            else:
                parts.append(actions[..., span.columns])
        return torch.cat(parts, dim=-1)

    def absolute(self, encoded: Tensor, state: Tensor) -> Tensor:
        """Return actions `[..., E]` that no longer depend on the state.

        Rotations are still six numbers, so that several of them can be averaged.

        Args:
            encoded: What `encode` gives `[..., E]`.
            state: The state that they are relative to `[..., D]`, with as many dimensions.
        """
        if self.is_plain:
            return encoded
        parts = []
        for span, values in self._parts(encoded):
            if span.state and span.kind:
                turned = from_six(values)
                before = span.state.matrix(state).expand_as(turned)
                parts.append(to_six(product(before, turned)))
            elif span.state:
                parts.append(values + state[..., span.state.columns])
            else:
                parts.append(values)
        return torch.cat(parts, dim=-1)

    def to_data(self, absolute: Tensor) -> Tensor:
        """Return actions in the data's units `[..., A]`, of what `absolute` gives `[..., E]`."""
        if not self.has_rotations:
            return absolute
        return torch.cat(
            [
                from_matrix(from_six(values), span.kind) if span.kind else values
                for span, values in self._parts(absolute)
            ],
            dim=-1,
        )

    def decode(self, encoded: Tensor, state: Tensor) -> Tensor:
        """Undo `encode`: actions `[..., A]` of `encoded` `[..., E]` and the `state` `[..., D]`."""
        return self.to_data(self.absolute(encoded, state))

    def _parts(self, encoded: Tensor) -> Iterator[tuple[Span, Tensor]]:
        values = torch.split(encoded, [span.encoded for span in self.spans], dim=-1)
        return zip(self.spans, values, strict=True)


def _is_action(name: str) -> bool:
    return _named(name)[0] == ACTIONS


def _named(text: str) -> tuple[str, str | None, str | None]:
    """Return a key and the ends of its range, if it has one."""
    found = _NAMED.match(text)
    return found.groups() if found else (text, None, None)  # type: ignore[return-value]


def _checked(
    text: str, start: str | None, stop: str | None, dim: int, kind: str | None, option: str
) -> Span:
    """Return a range of dimensions, or the error of one that does not fit."""
    span = Span(int(start or 0), dim if stop is None else int(stop), kind)
    if not span.start < span.stop <= dim:
        raise ConfigError(f"{option}: expected a range of 0:{dim}, got {text!r}.")
    wanted = REPRESENTATIONS[kind] if kind else span.stop - span.start
    if span.stop - span.start != wanted:
        raise ConfigError(
            f"{option}: expected {wanted} dimensions of a rotation as {kind}, got "
            f"{span.stop - span.start} @ {text!r}. Name their range, such as "
            f"'{_named(text)[0]}[{span.start}:{span.start + wanted}]'."
        )
    return span


def _relative(text: str, key: str, dim: int, state: StateSpace, turned: Sequence[Span]) -> Span:
    """Return a range of actions with the range of the state that it is relative to.

    They have equally many dimensions, unless both are one rotation.

    Raises:
        ConfigError: If they have not, or a range cannot be read.
    """
    ends = _RANGE.match(text)
    if ends is None:
        raise ConfigError(
            f"delta_actions: expected ranges of action dimensions such as '0:3', got {text!r}."
        )
    span = _checked(text, ends[1], ends[2], dim, None, "delta_actions")
    place = state.find(key, None, "delta_actions")
    is_turned = any((s.start, s.stop) == (span.start, span.stop) for s in turned)
    same = is_turned and state.rotation_at(place)
    if not same and place.stop - place.start != span.stop - span.start:
        raise ConfigError(
            f"delta_actions: expected {span.stop - span.start} dimensions of state for the actions "
            f"{text}, got {place.stop - place.start} of {key!r}. Name a range, such as "
            f"'{_named(key)[0]}[0:{span.stop - span.start}]'."
        )
    return evolve(span, state=place)


def _joined(
    span: Span, turned: Sequence[Span], relative: Sequence[Span], state: StateSpace
) -> Span:
    """Return a range of actions with what the tables say of it."""
    span = next((s for s in turned if s.start == span.start), span)
    touching = [s for s in relative if s.start < span.stop and span.start < s.stop]
    if not touching:
        return span
    whole, shift = touching[0], span.start - touching[0].start
    if whole.state is None or not span.is_within(whole):
        raise ConfigError(
            f"delta_actions: expected the rotation actions[{span.start}:{span.stop}] wholly in one "
            f"range, got {whole.start}:{whole.stop}. A part of a rotation has no difference."
        )
    first = whole.state.start + shift
    place = Span(first, first + span.stop - span.start)
    if (span.start, span.stop) == (whole.start, whole.stop):
        place = whole.state
    if span.kind:
        place = evolve(place, kind=state.rotation_at(place) or span.kind)
    return evolve(span, state=place)


def _disjoint(spans: Sequence[Span], option: str) -> list[Span]:
    """Return ranges in order, or the error of two that overlap."""
    ordered = sorted(spans, key=attrgetter("start"))
    for one, other in itertools.pairwise(ordered):
        if other.start < one.stop:
            raise ConfigError(
                f"{option}: expected each dimension once, got dimension {other.start} in two "
                "ranges. Leave one out."
            )
    return ordered


def _covering(dim: int, spans: Sequence[Span]) -> Iterator[Span]:
    """Yield ranges in order, and the plain ones between them."""
    place = 0
    for span in spans:
        if place < span.start:
            yield Span(place, span.start)
        yield span
        place = span.stop
    if place < dim:
        yield Span(place, dim)
