"""The tasks by their index: ``meta/tasks.parquet`` in v3, ``meta/tasks.jsonl`` in v2."""

from __future__ import annotations

import pyarrow as pa

from simscaleai_core.data.location import Location, listed
from simscaleai_plugin_lerobot.meta.episodes import read_lines
from simscaleai_plugin_lerobot.meta.info import INTACT, Info
from simscaleai_plugin_lerobot.parquet import read_table


def read_tasks(info: Info) -> dict[int, str]:
    """Return the instruction of each task index.

    Args:
        info: The data set.

    Returns:
        Instructions by index; none if the data set has no such file.

    Raises:
        DataError: If the file is damaged.
    """
    folder = info.root / "meta"
    if not info.has_shared_files:
        path = folder / "tasks.jsonl"
        rows = list(read_lines(path)) if path.is_file() else []
        return {
            int(row["task_index"]): str(row["task"])
            for row in rows
            if {"task_index", "task"} <= row.keys()
        }
    path = folder / "tasks.parquet"
    if not path.is_file():
        return {}
    table = read_table(path, ("task_index",), optional=None)
    texts = [
        name
        for name in table.column_names
        if pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type)
    ]
    # the text is the index of a pandas table: its name is "task", or none
    name = "task" if "task" in texts else next(iter(texts), None)
    if name is None:
        raise Location(path=path).error("a column of texts", listed(table.column_names), INTACT)
    pairs = zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True)
    return {int(index): str(text) for index, text in pairs if index is not None}
