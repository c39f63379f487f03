"""The parquet files of a written data set: a row group an episode, a new file when one is large."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK_SIZE = 1000
"""Files a folder."""
FILE_MIB = 100
"""A file takes no further episode from this size on [MiB]."""

_PAGE_BYTES = 2**18


class DataFiles:
    """Takes the rows of one episode after the other; a context manager.

    Args:
        folder: The folder of the data set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = -1
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> DataFiles:
        """Return itself."""
        return self

    def write(self, table: pa.Table) -> tuple[int, int]:
        """Write the rows of an episode.

        Args:
            table: The rows.

        Returns:
            Index of the chunk and of the file that they are in.
        """
        if self._writer is None or self._path().stat().st_size >= FILE_MIB * 2**20:
            self._close()
            self._number += 1
            self._path().parent.mkdir(parents=True, exist_ok=True)
            self._writer = _writer(self._path(), table.schema)
        self._writer.write_table(table, row_group_size=len(table))
        return divmod(self._number, CHUNK_SIZE)

    def __exit__(self, *_: object) -> None:
        """Finish the last file."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _path(self) -> Path:
        chunk, file = divmod(max(self._number, 0), CHUNK_SIZE)
        return self._folder / DATA_PATH.format(chunk_index=chunk, file_index=file)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that leaves images as they are, in pages of few: one can be read alone."""
    images = {f.name for f in schema if pa.types.is_struct(f.type)}
    others = [f.name for f in schema if f.name not in images]
    leaves = {f"{name}.bytes": "NONE" for name in images}
    return pq.ParquetWriter(
        path, schema, compression={**dict.fromkeys(others, "SNAPPY"), **leaves},
        use_dictionary=others, data_page_size=_PAGE_BYTES, write_batch_size=1,
    )  # fmt: skip
