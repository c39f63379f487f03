"""Checkpoint trees that no run has written: each is a whole tree with one thing wrong in it."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import frozen

Tree = dict[str, Any]
Path = tuple[Any, ...]

ALL = frozenset({"show", "load", "policy", "resume"})
"""The doors through which a checkpoint comes in."""


@frozen(kw_only=True)
class Mutant:
    """A changed tree."""

    tree: Tree
    path: Path
    """Where it was changed."""
    change: str
    """How."""
    was: Any = None
    """What was there before."""
    now: Any = None
    """What is there instead, if it is known."""
    refused_by: frozenset[str] = frozenset()
    """Doors that must refuse it; another one may, or must work with it."""

    @property
    def name(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.change}"

    @property
    def words(self) -> list[str]:
        """Words of which a message that names the place has one."""
        parts = [*self.path, *([self.was] if isinstance(self.was, str) else [])]
        parts += [*self.now] if isinstance(self.now, dict) else []
        return re.findall(r"[A-Za-z]{3,}", " ".join(map(str, parts)))


def random_mutant(whole: Tree, rng: random.Random) -> Mutant:
    """Return a tree that is changed somewhere at random."""
    tree = copy.deepcopy(whole)
    make = rng.choice([_replaced, _replaced, _dropped, _added, _tensor_changed, _tensor_changed])
    return make(tree, rng)


def _nodes(value: Any, path: Path = ()) -> Iterator[Path]:
    """Return the path of every value, containers too; of a long list only its ends."""
    if path:
        yield path
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
        items = items[:2] + items[-1:] if len(items) > 3 else items
    for key, inner in items:
        yield from _nodes(inner, (*path, key))


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Tree, path: Path, value: Any) -> None:
    _at(tree, path[:-1])[path[-1]] = value


def _choose(tree: Tree, rng: random.Random, accepts: Callable[[Any], bool]) -> Path:
    """Choose a place: first one of the tree's keys, so that small parts have their share."""
    paths = [path for path in _nodes(tree) if accepts(_at(tree, path))]
    key = rng.choice(sorted({str(path[0]) for path in paths}))
    return rng.choice([path for path in paths if str(path[0]) == key])


def _shared(depth: int) -> Any:
    value: Any = [0]
    for _ in range(depth):
        value = [value, value]
    return value


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


OTHER_VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "text",
    "escape": lambda: "\x1b[31mred\x1b[0m\x07",
    "long text": lambda: "x" * 100_000,
    "a path": lambda: "../../../../etc/passwd",
    "-1": lambda: -1,
    "0": lambda: 0,
    "10^18": lambda: 10**18,
    "2^200": lambda: 2**200,
    "-0.5": lambda: -0.5,
    "NaN": lambda: math.nan,
    "inf": lambda: math.inf,
    "True": lambda: True,
    "bytes": lambda: b"bytes",
    "an empty list": list,
    "an empty table": dict,
    "a tuple": lambda: (1, "a"),
    "a table of numbers": lambda: {0: 1, -5: {2: 3}},
    "a tensor": lambda: torch.tensor(1.0),
    "a long tensor": lambda: torch.zeros(10_000),
    "a nested list": lambda: _deep(300),
    "a shared list": lambda: _shared(40),
}


def _replaced(tree: Tree, rng: random.Random) -> Mutant:
    path = _choose(tree, rng, lambda _: True)
    name = rng.choice([*OTHER_VALUES])
    was = _at(tree, path)
    _put(tree, path, OTHER_VALUES[name]())
    return Mutant(tree=tree, path=path, change=f"replaced by {name}", was=was)


def _dropped(tree: Tree, rng: random.Random) -> Mutant:
    path = _choose(tree, rng, lambda _: True)
    was = _at(tree, path)
    del _at(tree, path[:-1])[path[-1]]
    return Mutant(tree=tree, path=path, change="dropped", was=was)


def _added(tree: Tree, rng: random.Random) -> Mutant:
    path = _choose(tree, rng, lambda value: isinstance(value, (dict, list)))
    value = OTHER_VALUES[name := rng.choice([*OTHER_VALUES])]()
    container = _at(tree, path)
    if isinstance(container, list):
        container.append(value)
        return Mutant(tree=tree, path=path, change=f"{name} appended")
    key = rng.choice(["extra", 7, "__class__", "a.b", "\x1b[2J"])
    container[key] = value
    return Mutant(tree=tree, path=path, change=f"{name} added as {key!r}")


def _filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.full_like(tensor.float(), value)


