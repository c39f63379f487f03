"""Parquet files, with one clear error for what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from simscaleai_core.data.location import Location, listed

RESTORE = "Copy the file again, whole"


@contextmanager
def read_errors_at(location: Location) -> Iterator[None]:
    """Raise one clear error if the body cannot read a parquet file.

    Raises:
        DataError: If the body could not read it.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise location.error(
            "a parquet file", "no such file",
            "Copy the file there, or leave its episodes out with the option episodes",
        ) from error  # fmt: skip
    except (OSError, pa.ArrowException) as error:
        found = next(iter(str(error).splitlines()), type(error).__name__)
        raise location.error("a sound parquet file", found.rstrip("."), RESTORE) from error


def open_parquet(path: Path, location: Location) -> pq.ParquetFile:
    """Open a parquet file.

    Args:
        path: The file.
        location: Where it is, for messages.

    Returns:
        The open file.

    Raises:
        DataError: If it is missing or damaged.
    """
    with read_errors_at(location):
        return pq.ParquetFile(path)


def check_columns(file: pq.ParquetFile, names: Sequence[str], location: Location) -> None:
    """Check that a file has some columns.

    Args:
        file: The open file.
        names: Names of the columns.
        location: The file, for messages.

    Raises:
        DataError: If it lacks one.
    """
    present = set(file.schema_arrow.names)
    for name in names:
        if name not in present:
            remedy = f"{RESTORE}, or leave the key out with obs_keys"
            fact = f"no column {name!r}"
            raise location.at(key=name).error("this column", listed(present), remedy, fact=fact)


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] | None) -> pa.Table:
    """Read columns of a parquet file.

    Args:
        path: The file.
        required: Columns that must be there.
        optional: Columns to read if they are there; all if None.

    Returns:
        The table.

    Raises:
        DataError: If the file is missing or damaged, or lacks a column.
    """
    location = Location(path=path)
    with open_parquet(path, location) as file:
        check_columns(file, required, location)
        present = set(file.schema_arrow.names)
        wanted = None if optional is None else [*required, *present.intersection(optional)]
        with read_errors_at(location):
            return file.read(columns=wanted, use_threads=False)
