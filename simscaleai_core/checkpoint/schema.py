"""What the tree of a checkpoint must hold: one schema, whoever reads it.

Showing, evaluating, loading and resuming check a tree here before they use anything of it. It may
come from a file that no run has written: types, sizes, ranges and sharing are checked.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from attrs import fields_dict
from torch import Tensor

from simscaleai_core.checkpoint.spread import is_spread
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError, ConfigError, SimScaleError, reason_of
from simscaleai_core.seeding import restore_rng

FORMAT_VERSION = 1
"""Version of the checkpoint tree; a newer one is refused by name."""

_MAX_DEPTH = 64
_MAX_SHARING = 16  # of one stored tensor, on average; tied weights are stored once
_COUNTERS = {"step", "updates", "samples", "skipped", "schedule_lag", "best_eval_loss"}
_SCALARS = (type(None), bool, int, float, str, bytes)


def check_tree(tree: StateDict, path: Path | str) -> None:
    """Refuse a tree that is not what this version can use.

    Raises:
        CheckpointError: If it is of a newer format or of none, or if something in it is missing,
            of a wrong type or out of range; up to ten faults are named by their place.
    """
    version = tree.get("format_version")
    if type(version) is not int or version < 1:
        keys = ", ".join(sorted(map(str, tree)))[:200]
        raise CheckpointError(
            f"{path} is not a SimScaleAI checkpoint: expected a number under 'format_version', "
            f"found {version!r:.80} and the keys {keys}.",
            path=path,
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written in checkpoint format {version}, this version reads up to "
            f"{FORMAT_VERSION}. Upgrade simscaleai-core.",
            path=path,
        )
    for faults_of in (_container_faults, _field_faults, _range_faults):
        refuse(path, "does not hold what a checkpoint holds", list(faults_of(tree)))


def refuse(path: Path | str, what: str, faults: list[str], advice: str = "") -> None:
    """Raise a `CheckpointError` that names up to ten faults, if there are any."""
    if faults:
        shown = "; ".join(fault[:300].replace("\n", " ") for fault in faults[:10])
        more = f"; and {len(faults) - 10} more" if faults[10:] else ""
        advice = advice or f"Use another one: simscale checkpoint list '{Path(path).parent}'"
        raise CheckpointError(f"{path} {what}: {shown}{more}. {advice}.", path=path)


@contextmanager
def fitting(path: Path | str, what: str, place: str) -> Iterator[None]:
    """Name the place of what its owner cannot take, whatever it raises."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - what a file holds may make its owner raise anything
        reason = str(error) if isinstance(error, SimScaleError) else reason_of(error)
        refuse(path, what, [f"{place}: {reason}"])


