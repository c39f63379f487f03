"""Opening datasets and comparing samples for checks of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from simscaleai_core.contracts import DataSpec
from simscaleai_core.testing.checks import (
    NotApplicable,
    expect,
)
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.trees import tree_differences

MOST = 64


def path_of(subject: Subject) -> Path | str | None:
    """Return the file that the suite gives, or None for data that reads none."""
    place: Path | str | None = subject.suite.write_data(subject.folder)
    suffixes = getattr(subject.component.spec, "suffixes", ())
    if place is None and suffixes:
        raise NotApplicable(f"it reads {', '.join(suffixes)} and no file was given (--data FILE)")
    return place


def opened(subject: Subject, **given: Any) -> Any:
    """Open the dataset with the suite's options and others."""
    path = path_of(subject)
    options = {**subject.options, **given}
    if path is None:
        return subject.target(**options)
    if not Path(path).exists():
        raise NotApplicable(f"the suite's data {path} is not there")
    return subject.target(path, **options)


def described(subject: Subject) -> tuple[Any, DataSpec]:
    """Open the dataset, and return it with what it says of itself."""
    data = opened(subject)
    try:
        spec = data.describe()
    except Exception as error:
        raise NotApplicable("see the check 'describes_itself'") from error
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
    differences = tree_differences(plain_sample(one), plain_sample(other))
    expect(
        not differences, fact, expected="equality", found="; ".join(differences[:2]), remedy=remedy
    )


def plain_sample(sample: Any) -> dict[str, Any]:
    """Return a sample as plain containers."""
    return {k: dict(v) if k == "observations" else v for k, v in sample.items()}


def rows_of(data: Any) -> list[bytes]:
    """Return the first samples as bytes."""
    found: Sequence[Any] = [tensors_of(data[i]).values() for i in range(min(len(data), 500))]
    return [b"".join(t.contiguous().numpy().tobytes() for t in row) for row in found]
