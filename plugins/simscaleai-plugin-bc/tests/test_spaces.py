"""Normalisation by key, relative actions and rotations, in every policy of the family."""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))  # demonstrations, under --import-mode=importlib

from pose_tasks import Arm, opened
from simscaleai_plugin_bc.blocks.rotations import from_matrix, product, to_matrix

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.data.batches import collate
from simscaleai_core.data.source import Key
from simscaleai_core.errors import CheckpointError, ConfigError, DataError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.registry import load_policy

HOST = Host()
CHUNK = {"hidden_dim": 16, "horizon": 4, "execute": 2}
SIZES = {
    "bc": {"hidden_dim": 16, "n_layers": 1},
    "bc-chunk": {**CHUNK, "n_layers": 1, "ensemble": None},
    "bc-gmm": {**CHUNK, "n_layers": 1, "num_modes": 2},
    "bc-rnn": {"hidden_dim": 16, "horizon": 4},
    "act": {**CHUNK, "num_heads": 2, "n_layers": 1, "ensemble": None},
    "diffusion": {**CHUNK, "n_layers": 1, "num_levels": 10, "sample_steps": 4},
    "flow": {**CHUNK, "n_layers": 1, "sample_steps": 4},
}
MODES = ("mean_std", "range", "quantiles", "none")
SPACES = {
    "delta_actions": {"0:3": "ee_pos", "3:7": "ee_quat"},
    "rotations": {"ee_quat": "quaternion_xyzw", "actions[3:7]": "quaternion_xyzw"},
}
every_policy = pytest.mark.parametrize("name", SIZES)
two_of_them_quickly = pytest.mark.parametrize(
    "name", [n if n in {"bc", "flow"} else pytest.param(n, marks=pytest.mark.slow) for n in SIZES]
)


def class_of(name):
    return import_target(HOST.component("model", name))


def begin(policy):
    """Begin the episodes of seeds 0, 1, ... in as many sub-environments as there may be."""
    if "seeds" in inspect.signature(getattr(policy, "reset", lambda: None)).parameters:
        policy.reset(None, range(100))
    elif hasattr(policy, "reset"):
        policy.reset()


def built(name, *sources, mixed=None, **options):
    """A policy for the arm, and the data."""
    cls = class_of(name)
    given = {**SIZES[name], **options}
    data = opened(cls, *sources, **(mixed or {}), **given)
    torch.manual_seed(0)
    return cls.from_data(data.describe(), **given), data


def whole(data):
    return collate(data.__getitems__(range(len(data))))


def observation(data, size=3):
    rows = whole(data)["observations"]
    return {k: (v[:, 0] if v.ndim == 3 else v)[:size].numpy() for k, v in rows.items()}


def encoded(policy, batch):
    """Normalised actions to the network that are no padding."""
    values = policy._encoded_actions(batch)
    is_pad = batch.get("is_pad")
    return values.reshape(-1, values.shape[-1]) if is_pad is None else values[~is_pad]


@two_of_them_quickly
@pytest.mark.parametrize("spaces", [{}, SPACES], ids=["plain", "spaces"])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_does_to_states_and_actions_what_it_says(name, spaces, mode):
    table = dict.fromkeys(("ee_pos", "ee_quat", "actions"), mode)
    if name == "diffusion" and mode == "mean_std":
        with pytest.raises(ConfigError, match="expected range, quantiles or none"):
            built(name, normalization=table, **spaces)
        return
    policy, data = built(name, normalization=table, **spaces)
    batch = whole(data)
    actions = encoded(policy, batch)
    state = policy.inputs.state(policy.inputs.first_timestep(batch["observations"]))
    for values, normalizer in (
        (actions, policy.action_normalizer),
        (state, policy.state_normalizer),
    ):
        is_scaled = normalizer.scale != 1
        if mode == "none":
            assert not is_scaled.any() and not normalizer.mean.any()
            continue
        assert is_scaled.sum() >= 7
        scaled = values[:, is_scaled]
        if mode == "mean_std":
            assert (scaled.mean(0).abs() < 0.05).all() and ((scaled.std(0) - 1).abs() < 0.1).all()
        elif mode == "range":
            assert (scaled.abs().amax(0) - 1).abs().max() < 1e-4
        else:
            outside = (scaled.abs() > 1 + 1e-4).float().mean(0)
            assert outside.max() < 0.06 and scaled.abs().amax(0).min() > 0.9
    out = policy(batch)
    out["loss"].backward()
    assert out["loss"].isfinite()
    action = policy.eval().predict(observation(data))
    assert action.shape == (3, 8) and np.isfinite(action).all()
    if spaces:
        np.testing.assert_allclose(np.linalg.norm(action[:, 3:7], axis=1), 1, atol=1e-5)


