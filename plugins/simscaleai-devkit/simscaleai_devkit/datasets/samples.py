"""Opening datasets and comparing samples for checks of them."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from simscaleai_core.contracts import DataSpec
from simscaleai_devkit.checks import NotApplicable, left_to
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.trees import expect_equal

MAX_SAMPLES = 64
"""Largest number of samples that a check compares."""


def path_of(subject: Subject) -> Path | str | None:
    """Return the file that the suite gives, or None for data that reads none."""
    path: Path | str | None = subject.suite.write_data(subject.folder)
    suffixes = getattr(subject.component.spec, "suffixes", ())
    if path is None and suffixes:
        raise NotApplicable(f"it reads {', '.join(suffixes)} and no file was given (--data FILE)")
    return path


def opened(subject: Subject, **given: Any) -> Any:
    """Open the dataset with the suite's options and others."""
    path = path_of(subject)
    options = {**subject.options, **given}
    if path is None:
        return subject.target(**options)
    if not Path(path).exists():
        raise NotApplicable(f"the suite's data {path} is not there")
    return subject.target(path, **options)


def takes_seq_len(subject: Subject) -> bool:
    """Return whether the dataset gives windows of a length that is asked for."""
    parameters = inspect.signature(subject.target).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return takes_all or "seq_len" in parameters


def described(subject: Subject) -> tuple[Any, DataSpec]:
    """Open the dataset, and return it with its description."""
    data = opened(subject)
    with left_to("describes_itself"):
        spec = data.describe()
    if not isinstance(spec, DataSpec):
        raise NotApplicable("see the check 'describes_itself'")
    return data, spec


def lead_of(spec: DataSpec, *, observed: bool) -> tuple[int, ...]:
    """Return the time dimension that samples have, if any."""
    length = spec.seq_len
    if observed:
        length = getattr(spec, "obs_len", None) or spec.seq_len
    return () if length == 1 else (length,)


def tensors_of(sample: Any) -> dict[str, Tensor]:
    """Return every tensor of a sample by name."""
    found = {**sample["observations"], **{k: v for k, v in sample.items() if k != "observations"}}
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}


def expect_same(one: Any, other: Any, fact: str, remedy: str) -> None:
    """Fail a check unless two samples are equal to the last bit."""
    expect_equal(_containers(other), _containers(one), fact, remedy=remedy)


def _containers(sample: Any) -> dict[str, Any]:
    """Return a sample as dicts, whatever kinds of mapping it is made of."""
    return {k: dict(v) if k == "observations" else v for k, v in sample.items()}


def rows_of(data: Any, key: str = "") -> list[bytes]:
    """Return the first samples, or one tensor of each, as bytes."""
    found: Sequence[Any] = [tensors_of(data[i]) for i in range(min(len(data), 500))]
    return [b"".join(_bytes(t) for k, t in row.items() if key in {"", k}) for row in found]


def actions_of(data: Any) -> set[bytes]:
    """Return each timestep's action `[A]` in the first samples as bytes."""
    samples = (data[i] for i in range(min(len(data), 500)))
    return {_bytes(action) for sample in samples for action in sample["actions"]}


def _bytes(tensor: Tensor) -> bytes:
    raw: bytes = tensor.contiguous().numpy().tobytes()
    return raw


def parts_of(data: Any, seed: int = 3) -> tuple[Any, Any]:
    """Return the two parts of a split in half.

    Args:
        data: The dataset.
        seed: Seed of the split.

    Returns:
        What to train on and what is held out.

    Raises:
        NotApplicable: If there is nothing to split.
    """
    if data.describe().num_episodes < 2 or not hasattr(data, "split"):
        raise NotApplicable("it has a single episode, or no split")
    one, held = data.split(0.5, seed)
    return one, held


def altered(path: Path, place: float, other: Path) -> Path:
    """Write a copy of a file with one byte changed; of an archive, in its largest member.

    Args:
        path: The file.
        place: Where the byte is, as a fraction of the length.
        other: Where to write the copy.

    Returns:
        The path of the copy.
    """
    if not zipfile.is_zipfile(path):
        other.write_bytes(_with_change(path.read_bytes(), place))
        return other
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as copy:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        for member in archive.infolist():
            content = archive.read(member)
            changed = _with_change(content, place) if member is largest else content
            copy.writestr(member.filename, changed)
    return other


def _with_change(content: bytes, place: float) -> bytes:
    """Change one byte: a digit stays a digit."""
    changed, index = bytearray(content), int(len(content) * place)
    byte = changed[index]
    is_digit = 48 <= byte < 58
    changed[index] = 48 + (byte - 47) % 10 if is_digit else byte ^ 4
    return bytes(changed)
