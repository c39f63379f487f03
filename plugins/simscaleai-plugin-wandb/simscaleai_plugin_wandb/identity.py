"""The id under which a run continues after a resume, kept beside its checkpoints."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from simscaleai_core.checkpoint.files import replace_atomically

FILE_NAME = "wandb_run.json"


def new_id() -> str:
    """Return a fresh run id."""
    return secrets.token_hex(4)


def read_id(directory: Path, project: str) -> str | None:
    """Return the id of the run that a directory's checkpoints belong to.

    Args:
        directory: The checkpoint directory.
        project: The project; an id of another project is not used.

    Returns:
        The id, or None if there is none.
    """
    try:
        about = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
        found = about["id"] if about["project"] == project else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and found else None


def write_id(directory: Path, project: str, run_id: str) -> None:
    """Keep the id; a reader sees the old file or the new one, never half of it."""
    directory.mkdir(parents=True, exist_ok=True)
    with replace_atomically(directory / FILE_NAME) as temporary:
        table = {"id": run_id, "project": project}
        temporary.write_text(json.dumps(table) + "\n", encoding="utf-8")
