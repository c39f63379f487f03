"""One schema for everything that reads a checkpoint: nothing of a foreign tree is trusted."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import TinyPolicy, differences, read, train

from simscaleai_core import load_checkpoint, load_policy
from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.schema import check_tree, tensor_mismatches
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.cli.app import run as simscale
from simscaleai_core.errors import CheckpointError

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree of step 6 of 12."""
    directory = tmp_path_factory.mktemp("whole")
    train(directory, save_every=6)
    return read(directory / "step_6.pt")


def _shared(depth: int = 40) -> Any:
    value: Any = [0]
    for _ in range(depth):
        value = [value, value]
    return value


def _deep(depth: int = 500) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _put(place: str, value: Any) -> Callable[[Tree], None]:
    *path, last = [int(p) if p.isdigit() else p for p in place.split("/")]

    def put(tree: Tree) -> None:
        node: Any = tree
        for part in path:
            node = node[part]
        if isinstance(node, tuple):
            raise TypeError(place)
        node[last] = value(node[last]) if callable(value) else value

    return put


def _drop(place: str) -> Callable[[Tree], None]:
    *path, last = place.split("/")

    def drop(tree: Tree) -> None:
        node: Any = tree
        for part in path:
            node = node[part]
        del node[last]

    return drop


MISFITS: list[tuple[Callable[[Tree], None], str]] = [
    (_put("format_version", 99), "format 99.*Upgrade"),
    (_put("format_version", True), "format_version"),
    (_put("format_version", "1"), "format_version"),
    (_drop("format_version"), "format_version"),
    (_put("step", -5), r"step: expected an integer of at least 0, found -5"),
    (_put("step", 10**18), r"step: expected counters\.step"),
    (_put("counters", {}), r"counters\.step"),
    (_put("counters/updates", 10**18), "counters"),
    (_put("counters/skipped", "6"), r"counters\.skipped"),
    (_put("counters/more", 6), "counters: expected the counters"),
    (_put("best_eval_loss", math.nan), "best_eval_loss"),
    (_put("best_eval_loss", "x"), "best_eval_loss"),
    (_put("model_state_dict/net.0.weight", lambda t: t * math.nan), r"net\.0\.weight.*finite"),
    (_put("model_state_dict/net.0.weight", [1.0]), "model_state_dict"),
    (_put("model_state_dict/net.0.weight", torch.zeros(1).expand(2**40)), "dense"),
    (_put("model_state_dict/net.0.weight", torch.eye(3).to_sparse()), "dense"),
    (_drop("optimizer_state_dict"), "optimizer_state_dict is missing"),
    (_put("optimizer_state_dict", {"state": {}}), "optimizer_state_dict"),
    (_put("config", []), "config"),
    (_put("config/lr", "fast"), r"config: field 'lr'"),
    (_put("config/max_steps", 3), "max_steps=3"),
    (_put("config", {}), r"config\.accumulate is missing"),
    (_drop("config/lr"), r"config\.lr is missing"),
    (_put("param_names", ["a", 3]), "param_names"),
    (_put("rng", []), "rng"),
    (_put("rng", [{}]), r"rng\[0\]"),
    (_put("rng/0/torch", torch.zeros(3, dtype=torch.uint8)), r"rng\[0\]"),
    (_put("rng/0/torch", lambda t: torch.full_like(t, 255)), r"rng\[0\]"),
    (_put("rng/0/python", (3, (1, 2), None)), r"rng\[0\]"),
    (_put("rng/0/numpy", lambda n: (n[0], n[1], 10**6, *n[3:])), r"rng\[0\].*position"),
    (_put("rng/0/numpy", lambda n: (n[0], n[1][:5], *n[2:])), r"rng\[0\]"),
    (_put("states", {"a": 3}), "states"),
    (_put("states/bomb", {"x": _shared()}), "shared or too deep"),
    (_put("states/bomb", {"x": _deep()}), "shared or too deep"),
    (_put("states/odd", {"x": {1, 2}}), r"\$\.states\.odd\.x"),
    (_put("facts", None), "facts"),
    (_put("policy", "bc"), "policy"),
    (_put("policy/hparams", [1]), r"policy\.hparams"),
    (_put("data", 3), "data"),
]


def test_a_tree_of_ours_is_accepted(whole: Tree) -> None:
    check_tree(whole, "step_6.pt")


@pytest.mark.parametrize(("change", "said"), MISFITS)
def test_a_misfit_is_refused_by_its_place(
    whole: Tree, change: Callable[[Tree], None], said: str
) -> None:
    tree = copy.deepcopy(whole)
    change(tree)
    with pytest.raises(CheckpointError, match=said) as caught:
        check_tree(tree, "step_6.pt")
    assert str(caught.value).startswith("step_6.pt ")
    assert len(str(caught.value)) < 2000
    assert caught.value.path == Path("step_6.pt")


