"""``simscale checkpoint show|list|merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

from simscaleai_core.cli.output import print_facts, print_json, print_table
from simscaleai_core.errors import CheckpointError

app = App(
    name="checkpoint", help="Look into checkpoints.", default_parameter=Parameter(negative=())
)


@app.command
def show(file: Path, /, *, json: bool = False) -> int:
    """Show what a checkpoint holds: where it stands, policy, data, plugins and configuration.

    Args:
        file: The checkpoint.
        json: Print one JSON object and nothing else.

    Returns:
        0.

    Raises:
        CheckpointError: If it is none of ours.
    """
    from simscaleai_core.host.registry import load_checkpoint

    tree = load_checkpoint(file)
    facts: dict[str, Any] = {
        "step": tree["step"],
        "best_eval_loss": tree["best_eval_loss"],
        "parameters": sum(t.numel() for t in tree["model_state_dict"].values()),
        **{name: tree[name] for name in ("policy", "data", "facts", "config")},
    }
    if json:
        print_json(facts)
        return 0
    print_facts({k: v for k, v in facts.items() if not isinstance(v, dict)}, title=str(file))
    for name, table in facts.items():
        if isinstance(table, dict):
            print_facts(table, title=name)
    return 0


@app.command(name="list")
def list_(directory: Path, /, *, json: bool = False) -> int:
    """List the checkpoints of a directory, oldest first, and whether each is whole.

    Args:
        directory: The checkpoint directory.
        json: Print one JSON object and nothing else.

    Returns:
        0.

    Raises:
        CheckpointError: If there is no such directory.
    """
    from attrs import asdict

    from simscaleai_core.checkpoint.manifest import (
        damage_of,
        list_checkpoints,
        with_unreadable_manifest,
    )

    if not directory.is_dir():
        raise CheckpointError(
            f"no directory at {directory}: expected one that holds checkpoints.", path=directory
        )
    rows = [
        {**asdict(i), "state": damage_of(directory / i.file) or "whole"}
        for i in list_checkpoints(directory)
    ]
    rows += [
        {**dict.fromkeys(("step", "run", "size_bytes")), "file": path.name, "state": "no manifest"}
        for path in with_unreadable_manifest(directory)
    ]
    if json:
        print_json({"checkpoints": rows})
    else:
        shown = [(r["file"], r["step"], r["run"], r["size_bytes"], r["state"]) for r in rows]
        print_table(shown, headers=("file", "step", "run", "bytes", "state"))
    return 0


@app.command
def merge(file: Path, output: Path, /, *, weights: str = "evaluated", json: bool = False) -> int:
    """Write a checkpoint whose policy has plain weights, without adapters such as LoRA.

    It is for evaluation, deployment and --init-from; a run continues from the one with adapters.

    Args:
        file: The checkpoint of a policy with adapters.
        output: The checkpoint to write; its suffix names the kind.
        weights: Which weights to take: evaluated, as the run's own evaluations, or trained.
        json: Print one JSON object and nothing else.

    Returns:
        0.
    """
    from simscaleai_core.cli.merging import merge_checkpoint

    merged = merge_checkpoint(file, output, weights=weights)
    facts = {"adapters": ", ".join(merged), "checkpoint": str(output)}
    if json:
        print_json({**facts, "adapters": merged})
    else:
        print_facts(facts, title="merged")
    return 0