def tensor_mismatches(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return in words how the tensors of two state dicts differ in name, shape or kind of number.

    Tensors of the second are also to be finite where those of the first are.
    """
    faults = [f"{name!r} is missing" for name in wanted if name not in found]
    faults += [f"{name!r} is not in the policy" for name in found if name not in wanted]
    for name in (n for n in wanted if n in found):  # in one order on all ranks
        ours, theirs = wanted[name], found[name]
        if not isinstance(theirs, Tensor):
            faults.append(f"{name!r} is {type(theirs).__name__}, the policy has a tensor")
        elif ours.shape != theirs.shape:
            faults.append(f"{name!r} is {list(theirs.shape)}, the policy has {list(ours.shape)}")
        elif _kind(ours) != _kind(theirs):
            faults.append(f"{name!r} is {theirs.dtype}, the policy has {ours.dtype}")
        elif (infinite := ~_wide(theirs).isfinite()).any() and (
            is_spread(ours) or _wide(ours).cpu()[infinite].isfinite().any()
        ):
            faults.append(f"{name!r} is not finite")
    return sorted(faults)


def _container_faults(tree: StateDict) -> Iterator[str]:
    """Look at every value once; a container that is met twice would multiply in the next save."""
    met: set[int] = set()
    stored: dict[int, int] = {}
    size = 0
    pending: list[tuple[str, Any, int]] = [("$", tree, 0)]
    while pending:
        place, value, depth = pending.pop()
        if isinstance(value, Tensor):
            storage = value.untyped_storage() if value.layout is torch.strided else None
            taken = value.numel() * value.element_size()
            if storage is None or storage.device.type != "cpu" or taken > storage.nbytes():
                yield f"{place}: expected a dense tensor, found one that is not stored as such"
                return
            stored[storage.data_ptr()] = storage.nbytes()
            size += taken
        elif isinstance(value, (dict, list, tuple)):
            if value and (id(value) in met or depth > _MAX_DEPTH):
                yield f"{place}: expected plain containers, found one that is shared or too deep"
                return
            met.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += ((f"{place}.{key}", item, depth + 1) for key, item in items)
        elif not isinstance(value, _SCALARS):
            yield f"{place}: expected tensors, numbers, text and containers, found {type(value)}"
    if size > _MAX_SHARING * sum(stored.values()):
        yield f"$: expected tensors of their own, found {size} bytes that share what is stored"


def _field_faults(tree: StateDict) -> Iterator[str]:
    for place, (expected, accepts) in _RULES.items():
        name, _, inner = place.partition(".")
        if name not in tree:
            if not inner and name not in _ADDED:
                yield f"{name} is missing"
            continue
        table = tree[name]
        value = table.get(inner) if inner and isinstance(table, dict) else table
        if not accepts(value):
            yield f"{place}: expected {expected}, found {reprlib.repr(value)}"


def _range_faults(tree: StateDict) -> Iterator[str]:
    counters, config, known = tree["counters"], tree["config"], fields_dict(TrainConfig)
    missing = [f"config.{name} is missing" for name in known.keys() - config.keys() - _ADDED]
    try:
        limit = TrainConfig(**{k: v for k, v in config.items() if k in known}).max_steps
    except ConfigError as error:
        missing.append(f"config: {error}")
    if missing:
        yield from sorted(missing)
        return
    if counters["step"] != tree["step"] or tree["step"] > limit:
        yield f"step: expected counters.step and at most max_steps={limit}, found {tree['step']}"
    if counters["updates"] + counters["skipped"] > tree["step"]:
        yield f"counters: expected at most {tree['step']} updates, found {counters}"
    trained = set(tree["param_names"])
    for name, tensor in tree["model_state_dict"].items():
        if name in trained and not _wide(tensor).isfinite().all():
            yield f"model_state_dict.{name}: expected finite numbers, found others"
        elif _wide(tensor).isnan().any():
            yield f"model_state_dict.{name}: expected numbers, found NaN"
    for rank, state in enumerate(tree["rng"]):
        try:
            restore_rng(state, is_trial=True)
        except Exception as error:  # noqa: BLE001 - a generator raises almost anything
            yield f"rng[{rank}]: expected the states of all generators: {reason_of(error)}"


def _wide(tensor: Tensor) -> Tensor:
    is_narrow = tensor.is_floating_point() and tensor.element_size() == 1
    return tensor.float() if is_narrow else tensor  # torch compares no float8


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype is torch.bool


Test = Callable[[Any], bool]


def _is(*kinds: type) -> Test:
    return lambda value: isinstance(value, kinds)


def _table_of(accepts: Test, keys: type = str) -> Test:
    return lambda v: (
        isinstance(v, dict) and all(type(k) is keys and accepts(item) for k, item in v.items())
    )


def _list_of(accepts: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(accepts, value))


def _is_adapters(value: Any) -> bool:
    wanted = {"component": str, "options": dict}
    return value is None or _list_of(
        lambda v: isinstance(v, dict) and {k: type(x) for k, x in v.items()} == wanted
    )(value)


_COUNT = ("an integer of at least 0", lambda v: type(v) is int and v >= 0)
_LOSS = ("a number or infinity", lambda v: isinstance(v, float) and v > -math.inf)
_TABLE = ("a table", _table_of(lambda _: True))
_TEXT = ("text or nothing", _is(str, type(None)))

_ADDED = {  # since 0.1.0, which wrote this format already
    "settings", "init_from", "init_statistics", "init_partial", "max_skipped", "optimizer",
    "schedule", "train_step", "sampler", "transforms", "adapters", "weights", "threads",
}  # fmt: skip
_RULES: Mapping[str, tuple[str, Test]] = {
    "step": _COUNT,
    "model_state_dict": ("tensors by name", _table_of(_is(Tensor))),
    "optimizer_state_dict": _TABLE,
    "optimizer_state_dict.state": ("tables by number", _table_of(_is(dict), keys=int)),
    "optimizer_state_dict.param_groups": (
        "tables with params",
        _list_of(lambda v: isinstance(v, dict) and isinstance(v.get("params"), list)),
    ),
    "scheduler_state_dict": _TABLE,
    "scaler_state_dict": _TABLE,
    "config": _TABLE,
    "best_eval_loss": _LOSS,
    "param_names": ("a list of names", _list_of(_is(str))),
    "counters": ("the counters", lambda v: isinstance(v, dict) and v.keys() <= _COUNTERS),
    **{f"counters.{name}": _COUNT for name in _COUNTERS},
    "counters.best_eval_loss": _LOSS,
    "rng": ("a list with the states of every rank", lambda v: isinstance(v, list) and bool(v)),
    "states": ("tables by name", _table_of(_is(dict))),
    "facts": _TABLE,
    "facts.evaluated_weights": _TEXT,
    "policy": _TABLE,
    "policy.component": _TEXT,
    "policy.hparams": ("a table or nothing", _is(dict, type(None))),
    "policy.adapters": ("a list of component and options, or nothing", _is_adapters),
    "data": _TABLE,
    "data.fingerprint": _TEXT,
    "data.env": _TEXT,
    "settings": _TABLE,
}
