"""Write episodes as a LeRobot folder, v3.0: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from os import PathLike
from pathlib import Path

import pyarrow as pa

from simscaleai_core.checkpoint.files import aside_path, put_in_place, remove, sync
from simscaleai_core.data.location import Location
from simscaleai_core.data.source import EpisodeSource
from simscaleai_plugin_lerobot.detect import reads
from simscaleai_plugin_lerobot.writing.folder import write_folder


def write(source: EpisodeSource, path: str | PathLike[str]) -> None:
    """Write the episodes of a source as a LeRobot folder.

    Floating-point numbers become float32, as everything that reads LeRobot's data expects; whole
    numbers keep their type. Keys become features such as ``observation.joint_pos`` and
    ``observation.images.top``; read by this plugin they have their own names again.

    Args:
        source: The episodes.
        path: The folder to make; one that is a LeRobot data set already is replaced.

    Raises:
        DataError: If the folder cannot be written, or the source cannot be read; what was at
            `path` before is untouched then.
    """
    target = Path(path)
    location = Location(path=target)
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_free and not reads(target):
        raise location.error(
            "a new folder, or a LeRobot data set", "something else", "Choose another name"
        )
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        remove(temporary)  # of a killed process with the same number
        temporary.mkdir(parents=True)
        write_folder(source, temporary, location)
        sync(temporary)
        put_in_place(temporary, target)
        remove(aside_path(target))
    except (OSError, pa.ArrowException) as error:
        raise location.error(
            "a complete folder", str(error),
            "Fix that and write it again; what was there before is untouched",
            fact="could not write the data set",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
