"""Rotations: from the representations of data to six continuous numbers, and back.

The six numbers are the first two columns of the rotation matrix, one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIX = 6
"""Numbers of the continuous representation."""

_TINY = 1e-8


def to_matrix(values: Tensor, kind: str) -> Tensor:
    """Return rotation matrices `[..., 3, 3]`.

    Args:
        values: Rotations `[..., N]`; quaternions need not have length 1, angles are in rad.
        kind: One of `REPRESENTATIONS`, which also gives N.

    Returns:
        The matrices.

    Source:
        Diebel 2006 (representing attitude), eq. 125; axis and angle by their quaternion.
    """
    if kind == "matrix":
        return values.reshape(*values.shape[:-1], 3, 3)
    if kind == "axis_angle":
        half = values.norm(dim=-1, keepdim=True) / 2
        # sin(half) / (2 half), which is 1/2 at an angle of zero
        x, y, z = (values * torch.sinc(half / torch.pi) / 2).unbind(-1)
        w = half.squeeze(-1).cos()
    else:
        ordered = F.normalize(values, dim=-1, eps=_TINY).unbind(-1)
        x, y, z, w = ordered if kind == "quaternion_xyzw" else (*ordered[1:], ordered[0])
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def from_matrix(matrix: Tensor, kind: str) -> Tensor:
    """Return rotations `[..., N]` of matrices `[..., 3, 3]`: the inverse of `to_matrix`.

    Of the two quaternions of a rotation it is the one whose w is not negative; axis and angle have
    an angle of at most pi.

    Args:
        matrix: Rotation matrices `[..., 3, 3]`.
        kind: One of `REPRESENTATIONS`.

    Returns:
        The rotations; angles in rad.

    Source:
        Shepperd 1978: of the four ways to a quaternion, the one with the largest divisor.
    """
    if kind == "matrix":
        return matrix.flatten(-2)
    w, xyz = _quaternion(matrix)
    if kind == "quaternion_xyzw":
        return torch.cat([xyz, w], dim=-1)
    if kind == "quaternion_wxyz":
        return torch.cat([w, xyz], dim=-1)
    length = xyz.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, w)
    return xyz * torch.where(length > _TINY, angle / length.clamp(min=_TINY), 2.0)


def to_six(matrix: Tensor) -> Tensor:
    """Return the continuous representation `[..., 6]` of matrices `[..., 3, 3]`.

    Source:
        Zhou et al. 2019 (arXiv:1812.07035), section 4.2, there g_GS.
    """
    return torch.cat([matrix[..., 0], matrix[..., 1]], dim=-1)


def from_six(six: Tensor) -> Tensor:
    """Return the rotation matrices `[..., 3, 3]` nearest to six numbers `[..., 6]` each.

    What `to_six` gave is returned exactly; anything else is made orthonormal, first column first.

    Source:
        Zhou et al. 2019 (arXiv:1812.07035), section 4.2, there f_GS: Gram-Schmidt.
    """
    first = F.normalize(six[..., :3], dim=-1, eps=_TINY)
    second = six[..., 3:]
    second = second - (first * second).sum(dim=-1, keepdim=True) * first
    second = F.normalize(second, dim=-1, eps=_TINY)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def product(first: Tensor, second: Tensor) -> Tensor:
    """Return the products of matrices `[..., 3, 3]`, in full precision under autocast, too."""
    return (first.unsqueeze(-1) * second.unsqueeze(-3)).sum(dim=-2)


def deviation(values: Tensor, kind: str) -> Tensor:
    """Return how far rotations `[..., N]` are from being any, `[...]`; 0 if they are.

    Of a quaternion it is the difference of its length from 1, of a matrix the largest difference
    of its columns from orthonormal ones of positive orientation.
    """
    if kind == "axis_angle":
        return values.new_zeros(values.shape[:-1])
    if kind == "matrix":
        matrix = to_matrix(values, kind)
        return (from_six(to_six(matrix)) - matrix).abs().flatten(-2).amax(dim=-1)
    length: Tensor = values.norm(dim=-1)
    return (length - 1).abs()


def _quaternion(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return w `[..., 1]`, not negative, and x, y, z `[..., 3]`."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # row k is 4 * q_k * (w, x, y, z)
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    each = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = each.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    chosen = each.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    unit = F.normalize(chosen, dim=-1)
    unit = torch.where(unit[..., :1] < 0, -unit, unit)
    return unit[..., :1], unit[..., 1:]
