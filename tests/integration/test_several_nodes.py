"""Several nodes, each an agent of torchrun with two ranks of its own, on this machine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parent))  # agents, under --import-mode=importlib

from agents import SHORT, TRAIN, Cluster, cluster, seconds_until, seconds_until_gone
from simscaleai_devkit.support.trees import tree_differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARTS = ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "rng", "counters")
ALONE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Torch 2.13 has a node that was the first, and is not any more, tell its ranks a wrong address."""


def final(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = torch.load(folder / "run" / "final.pt", weights_only=True)
    return {name: tree[name] for name in PARTS}


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("perf/")} for line in lines
    ]


def saved(run: Cluster, step: int) -> bool:
    """Whether the checkpoint of a step is there; the first failed agent fails the test."""
    assert all(agent.poll() in {None, 0} for agent in run.agents.values()), [
        run.output(node)[-3000:] for node in run.agents
    ]
    return (run.folder / "run" / f"step_{step}.json").exists()


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Path:
    """The same run on one node with four ranks."""
    folder = tmp_path_factory.mktemp("one")
    with cluster(folder, environment, nodes="1", per_node=4) as run:
        run.start("a", *SHORT)
        assert run.finish() == {"a": 0}, run.output("a")
    return folder


def test_two_nodes_are_one_run(
    tmp_path: Path, environment: Mapping[str, str], one_node: Path
) -> None:
    """Global and local ranks, one writer, one log; the weights of one node with four ranks."""
    with cluster(tmp_path, environment) as run:
        run.start("a", *SHORT)
        run.start("b", *SHORT)
        assert run.finish() == {"a": 0, "b": 0}, run.output("a") + run.output("b")
        outputs = [run.output(node) for node in ("a", "b")]
    assert not tree_differences(final(tmp_path), final(one_node))
    assert rows(tmp_path) == rows(one_node)
    steps = [row["step"] for row in rows(tmp_path) if "train/loss" in row]
    assert steps == sorted(set(steps)), "one writer"
    first = [text for text in outputs if "training from step 0" in text]
    assert len(first) == 1, "one log"
    assert "strategy: ddp, gloo, 4 ranks" in first[0]
    (other,) = (text for text in outputs if text != first[0])
    assert not re.search(r"^(step|eval|trained)", other, re.MULTILINE), other
    started = json.loads((tmp_path / "run.ranks.json").read_text())
    places = sorted((r["RANK"], r["LOCAL_RANK"], r["GROUP_RANK"]) for r in started)
    assert places == [("0", "0", "0"), ("1", "1", "0"), ("2", "0", "1"), ("3", "1", "1")]


def test_a_killed_rank_restarts_both_nodes_and_changes_nothing(
    tmp_path: Path, environment: Mapping[str, str], one_node: Path
) -> None:
    with cluster(tmp_path, environment, max_restarts=1) as run:
        for node in ("a", "b"):
            run.start(node, *SHORT, "--faults.kind", "kill", "--faults.at", 17, "--faults.rank", 3)
        assert run.finish() == {"a": 0, "b": 0}, run.output("a") + run.output("b")
        assert "at step 10" in run.output("a") + run.output("b")
    assert not tree_differences(final(tmp_path), final(one_node))
    assert rows(tmp_path) == rows(one_node)


def test_a_run_goes_on_with_the_nodes_that_there_are(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """``--nnodes=1:2``: a node dies with its agent, the other goes on, and the node comes back."""
    command = (*TRAIN, "--max-steps", 400, "--faults.pace-s", 0.1)
    settings = {"nodes": "1:2", "max_restarts": 3}
    with cluster(tmp_path, {**environment, **ALONE}, **settings) as run:
        run.start("a", *command, address="127.0.0.1")
        run.start("b", *command, address="127.0.0.2")
        seconds_until(lambda: saved(run, 20), within_s=120, what="the first checkpoints")
        left = run.kill("a")
        assert len(left) == 2
        seconds_until_gone(left, within_s=10)
        del run.agents["a"]
        resumed = "resumed: from run/step_"
        seconds_until(lambda: resumed in run.output("b"), within_s=120, what="node b goes on")
        assert "strategy: ddp, gloo, 2 ranks" in run.output("b")
        assert "world_size was 4, is 2" in run.output("b")
        run.start("a", *command, address="127.0.0.1")
        seconds_until(
            lambda: (
                "strategy: ddp, gloo, 4 ranks\n" in run.output("a").partition(resumed)[0][-900:]
            ),
            within_s=120,
            what="both nodes go on",
        )
        assert run.finish(within_s=240) == {"a": 0, "b": 0}, run.output("a") + run.output("b")
    assert final(tmp_path)["counters"]["step"] == 400
    steps = [row["step"] for row in rows(tmp_path) if "train/loss" in row]
    assert steps == list(range(5, 401, 5)), "no row twice, none missing"


def test_a_new_launch_begins_anew(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """Only a restart goes on by itself; ``--resume auto`` does in a launch of its own."""
    short = (*TRAIN, "--max-steps", 20, "--faults.pace-s", 0)
    for _ in range(2):
        with cluster(tmp_path, environment, nodes="1", per_node=2) as run:
            run.start("a", *short)
            assert run.finish() == {"a": 0}, run.output("a")
            text = run.output("a")
    assert text.count("training from step 0") == 2


def test_a_node_with_other_data_is_refused(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with cluster(tmp_path, environment, per_node=1) as run:
        run.start("a", *SHORT)
        run.start("b", *SHORT, "--dummy.seed", 5)
        assert set(run.finish().values()) == {1}
        text = run.output("a") + run.output("b")
    assert re.search(r"rank 1 has data='\w+', rank 0 has '\w+'", text)
    assert len(re.findall(r"^error \(rank 0\): rank 1 has ", text, re.MULTILINE)) == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
