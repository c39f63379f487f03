"""Rotations in every representation: there, to six numbers, and back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simscaleai_plugin_bc.blocks.action_space import ActionSpace, StateSpace
from simscaleai_plugin_bc.blocks.options import REPRESENTATIONS
from simscaleai_plugin_bc.blocks.rotations import (
    deviation,
    from_matrix,
    from_six,
    product,
    to_matrix,
    to_six,
)

from simscaleai_core.errors import ConfigError

every_kind = pytest.mark.parametrize("kind", REPRESENTATIONS)
FLOAT = 1e-5  # of numbers of about one, after some ten operations in float32

angles = st.one_of(
    st.floats(0, math.pi),
    st.sampled_from([0.0, 1e-7, 1e-3, math.pi / 2, math.pi - 1e-3, math.pi - 1e-6, math.pi]),
)
components = st.floats(-1, 1).filter(lambda v: v == 0 or abs(v) > 1e-3)
axes = st.tuples(components, components, components).filter(lambda a: sum(v * v for v in a) > 0.01)


@st.composite
def vectors(draw) -> torch.Tensor:
    """An axis times an angle."""
    axis = torch.tensor(draw(axes), dtype=torch.float64)
    return (axis / axis.norm() * draw(angles)).float()


def matrices(vector: torch.Tensor) -> torch.Tensor:
    """The matrix exponential, which no code of ours is behind."""
    x, y, z = vector.double().tolist()
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(skew).float()


@given(vectors())
@settings(max_examples=60, deadline=None)
def test_axis_and_angle_are_the_rotation_that_they_say(vector):
    torch.testing.assert_close(
        to_matrix(vector, "axis_angle"), matrices(vector), atol=FLOAT, rtol=0
    )


@every_kind
@given(vectors())
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_the_same_rotation(kind, vector):
    wanted = matrices(vector)
    values = from_matrix(wanted, kind)
    assert values.shape == (REPRESENTATIONS[kind],) and values.isfinite().all()
    torch.testing.assert_close(to_matrix(values, kind), wanted, atol=FLOAT, rtol=0)
    six = to_six(to_matrix(values, kind))
    torch.testing.assert_close(from_six(six), wanted, atol=FLOAT, rtol=0)
    again = from_matrix(from_six(six), kind)
    if kind == "axis_angle" and vector.norm() > math.pi - 1e-3:  # both signs are the same
        again = again * (again @ values).sign()
    if kind.startswith("quaternion") and abs(values).min() < 1e-3:
        again = again * (again @ values).sign()
    torch.testing.assert_close(again, values, atol=3e-4 if kind == "axis_angle" else FLOAT, rtol=0)


@given(vectors(), st.floats(0.5, 2.0))
@settings(max_examples=40, deadline=None)
def test_both_quaternions_of_a_rotation_and_any_length_are_one(vector, length):
    one = from_matrix(matrices(vector), "quaternion_xyzw")
    assert one[3] >= 0
    for other in (-one, one * length):
        torch.testing.assert_close(
            to_matrix(other, "quaternion_xyzw"), matrices(vector), atol=FLOAT, rtol=0
        )
    moved = one[[3, 0, 1, 2]]
    torch.testing.assert_close(
        to_matrix(moved, "quaternion_wxyz"), matrices(vector), atol=FLOAT, rtol=0
    )


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_six_numbers_are_a_rotation(numbers):
    six = torch.tensor(numbers)
    parallel = torch.linalg.cross(six[:3], six[3:]).norm()
    found = from_six(six)
    assert found.isfinite().all()
    if parallel > 1e-2:
        torch.testing.assert_close(product(found, found.T), torch.eye(3), atol=1e-4, rtol=0)
        assert torch.linalg.det(found) > 0.99


def test_what_is_no_rotation_is_seen():
    assert deviation(torch.tensor([0.0, 0.0, 0.0, 1.0]), "quaternion_xyzw") == 0
    assert deviation(torch.tensor([0.0, 0.0, 0.0, 0.5]), "quaternion_xyzw") == 0.5
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0])).flatten()
    assert deviation(torch.eye(3).flatten(), "matrix") < FLOAT < deviation(mirror, "matrix")


KEYS = {"ee_pos": 3, "ee_quat": 4, "joint": 7, "ee_pose": 7}


def space(deltas=None, rotations=None, action_dim=8):
    state = StateSpace(KEYS, rotations or {})
    return state, ActionSpace(action_dim, state, deltas or {}, rotations or {})


def poses(size, generator, timesteps=()):
    """States and actions whose rotations are unit quaternions at their places."""

    def numbers(*shape):
        return torch.randn(*shape, generator=generator)

    def unit(*shape):
        return torch.nn.functional.normalize(numbers(*shape, 4), dim=-1)

    state = torch.cat(
        [numbers(size, 3), unit(size), numbers(size, 7), numbers(size, 3), unit(size)], -1
    )
    lead = (size, *timesteps)
    return state, torch.cat([numbers(*lead, 3), unit(*lead), numbers(*lead, 1)], -1)


QUATERNIONS = {"actions[3:7]": "quaternion_xyzw", "ee_quat": "quaternion_xyzw"}
TABLES = [
    ({}, {}),
    ({"0:3": "ee_pos"}, {}),
    ({"0:7": "joint"}, {}),
    ({"0:3": "joint[2:5]", "7:8": "joint[0:1]"}, {}),
    ({}, QUATERNIONS),
    ({"0:3": "ee_pos"}, QUATERNIONS),
    ({"0:3": "ee_pos", "3:7": "ee_quat"}, QUATERNIONS),
    ({"0:7": "ee_pose"}, {"actions[3:7]": "quaternion_wxyz", "ee_pose[3:7]": "quaternion_wxyz"}),
    ({"3:7": "ee_quat"}, {"actions[3:7]": "quaternion_xyzw"}),
]


@pytest.mark.parametrize(("deltas", "rotations"), TABLES)
@pytest.mark.parametrize("timesteps", [(), (5,)])
def test_decode_undoes_encode(deltas, rotations, timesteps):
    _, actions_to = space(deltas, rotations)
    state, actions = poses(64, torch.Generator().manual_seed(0), timesteps)
    at = state.unsqueeze(1) if timesteps else state
    encoded = actions_to.encode(actions, at)
    assert encoded.shape == (64, *timesteps, actions_to.dim)
    again = actions_to.decode(encoded, at)
    if rotations:  # the one of the two quaternions whose w is not negative
        w = 6 if "xyzw" in rotations["actions[3:7]"] else 3
        actions = actions.clone()
        actions[..., 3:7] *= torch.where(actions[..., w : w + 1] < 0, -1.0, 1.0)
    torch.testing.assert_close(again, actions, atol=FLOAT, rtol=0)
    assert actions_to.is_plain == (not deltas and not rotations)
    assert encoded is actions or not actions_to.is_plain


def test_a_rotation_in_both_tables_is_learnt_relative_to_the_states():
    _, actions_to = space({"0:3": "ee_pos", "3:7": "ee_quat"}, QUATERNIONS)
    state, actions = poses(16, torch.Generator().manual_seed(0))
    actions[:, :7] = state[:, :7]
    encoded = actions_to.encode(actions, state)
    still = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 0])
    torch.testing.assert_close(encoded[:, :9], still.expand(16, 9), atol=FLOAT, rtol=0)


def test_the_state_may_hold_the_rotation_in_another_representation():
    rotations = {"actions[3:6]": "axis_angle", "ee_quat": "quaternion_xyzw"}
    _, actions_to = space({"3:6": "ee_quat"}, rotations, action_dim=6)
    state, _ = poses(16, torch.Generator().manual_seed(0))
    turned = from_matrix(to_matrix(state[:, 3:7], "quaternion_xyzw"), "axis_angle")
    actions = torch.cat([torch.zeros(16, 3), turned], -1)
    encoded = actions_to.encode(actions, state)
    torch.testing.assert_close(
        encoded[:, 3:], torch.tensor([1.0, 0, 0, 0, 1, 0]).expand(16, 6), atol=FLOAT, rtol=0
    )
    torch.testing.assert_close(actions_to.decode(encoded, state), actions, atol=1e-4, rtol=0)


def test_the_state_keeps_its_plain_columns_in_place():
    state_to, _ = space(rotations=QUATERNIONS)
    state, _ = poses(4, torch.Generator().manual_seed(0))
    encoded = state_to.encode(state)
    assert encoded.shape == (4, 23) == (4, state_to.dim)
    assert state_to.encoded_of("ee_quat") == slice(3, 9)
    assert state_to.encoded_of("joint") == slice(9, 16)
    torch.testing.assert_close(encoded[:, :3], state[:, :3])
    torch.testing.assert_close(encoded[:, 9:], state[:, 7:])


@pytest.mark.parametrize(
    ("deltas", "rotations", "message"),
    [
        ({"0:3": "ee"}, {}, r"delta_actions: .*ee_pos, ee_pose, ee_quat, joint.*got 'ee'"),
        ({"0-3": "ee_pos"}, {}, "ranges of action dimensions such as '0:3', got '0-3'"),
        ({"6:9": "ee_pos"}, {}, "expected a range of 0:8, got '6:9'"),
        ({"3:3": "ee_pos"}, {}, "expected a range of 0:8, got '3:3'"),
        ({"0:2": "ee_pos"}, {}, r"expected 2 dimensions of state.*got 3 of 'ee_pos'.*ee_pos\[0:2\]"),
        ({"0:3": "joint[5:8]"}, {}, r"expected a range of 0:7, got 'joint\[5:8\]'"),
        ({"0:3": "ee_pos", "2:3": "joint[0:1]"}, {}, "dimension 2 in two ranges"),
        ({}, {"ee_pos": "quaternion_xyzw"}, "expected 4 dimensions.*got 3 @ 'ee_pos'"),
        ({}, {"actions": "matrix"}, r"expected 9 dimensions.*got 8 @ 'actions'.*actions\[0:9\]"),
        ({}, {"elsewhere": "matrix"}, "rotations: .*got 'elsewhere'"),
        ({}, {"actions[0:4]": "quaternion_xyzw", "actions[3:6]": "axis_angle"}, "dimension 3 in two"),
        ({"0:5": "joint[0:5]"}, {"actions[3:7]": "quaternion_xyzw"}, r"rotation actions\[3:7\] wholly"),
    ],
)  # fmt: skip
def test_wrong_tables_are_named(deltas, rotations, message):
    with pytest.raises(ConfigError, match=message):
        space(deltas, rotations)