def test_diffusion_refuses_actions_that_it_could_not_predict():
    far = Arm(scale=100.0)
    with pytest.raises(ConfigError, match=r"within \[-1, 1\] for 'none'.*got up to"):
        built("diffusion", far, normalization={"actions": "none"})
    built("flow", far, normalization={"actions": "none"})


@two_of_them_quickly
def test_what_is_learnt_is_what_is_executed(name):
    """A head that always answers with the demonstrated actions moves the arm as demonstrated."""
    policy, data = built(name, **SPACES, normalization={"actions": "range"})
    batch = whole(data)
    target = policy._encoded_actions(batch)
    observations = policy.inputs.first_timestep(batch["observations"])
    target = target[:, 0] if name == "bc-rnn" else target
    answer = policy.action_space.to_data(policy._absolute(target, observations))
    wanted = batch["actions"] if answer.ndim == batch["actions"].ndim else batch["actions"][:, 0]
    sign = torch.where(wanted[..., 6:7] < 0, -1.0, 1.0)
    wanted = torch.cat([wanted[..., :3], wanted[..., 3:7] * sign, wanted[..., 7:]], -1)
    torch.testing.assert_close(answer, wanted, atol=2e-5, rtol=0)


def test_statistics_are_those_of_differences_over_windows_without_padding():
    policy, data = built("bc-chunk", **SPACES)
    rows = []
    for episode in data.source.rows:
        for t in range(len(episode["ee_pos"])):
            ahead = episode["actions"][t : t + 4, :3]
            rows.append(ahead - episode["ee_pos"][t])
    stacked = np.concatenate(rows)
    np.testing.assert_allclose(policy.action_normalizer.mean[:3], stacked.mean(0), atol=1e-5)
    np.testing.assert_allclose(policy.action_normalizer.scale[:3], stacked.std(0), rtol=1e-4)
    alone, _ = built("bc-rnn", **SPACES)  # each timestep is relative to its own state
    own = np.concatenate([e["actions"][:, :3] - e["ee_pos"] for e in data.source.rows])
    assert (np.abs(alone.action_normalizer.scale[:3].numpy() / own.std(0) - 1) < 0.1).all()
    assert (policy.action_normalizer.scale[:3] > 1.2 * alone.action_normalizer.scale[:3]).all()


def test_small_differences_are_scaled_and_constant_ones_are_not():
    arm = Arm()
    for episode in arm.rows:
        episode["actions"][:, :2] = episode["ee_pos"][:, :2] * [1.01, 1.0]
    policy, _ = built("bc", arm, delta_actions={"0:3": "ee_pos"})
    scale = policy.action_normalizer.scale
    assert scale[0] < 2e-3 and scale[1] == 1


def test_a_mixture_counts_its_parts_by_weight():
    sources = Arm(seed=1), Arm(seed=2, scale=3.0)
    policy, data = built("bc", *sources, mixed={"weights": [0.8, 0.2]}, **SPACES)
    parts = [np.concatenate([e["actions"][:, :3] - e["ee_pos"] for e in s.rows]) for s in sources]
    mean = 0.8 * parts[0].mean(0) + 0.2 * parts[1].mean(0)
    np.testing.assert_allclose(policy.action_normalizer.mean[:3], mean, atol=1e-5)
    assert encoded(policy, whole(data)).shape[1] == 10


