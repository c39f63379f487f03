"""``simscale checkpoint show|list``."""

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
    if "format_version" not in tree:
        raise CheckpointError(
            f"{file} is not a SimScaleAI checkpoint: it has no 'format_version'.", path=file
        )
    weights = tree.get("model_state_dict", {})
    facts: dict[str, Any] = {
        "step": tree.get("step"),
        "best_eval_loss": tree.get("best_eval_loss"),
        "parameters": sum(t.numel() for t in weights.values()),
        "policy": tree.get("policy", {}),
        "data": tree.get("data", {}),
        "facts": tree.get("facts", {}),
        "config": tree.get("config", {}),
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

    from simscaleai_core.checkpoint.manifest import damage_of, list_checkpoints

    if not directory.is_dir():
        raise CheckpointError(
            f"no directory at {directory}: expected one that holds checkpoints.", path=directory
        )
    rows = [
        {**asdict(i), "state": damage_of(directory / i.file) or "whole"}
        for i in list_checkpoints(directory)
    ]
    if json:
        print_json({"checkpoints": rows})
    else:
        shown = [(r["file"], r["step"], r["run"], r["size_bytes"], r["state"]) for r in rows]
        print_table(shown, headers=("file", "step", "run", "bytes", "state"))
    return 0
