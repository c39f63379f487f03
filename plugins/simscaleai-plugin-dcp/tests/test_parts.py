"""A tensor that several ranks wrote in parts is put together, or refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from simscaleai_plugin_dcp.reading import Part, read_tensor
from torch import Tensor

WHOLE = torch.arange(35.0).reshape(7, 5)
Piece = tuple[tuple[int, ...], Tensor]


def read(folder: Path, pieces: list[Piece], like: Tensor = WHOLE) -> Tensor:
    """Write pieces as torch does, each with where it begins, and read them as one tensor."""
    parts, name, end = [], "__0_0.distcp", 0
    with (folder / name).open("wb") as file:
        for place, piece in pieces:
            box = io.BytesIO()
            torch.save(piece.clone(), box)
            file.write(box.getvalue())
            parts.append(Part(file=name, offset=end, length=file.tell() - end, place=place))
            end = file.tell()
    return read_tensor(folder, {"w": parts}, "w", torch.empty_like(like, device="meta"))


@pytest.mark.parametrize(
    "pieces",
    [
        [((0, 0), WHOLE)],
        [((3, 0), WHOLE[3:]), ((0, 0), WHOLE[:3])],
        [((0, 0), WHOLE[:3]), ((3, 0), WHOLE[3:]), ((7, 0), WHOLE[7:])],  # a rank without a part
        [((i, j), WHOLE[i : i + 4, j : j + 2]) for i in (0, 4) for j in (0, 2, 4)],
    ],
)
def test_parts_make_up_the_tensor(tmp_path: Path, pieces: list[Piece]) -> None:
    assert torch.equal(read(tmp_path, pieces), WHOLE)


def test_a_single_number_and_an_empty_tensor_have_one_part(tmp_path: Path) -> None:
    for value in (torch.tensor(3.0), torch.empty(0, 4)):
        assert torch.equal(read(tmp_path, [((0,) * value.ndim, value)], value), value)


@pytest.mark.parametrize(
    "pieces",
    [
        [((0, 0), WHOLE[:3])],  # a hole
        [((0, 0), WHOLE[:4]), ((3, 0), WHOLE[3:])],  # an overlap
        [((0, 0), WHOLE[:4]), ((3, 0), WHOLE[:3])],  # an overlap that hides a hole
        [((0, 0), WHOLE[:3]), ((4, 0), WHOLE[3:])],  # beyond the end
        [((0, 0), WHOLE[:3]), ((3,), WHOLE[3:])],  # of another number of dimensions
        [((0, 0), WHOLE[:3]), ((3, 0), WHOLE[3:].flatten())],
        [((0, 0), WHOLE[:3]), ((3, 0), WHOLE[3:].double())],
        [((0, 0), WHOLE), ((0, 0), WHOLE)],
        [((1, 0), WHOLE[:6]), ((0, 0), WHOLE[:1])][:1],
    ],
)
def test_parts_that_do_not_make_it_up_are_refused(tmp_path: Path, pieces: list[Piece]) -> None:
    with pytest.raises(ValueError, match=r"its parts? and its tree differ in 'w'"):
        read(tmp_path, pieces)