TENSOR_CHANGES: dict[str, Callable[[torch.Tensor], Any]] = {
    "NaN": _filled(math.nan),
    "inf": _filled(math.inf),
    "large": _filled(1e4),
    "negative": _filled(-3.0),
    "a number more": lambda t: torch.cat([t.reshape(-1), t.reshape(-1)[:1]]),
    "a dimension more": lambda t: t.unsqueeze(0),
    "flat": lambda t: t.reshape(-1),
    "half": lambda t: t.reshape(-1)[: t.numel() // 2].clone(),
    "empty": lambda t: torch.empty(0),
    "a single number": lambda t: t.reshape(-1)[:1].clone().reshape(()),
    "transposed": lambda t: t.t() if t.dim() == 2 else t,
    "int64": lambda t: t.long(),
    "float64": lambda t: t.double(),
    "float16": lambda t: t.half(),
    "bool": lambda t: t.bool(),
    "complex64": lambda t: t.to(torch.complex64),
    "float8": lambda t: t.float().to(torch.float8_e4m3fn),
    "sparse": lambda t: t.float().to_sparse(),
    "meta": lambda t: t.to("meta"),
    "expanded": lambda t: torch.zeros(1).expand(10**10),
    "a list": lambda t: t.tolist(),
}


def _tensor_changed(tree: Tree, rng: random.Random) -> Mutant:
    path = _choose(tree, rng, lambda value: isinstance(value, torch.Tensor))
    name = rng.choice([*TENSOR_CHANGES])
    _put(tree, path, TENSOR_CHANGES[name](_at(tree, path)))
    return Mutant(tree=tree, path=path, change=name)


def certain_mutants(whole: Tree) -> Iterator[Mutant]:
    """Yield changes that some doors must refuse, whatever else they are lenient about."""
    weight = ("model_state_dict", whole["param_names"][0])
    state = ("optimizer_state_dict", "state", 0)
    group = ("optimizer_state_dict", "param_groups", 0)
    resume, build = frozenset({"resume"}), frozenset({"policy", "resume"})
    puts: list[tuple[Path, Any, frozenset[str]]] = [
        *((("format_version",), value, ALL) for value in (99, 0, -1, "1", None, 1.5, True)),
        *((("step",), value, ALL) for value in (-5, 10**18, "6", 2.5, None)),
        *((("counters", "updates"), value, ALL) for value in (-1, 10**18, "many", None)),
        *((("counters",), value, ALL) for value in ({}, [], None, 7)),
        *((("rng",), value, ALL) for value in ([{}], [None], 7, "rng")),
        *((("param_names",), value, ALL) for value in (None, 7, "names", [7])),
        (("param_names",), whole["param_names"][::-1], resume),
        (("param_names",), whole["param_names"][:-1], resume),
        *((("config", "lr"), value, ALL) for value in (-1.0, math.nan, "fast", None)),
        *((("config", "max_steps"), value, ALL) for value in (0, -1, 1.5, "many")),
        *((("config",), value, ALL) for value in ({}, None, [], "config")),
        *(((key,), value, ALL) for key in whole for value in (_shared(40), _deep(300))),
        *(((key,), None, ALL) for key in whole),
        *((weight, change(_at(whole, weight)), ALL) for change in _NO_WEIGHTS),
        *((weight, change(_at(whole, weight)), resume) for change in _OTHER_WEIGHTS),
        *(((*state, "exp_avg"), change(_at(whole, weight)), resume) for change in _BAD_STATE),
        *(((*state, "exp_avg_sq"), change(_at(whole, weight)), resume) for change in _BAD_STATE),
        *(((*state, "step"), torch.tensor(v), resume) for v in (math.nan, -5.0, math.inf)),
        *(((*group, "lr"), value, resume) for value in ("fast", None, math.nan)),
        *(((*group, "betas"), value, resume) for value in (None, (0.9,), "betas")),
        *(((*group, "params"), value, resume) for value in ([], [0], [99] * 4, None)),
        (("policy", "hparams"), {"hidden_dim": -3}, frozenset({"policy"})),
        (("policy", "hparams"), {"nonsense": 1}, frozenset({"policy"})),
        (("policy", "component"), "os:system", build),
    ]
    for path, value, refused_by in puts:
        tree = copy.deepcopy(whole)
        _put(tree, path, value)
        shown = f"{value!r:.60}" if not isinstance(value, list) else "a list"
        yield Mutant(tree=tree, path=path, change=f"= {shown}", now=value, refused_by=refused_by)
    cycle = copy.deepcopy(whole)
    cycle["states"]["cycle"] = [cycle["states"]]
    yield Mutant(tree=cycle, path=("states", "cycle"), change="a cycle", refused_by=ALL)


_NO_WEIGHTS = [TENSOR_CHANGES[name] for name in ("NaN", "inf", "sparse", "a list")]
_OTHER_WEIGHTS = [
    TENSOR_CHANGES[name] for name in ("half", "a dimension more", "transposed", "bool", "complex64")
]
_BAD_STATE = [
    TENSOR_CHANGES[n]
    for n in ("NaN", "half", "empty", "a number more", "a single number", "sparse", "int64")
]