def test_tensors_that_share_what_is_stored_are_bounded(whole: Tree) -> None:
    """Tied weights pass; a file of a megabyte that would be saved as a gigabyte does not."""
    weights = whole["model_state_dict"]
    tied = {**weights, "tied": weights["net.0.weight"]}
    check_tree({**whole, "model_state_dict": tied}, "tied.pt")
    one = torch.zeros(2**18)
    many = {"memory": {"all": [one.view(-1) for _ in range(1000)]}}
    with pytest.raises(CheckpointError, match="share what is stored"):
        check_tree({**whole, "states": many}, "many.pt")


def saved(tree: Tree, directory: Path) -> Path:
    """Write a tree as a checkpoint with a right manifest."""
    store = CheckpointStore(directory, PtBackend())
    store.open()
    store.save("step_6", tree, step=6)
    store.close()
    return directory / "step_6.pt"


def test_every_reader_refuses_a_newer_format(
    whole: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved({**whole, "format_version": 99}, tmp_path / "newer")
    for read_it in (load_checkpoint, load_policy):
        with pytest.raises(CheckpointError, match="Upgrade simscaleai-core"):
            read_it(path)
    with pytest.raises(CheckpointError, match="Upgrade simscaleai-core"):
        train(tmp_path / "b", resume_from=str(path))
    with pytest.raises(CheckpointError, match="Upgrade simscaleai-core"):
        train(path.parent, resume_from="auto")
    assert simscale(["checkpoint", "show", str(path)]) == 2
    assert "Upgrade simscaleai-core" in capsys.readouterr().err


OPTIMISER_MISFITS: list[tuple[Callable[[Tree], None], str]] = [
    (
        _put("optimizer_state_dict/state/0/exp_avg", torch.zeros(1)),
        r"state\.0\.exp_avg: expected \[",
    ),
    (_put("optimizer_state_dict/state/0/exp_avg_sq", torch.zeros(9999)), r"state\.0\.exp_avg_sq"),
    (_put("optimizer_state_dict/state/0/exp_avg_sq", lambda t: -1 - t), "at least 0"),
    (_put("optimizer_state_dict/state/0/exp_avg", lambda t: t.double()), "float32"),
    (_put("optimizer_state_dict/state/0/step", torch.zeros(7)), r"state\.0\.step"),
    (_put("optimizer_state_dict/state/0/step", 6), r"state\.0\.step"),
    (_put("optimizer_state_dict/state/0/step", torch.tensor(math.inf)), r"state\.0\.step"),
    (_put("optimizer_state_dict/state/0", {}), "expected exp_avg, exp_avg_sq, step, found nothing"),
    (_put("optimizer_state_dict/state/77", lambda _: {}), "of no parameter"),
    (_put("optimizer_state_dict/state", {}), "expected that of the updates, found none"),
    (_put("optimizer_state_dict/param_groups", []), "expected the numbers of the parameters"),
    (
        _put("optimizer_state_dict/param_groups/0/params", [0]),
        "expected the numbers of the parameters",
    ),
    (_put("optimizer_state_dict/param_groups/0/lr", "fast"), "param_groups"),
    (_put("optimizer_state_dict/param_groups/0/lr", math.nan), "param_groups"),
    (_put("optimizer_state_dict/param_groups/0/betas", 3), "param_groups"),
    (_put("scheduler_state_dict/last_epoch", -5), "the schedule is at update -5"),
    (_put("scheduler_state_dict/_schedulers", []), "scheduler_state_dict"),
    (_put("scheduler_state_dict", {"step": 3, "last_epoch": 6}), "scheduler_state_dict"),
    (_put("states/loop", {"windows": 3}), r"states\.loop"),
]


@pytest.mark.parametrize(("change", "said"), OPTIMISER_MISFITS)
def test_what_does_not_fit_the_run_is_refused_before_it_is_touched(
    whole: Tree, tmp_path: Path, change: Callable[[Tree], None], said: str
) -> None:
    tree = copy.deepcopy(whole)
    tree["optimizer_state_dict"]["state"].setdefault(77, None)
    change(tree)
    if tree["optimizer_state_dict"]["state"].get(77, 0) is None:
        del tree["optimizer_state_dict"]["state"][77]
    path = saved(tree, tmp_path / "odd")
    policy = TinyPolicy(dropout=0.2, seed=5)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(CheckpointError, match=said):
        train(tmp_path / "b", policy=policy, resume_from=str(path))
    assert not differences(before, policy.state_dict())


def test_kinds_of_numbers_are_compared() -> None:
    ours = {"a": torch.zeros(2), "b": torch.zeros(2)}
    theirs = {"a": torch.zeros(2, dtype=torch.int64), "b": torch.zeros(2, dtype=torch.float64)}
    assert tensor_mismatches(ours, theirs) == ["'a' is torch.int64, the policy has torch.float32"]
    assert tensor_mismatches(ours, {**ours, "a": torch.tensor([0.0, math.inf])}) == [
        "'a' is not finite"
    ]
    mask = {"mask": torch.tensor([0.0, -math.inf])}
    assert tensor_mismatches(mask, mask) == []
    assert tensor_mismatches(ours, {"a": 3, "b": ours["b"]}) == [
        "'a' is int, the policy has a tensor"
    ]