@two_of_them_quickly
def test_each_source_has_its_own_units(name):
    sources = Arm(seed=1), Arm(seed=1, scale=1000.0)
    policy, data = built(name, *sources, statistics="by_source", **SPACES)
    batch = whole(data)
    policy.inputs.augmented(batch)
    actions, names = policy._encoded_actions(batch), np.array(batch["source"])
    small, large = actions[names == "arm0"], actions[names == "arm1"]
    torch.testing.assert_close(small, large, atol=2e-3, rtol=0)
    policy(batch)["loss"].backward()
    twin = type(policy)(**policy.hparams)
    twin.load_state_dict(policy.state_dict())
    metres = observation(data)
    with pytest.raises(ConfigError, match="expected a choice of one of arm0, arm1 to act with"):
        twin.eval().predict(metres)
    found = []
    for source, scale in (("arm0", 1.0), ("arm1", 1000.0)):
        twin.set_source(source)
        begin(twin)
        found.append(twin.predict({**metres, "ee_pos": metres["ee_pos"] * scale})[:, :3] / scale)
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    with pytest.raises(ConfigError, match="source: expected one of arm0, arm1, got 'arm2'"):
        twin.set_source("arm2")
    alone = {key: value for key, value in batch.items() if key != "source"}
    with pytest.raises(DataError, match="expected one of arm0, arm1 under 'source'"):
        policy(alone)
    assert twin(alone)["loss"].isfinite()  # of the source that is chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": {"elsewhere": "range"}}, "got 'elsewhere'. Known: actions, ee_pos, ee_quat"),
        ({"normalization": {"ee_pos": "zscore"}}, "expected one of mean_std.*for 'ee_pos', got 'zscore'"),
        ({"rotations": {"actions[0:4]": "quaternion_xyzw"}}, "0:4 of the actions hold no rotations"),
        ({"rotations": {"ee_quat": "euler"}}, "expected one of .*matrix for 'ee_quat', got 'euler'"),
        ({"statistics": "by_source"}, "expected a mixture of datasets, got one dataset"),
        ({"source": "arm"}, "source: expected no source, got 'arm'"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        built("bc", **options)


def test_data_without_its_numbers_or_quantiles_is_refused_only_where_they_are_needed():
    cls = class_of("bc")
    spec = opened(cls).describe()
    bare = attrs.evolve(
        spec,
        numbers=None,
        statistics={k: attrs.evolve(s, q01=None, q99=None) for k, s in spec.statistics.items()},
    )
    cls.from_data(bare, normalization={"actions": "range"})
    with pytest.raises(DataError, match="'ee_pos': expected statistics with quantiles"):
        cls.from_data(bare, normalization={"ee_pos": "quantiles"})
    with pytest.raises(DataError, match=r"expected DataSpec\.numbers, got none"):
        cls.from_data(bare, delta_actions={"0:3": "ee_pos"})


@pytest.mark.parametrize("name", [n for n in SIZES if "horizon" in SIZES[n]])
def test_a_horizon_in_seconds_takes_the_timesteps_of_the_data(name):
    seconds = {k: v for k, v in SIZES[name].items() if k not in {"horizon", "execute"}}
    cls = class_of(name)
    data = opened(cls, Arm(fps=10.0), **seconds, horizon_seconds=0.5)
    policy = cls.from_data(data.describe(), **seconds, horizon_seconds=0.5)
    assert data.seq_len == 5 == policy.hparams["horizon"]
    assert policy(whole(data))["loss"].isfinite()
    assert type(policy)(**policy.hparams).options.horizon == 5
    with pytest.raises(ConfigError, match="horizon=4: expected one of them"):
        cls.from_data(data.describe(), **seconds, horizon=4, horizon_seconds=0.5)
    plain = attrs.evolve(data.describe(), seq_len=1, obs_len=1)
    with pytest.raises(DataError, match=r"windows of horizon_seconds=0\.5, got single timesteps"):
        cls.from_data(plain, **seconds, horizon_seconds=0.5)


def trained(name, data, steps, folder, **changes):
    options = {**SIZES[name], **SPACES, "normalization": {"ee_pos": "range", "actions": "range"}}
    options |= changes.pop("options", {})
    torch.manual_seed(0)
    policy = class_of(name).from_data(data.describe(), **options)
    config = TrainConfig(
        max_steps=steps, warmup_steps=2, batch_size=16, save_every=4, log_every=10,
        checkpoint_dir=str(folder), device="cpu", seed=3, lr=1e-3, num_workers=0, **changes,
    )  # fmt: skip
    loader = DataLoader(data, batch_size=16, shuffle=True)
    trainer = Trainer(policy, loader, config, host=HOST)
    trainer.train()
    return trainer


@pytest.mark.slow
@every_policy
def test_a_checkpoint_alone_is_enough(name, tmp_path):
    _, data = built(name, **SPACES)
    trainer = trained(name, data, 3, tmp_path)
    policy = trainer.policy.eval()
    again = load_policy(trainer.final_checkpoint, HOST)
    assert again.hparams == policy.hparams
    for twin in (again, copy.deepcopy(policy)):
        for member in (policy, twin):
            begin(member)
        np.testing.assert_array_equal(
            twin.predict(observation(data)), policy.predict(observation(data))
        )


@pytest.mark.slow
@every_policy
def test_resume_is_bit_exact(name, tmp_path):
    sources = Arm(seed=1), Arm(seed=2, scale=2.0)
    _, data = built(name, *sources, **SPACES)
    options = {"statistics": "by_source"}
    one = trained(name, data, 9, tmp_path / "whole", options=options)
    halfway = str(tmp_path / "whole" / "step_4.pt")
    two = trained(name, data, 9, tmp_path / "half", options=options, resume_from=halfway)
    wanted, found = one.policy.state_dict(), two.policy.state_dict()
    assert wanted.keys() == found.keys()
    assert all(wanted[k].equal(found[k]) for k in wanted)
    with pytest.raises(CheckpointError, match="delta_actions was"):
        trained(
            name, data, 9, tmp_path / "other", options={**options, "delta_actions": {"0:3": "ee_pos"}},
            resume_from=halfway,
        )  # fmt: skip


@every_policy
def test_checkpoints_from_before_these_options_still_load(name, tmp_path):
    policy, data = built(name)
    fresh = {"normalization", "delta_actions", "rotations", "statistics", "source"}
    former = {k: v for k, v in policy.hparams.items() if k not in {*fresh, "horizon_seconds"}}
    twin = type(policy)(**former)
    twin.load_state_dict(policy.state_dict())
    np.testing.assert_array_equal(
        twin.eval().predict(observation(data)), policy.eval().predict(observation(data))
    )


def test_chunks_are_averaged_as_rotations_and_absolute_actions():
    policy, data = built("bc-chunk", **SPACES, execute=1)
    policy.eval().set_execution(ensemble=0.0)
    seen = [observation(data, 6)]
    seen = [{k: v[i : i + 1] for k, v in seen[0].items()} for i in range(4)]
    first, second = policy.predict_chunk(seen[0]), policy.predict_chunk(seen[1])
    policy.reset()
    policy.predict(seen[0])
    action = policy.predict(seen[1])
    np.testing.assert_allclose(action[0, :3], (first[0, 1, :3] + second[0, 0, :3]) / 2, atol=1e-5)
    assert np.linalg.norm(action[0, 3:7]) == pytest.approx(1, abs=1e-5)
    halfway = first[0, 1, 3:7] + second[0, 0, 3:7]
    halfway /= np.linalg.norm(halfway)
    assert abs(halfway @ action[0, 3:7]) > 0.999


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch, at a graph break
@every_policy
def test_half_precision_and_compile_leave_spaces_whole(name):
    policy, data = built(name, **SPACES)
    batch = collate(data.__getitems__(range(8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = policy(batch)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in policy.parameters())
    torch._dynamo.reset()
    compiled = torch.compile(policy, backend="eager", fullgraph=name != "bc-rnn")
    torch.manual_seed(0)
    wanted = policy(batch)["loss"]
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(batch)["loss"], wanted)


class Turning(Arm):
    """Episodes that move and turn the arm to a goal, a part of the way at a time."""

    gain = 0.2

    @classmethod
    def _episode(cls, length, generator, scale):
        pose, goal = cls.start(generator), cls.start(generator)
        rows = []
        for _ in range(length):
            action = np.concatenate([cls.towards(pose, goal), [1.0]])
            rows.append((pose, goal, action))
            pose = action[:7]
        poses, goals, actions = map(np.array, zip(*rows, strict=True))
        return {"ee_pos": poses[:, :3], "ee_quat": poses[:, 3:], "goal": goals, "actions": actions}

    @staticmethod
    def start(generator):
        """A pose within a metre, up to 90 degrees from upright."""
        turn = np.array([*generator.uniform(-0.5, 0.5, 3), 0.8])
        return np.concatenate([generator.uniform(-1, 1, 3), turn / np.linalg.norm(turn)])

    @classmethod
    def towards(cls, pose, goal):
        """A part of the way from one pose to another, the rotation about a fixed axis."""
        start, end = (to_matrix(torch.tensor(p[3:]), "quaternion_xyzw") for p in (pose, goal))
        part = cls.gain * from_matrix(product(start.T, end), "axis_angle")
        turned = from_matrix(product(start, to_matrix(part, "axis_angle")), "quaternion_xyzw")
        return np.concatenate([pose[:3] + cls.gain * (goal - pose)[:3], turned.numpy()])

    @property
    def observations(self):
        return [Key(name=n, shape=(w,)) for n, w in (("ee_pos", 3), ("ee_quat", 4), ("goal", 7))]


def distance_left(name, steps, **options):
    """Mean distance to the goal after 30 steps of a trained policy: metres and half an angle."""
    source = Turning(lengths=(25,) * 40)
    policy, data = built(name, source, **{"hidden_dim": 64, **options})
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.randint(len(data), (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        policy(collate(data.__getitems__(chosen)))["loss"].backward()
        optimizer.step()
        schedule.step()
    generator = np.random.default_rng(99)
    poses, goals = (np.array([Turning.start(generator) for _ in range(50)]) for _ in range(2))
    policy.eval()
    for _ in range(30):
        seen = {"ee_pos": poses[:, :3], "ee_quat": poses[:, 3:], "goal": goals}
        poses = policy.predict({k: v.astype(np.float32) for k, v in seen.items()})[:, :7]
        poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    moved = np.linalg.norm(poses[:, :3] - goals[:, :3], axis=1).mean()
    cosine = np.abs((poses[:, 3:] * goals[:, 3:]).sum(1)).clip(max=1)
    return moved, np.arccos(cosine).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bc", "bc-chunk", "bc-rnn"])
def test_relative_actions_and_six_numbers_reach_at_least_what_absolute_ones_do(name):
    turned = {**SPACES["rotations"], "goal[3:7]": "quaternion_xyzw"}
    plain = distance_left(name, 1000)
    found = distance_left(name, 1000, **{**SPACES, "rotations": turned})
    assert found[0] < 0.12 and found[1] < 0.12, (found, plain)
    assert found[0] < 0.5 * plain[0] and found[1] < plain[1], (found, plain)


@pytest.mark.slow
def test_a_damaged_table_in_a_checkpoint_is_one_clear_error(tmp_path):
    _, data = built("bc", **SPACES)
    trainer = trained("bc", data, 2, tmp_path)
    tree = torch.load(trainer.final_checkpoint, weights_only=True)
    tree["policy"]["hparams"]["delta_actions"] = {"0:3": "elsewhere"}
    torch.save(tree, tmp_path / "damaged.pt")
    with pytest.raises((CheckpointError, ConfigError), match="got 'elsewhere'"):
        load_policy(tmp_path / "damaged.pt", HOST)
