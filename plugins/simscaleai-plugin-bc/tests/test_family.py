"""The contract that every policy of the family keeps, on tiny configurations."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings

import attrs
import numpy as np
import pytest
import torch

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.contracts import DataSpec, Statistics
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.registry import load_policy

HOST = Host()
SIZES = {
    "bc": {"hidden_dim": 32, "n_layers": 2},
    "bc-chunk": {"hidden_dim": 32, "n_layers": 2, "horizon": 6, "execute": 3, "ensemble": None},
    "bc-gmm": {"hidden_dim": 32, "n_layers": 2, "horizon": 6, "execute": 3, "num_modes": 3},
    "bc-rnn": {"hidden_dim": 32, "horizon": 6},
    "act": {"hidden_dim": 32, "num_heads": 2, "horizon": 6, "execute": 3, "ensemble": None},
    "diffusion": {"hidden_dim": 32, "n_layers": 2, "horizon": 6, "execute": 3, "num_levels": 20},
    "flow": {"hidden_dim": 32, "n_layers": 2, "horizon": 6, "execute": 3},
}
CHUNKED = [n for n in SIZES if "execute" in SIZES[n]]
every_policy = pytest.mark.parametrize("name", SIZES)
every_chunk_policy = pytest.mark.parametrize("name", CHUNKED)
A = 2


def class_of(name):
    component = HOST.component("model", name)
    assert component.id == f"bc/{name}"
    return import_target(component)


def stats(*std, reach=1.0):
    n = len(std)
    return Statistics(mean=(0.0,) * n, std=std, low=(-reach,) * n, high=(reach,) * n)


def window(name):
    """Timesteps of actions and of observations in a batch of this policy; 1 is no dimension."""
    horizon = SIZES[name].get("horizon", 1)
    return horizon, horizon if name == "bc-rnn" else 1


def spec(name, **changes):
    seq_len, obs_len = window(name)
    given = {
        "observations": {"joint": (3,), "tool": (2,)},
        "action_dim": A,
        "seq_len": seq_len,
        "obs_len": obs_len,
        "statistics": {"joint": stats(1, 2, 3), "tool": stats(0.5, 0.5), "actions": stats(1, 1)},
    }
    return DataSpec(**{**given, **changes})


def build(name, data=None, **options):
    torch.manual_seed(0)
    return class_of(name).from_data(data or spec(name), **{**SIZES[name], **options})


def batch(name, size=8, cameras=(), pixels=16):
    generator = torch.Generator().manual_seed(1)
    seq_len, obs_len = window(name)
    lead = (size,) if obs_len == 1 else (size, obs_len)
    shapes = {"joint": (3,), "tool": (2,), **dict.fromkeys(cameras, (3, pixels, pixels))}
    times = () if seq_len == 1 else (seq_len,)
    return {
        "observations": {k: torch.rand(*lead, *s, generator=generator) for k, s in shapes.items()},
        "actions": torch.rand(size, *times, A, generator=generator) * 2 - 1,
    }


def observations(size, seed=2):
    generator = np.random.default_rng(seed)
    return {"tool": generator.normal(size=(size, 2)), "joint": generator.normal(size=(size, 3))}


@every_policy
def test_the_loss_is_finite_and_every_parameter_gets_a_gradient(name):
    policy = build(name)
    out = policy(batch(name))
    assert out["loss"].shape == () and out["loss"].isfinite()
    out["loss"].backward()
    assert not [n for n, p in policy.named_parameters() if p.grad is None]


@pytest.mark.parametrize("padded", [False, True])
@every_policy
def test_the_losses_of_samples_make_up_the_loss(name, padded):
    policy, given = build(name).eval(), batch(name)
    if name == "bc" and padded:  # of windows
        parts = {k: v[:, None].repeat(1, 6, 1) for k, v in given["observations"].items()}
        given = {"observations": parts, "actions": batch("bc-rnn")["actions"]}
    counts = torch.ones(8)
    if padded:
        given["is_pad"] = torch.arange(6) > torch.arange(8)[:, None]
        counts = (~given["is_pad"]).sum(dim=1).float()
    out = policy(given)
    assert out["sample_loss"].shape == (8,) and not out["sample_loss"].requires_grad
    if name != "act" or not padded:  # its other term counts samples, not timesteps
        expected = (out["sample_loss"] * counts).sum() / counts.sum()
        torch.testing.assert_close(expected, out["loss"].detach())
    if name.startswith("bc"):  # the others draw noise
        alone = {k: v[5:6] for k, v in given.items() if k != "observations"}
        alone["observations"] = {k: v[5:6] for k, v in given["observations"].items()}
        torch.testing.assert_close(policy(alone)["loss"].detach(), out["sample_loss"][5])


@pytest.mark.slow
@every_policy
def test_it_overfits_one_batch(name):
    policy, data = build(name, hidden_dim=64), batch(name, size=4)
    often = {  # many draws of noise for each sample
        "observations": {
            k: v.repeat(16, *[1] * (v.ndim - 1)) for k, v in data["observations"].items()
        },
        "actions": data["actions"].repeat(16, *[1] * (data["actions"].ndim - 1)),
    }
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr={"act": 1e-3, "bc-gmm": 5e-3}.get(name, 3e-3), weight_decay=0.0
    )
    steps = 150 if name in {"bc", "bc-chunk"} else 300
    scale = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        policy(often)["loss"].backward()
        optimizer.step()
        scale.step()
    policy.eval()
    if name == "bc-rnn":
        found = np.stack([policy.predict(step(data["observations"], t)) for t in range(6)], axis=1)
    elif name == "bc":
        found = policy.predict(data["observations"]).numpy()
    else:
        draws = [policy.predict_chunk(data["observations"], [seed] * 4) for seed in range(8)]
        found = np.stack([draw.numpy() for draw in draws])  # one, if it does not sample
    assert np.abs(found - data["actions"].numpy()).mean() < 0.1


def step(obs, t):
    return {k: v[:, t].numpy() for k, v in obs.items()}


@every_policy
def test_predict_answers_in_kind_and_repeats_itself(name):
    policy = build(name).train()
    obs = observations(5)
    kept = copy.deepcopy(obs)
    reset(policy)
    actions = policy.predict(obs)
    assert isinstance(actions, np.ndarray) and actions.shape == (5, A)
    assert policy.training
    for key, value in kept.items():
        np.testing.assert_array_equal(obs[key], value)
    policy.eval()
    reset(policy)
    np.testing.assert_array_equal(policy.predict(obs), actions)
    reset(policy)
    tensors = policy.predict({k: torch.as_tensor(v) for k, v in obs.items()})
    assert isinstance(tensors, torch.Tensor) and not tensors.requires_grad
    np.testing.assert_array_equal(tensors.numpy(), actions)
    reset(policy)
    joined = np.concatenate([obs["joint"], obs["tool"]], axis=-1)
    np.testing.assert_allclose(policy.predict(joined), actions, atol=1e-6)
    reset(policy)
    one = policy.predict({k: v[0] for k, v in obs.items()})
    assert one.shape == (A,)
    np.testing.assert_allclose(one, actions[0], atol=1e-5)


def reset(policy, mask=None, first=0):
    """Begin episodes; that of sub-environment n has the seed `first` + n."""
    if takes_seeds(policy):
        policy.reset(mask, first + np.arange(5 if mask is None else len(mask)))
    elif hasattr(policy, "reset"):
        policy.reset(mask)


def takes_seeds(policy):
    return "seeds" in inspect.signature(getattr(policy, "reset", lambda: None)).parameters


@every_policy
def test_sub_environments_are_independent(name):
    policy = build(name).eval()
    steps = [observations(5, seed=t) for t in range(8)]
    together = []
    reset(policy)
    for t, obs in enumerate(steps):
        if t == 4:  # an episode begins in sub-environment 2
            reset(policy, np.array([False, False, True, False, False]), first=10)
        together.append(policy.predict(obs))
    for env in range(5):
        reset(policy, first=env)
        for t, obs in enumerate(steps):
            if t == 4 and env == 2:
                reset(policy, first=12)
            alone = policy.predict({k: v[env] for k, v in obs.items()})
            np.testing.assert_allclose(alone, together[t][env], atol=1e-5)


@every_policy
def test_hparams_and_weights_build_the_same_policy_again(name):
    wide = spec(name).statistics | {"actions": stats(2, 3, reach=7.0)}
    policy = build(name, spec(name, statistics=wide)).eval()
    assert policy.action_normalizer.fitted and policy.state_normalizer.fitted
    with io.BytesIO() as file:
        torch.save({"hparams": policy.hparams, "weights": policy.state_dict()}, file)
        file.seek(0)
        tree = torch.load(file, weights_only=True)
    again = type(policy)(**tree["hparams"])
    again.load_state_dict(tree["weights"], strict=True)
    obs = observations(3)
    reset(policy)
    wanted = policy.predict(obs)
    for twin in (again.eval(), copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        reset(twin)
        np.testing.assert_array_equal(twin.predict(obs), wanted)


@every_policy
def test_padded_actions_change_nothing(name):
    policy, data = build(name), batch(name)
    seq_len, _ = window(name)
    is_pad = torch.zeros(8, seq_len, dtype=torch.bool)
    losses = []
    if seq_len == 1:
        is_pad[5:] = True
    else:
        is_pad[2:, seq_len // 2 :] = True
    for filling in (0.0, 9.0):
        actions = data["actions"].clone()
        actions[is_pad.view(actions.shape[:-1])] = filling
        torch.manual_seed(3)
        policy.zero_grad()
        loss = policy({**data, "actions": actions, "is_pad": is_pad})["loss"]
        loss.backward()
        losses.append([loss.detach(), *(p.grad.clone() for p in policy.parameters())])
    for first, second in zip(*losses, strict=True):
        torch.testing.assert_close(first, second)


@every_policy
def test_near_constant_dimensions_are_named_and_not_scaled(name):
    flat = spec(name).statistics | {"tool": stats(0.5, 1e-4)}
    with pytest.warns(UserWarning, match=r"near-constant dimensions.*: tool\[1\]"):
        policy = build(name, spec(name, statistics=flat))
    assert policy.state_normalizer.scale.tolist() == [1, 2, 3, 0.5, 1]


@every_policy
@pytest.mark.parametrize("small", [False, True])
def test_only_heads_that_start_from_noise_stretch_small_actions(name, small):
    reach = 0.02 if small else 0.9
    data = spec(
        name, statistics=spec(name).statistics | {"actions": stats(0.01, 0.01, reach=reach)}
    )
    fitted = bool(build(name, data).action_normalizer.fitted)
    assert fitted == (small and name in {"diffusion", "flow"})


@every_policy
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_dim": 7}, "expected 2 action dimensions, got 7"),
        ({"observations": {"joint": (3,)}}, "'tool' is missing"),
        ({"observations": {"joint": (4,), "tool": (2,)}}, r"state_dim=5.*got 6 \(joint 4 \+ tool 2\)"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_named(name, changes, message):
    with pytest.raises(DataError, match=message):
        build(name).adapt_to(spec(name, **changes))


@every_policy
def test_observations_that_do_not_fit_are_named(name):
    policy = build(name)
    with pytest.raises(DataError, match="'tool' is missing"):
        policy.predict({"joint": np.zeros(3)})
    with pytest.raises(DataError, match="expected 5 dimensions of state, got 6"):
        policy.predict({"joint": np.zeros(4), "tool": np.zeros(2)})
    with pytest.raises(DataError, match="'joint' is missing"):
        policy.predict({"other": np.zeros(4)})


@every_chunk_policy
def test_windows_of_another_length_are_refused_with_the_remedy(name):
    with pytest.raises(
        DataError, match=r"horizon=6.*got seq_len=4.*seq_len=6, obs_len=1, pad=True"
    ):
        build(name).adapt_to(spec(name, seq_len=4, obs_len=1))


def test_a_policy_with_memory_wants_an_observation_per_action():
    with pytest.raises(DataError, match="seq_len=6 actions of a window, got obs_len=1"):
        build("bc-rnn").adapt_to(spec("bc-rnn", obs_len=1))


@every_policy
def test_two_cameras_are_seen(name):
    cameras = ("front", "wrist")
    shapes = {"joint": (3,), "tool": (2,), "front": (3, 16, 16), "wrist": (3, 16, 16)}
    policy = build(name, spec(name, observations=shapes), use_image=True, augment_shift=2)
    assert policy.hparams["image_keys"] == ["front", "wrist"]
    policy(batch(name, cameras=cameras))["loss"].backward()
    assert not [n for n, p in policy.named_parameters() if p.grad is None]
    policy.eval()
    raw = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    obs = {**observations(3), "front": raw[0], "wrist": raw[1]}
    reset(policy)
    actions = policy.predict(obs)
    for key in cameras:
        reset(policy)
        dark = policy.predict({**obs, key: np.zeros_like(raw[0])})
        assert np.abs(dark - actions).max() > 1e-6
    reset(policy)
    one = policy.predict({k: v[0] for k, v in obs.items()})
    np.testing.assert_allclose(one, actions[0], atol=1e-5)
    with pytest.raises(DataError, match=r"'wrist'.*\(16, 16\) pixels, got \(8, 8\)"):
        policy.predict({**obs, "wrist": raw[1][:, :8, :8]})
    only = build(name, spec(name, observations=shapes), use_image=True, image_keys=("wrist",))
    assert only.hparams["image_keys"] == ["wrist"] and len(only.inputs.encoders) == 1
    with pytest.raises(DataError, match=r"'front'.*\(16, 16\) pixels, got \(8, 8\)"):
        policy.adapt_to(spec(name, observations={**shapes, "front": (3, 8, 8)}))


@every_policy
def test_images_alone_are_enough(name):
    policy = build(name, spec(name, observations={"front": (3, 16, 16)}), use_image=True)
    data = batch(name, cameras=("front",))
    data["observations"] = {"front": data["observations"]["front"]}
    policy(data)["loss"].backward()
    one = np.zeros((16, 16, 3), dtype=np.uint8)
    assert policy.predict({"front": one}).shape == (A,)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch, at a graph break
@every_policy
def test_bf16_and_compile_leave_it_whole(name):
    policy, data = build(name), batch(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = policy(data)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in policy.parameters())
    torch._dynamo.reset()
    whole = name != "bc-rnn"  # torch does not trace its recurrent layers
    compiled = torch.compile(policy, backend="eager", fullgraph=whole)
    torch.manual_seed(0)
    wanted = policy(data)["loss"]
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(data)["loss"], wanted)


@every_policy
def test_it_trains_and_acts_from_its_checkpoint(name, tmp_path):
    wanted = class_of(name).data_options(**SIZES[name])
    known = {k: v for k, v in wanted.items() if k != "include_image"}
    data = DummyTrajectoryDataset(64, obs_dim=5, action_dim=A, **known)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    policy = class_of(name)(state_dim=5, action_dim=A, **SIZES[name])
    config = TrainConfig(
        model_name=name, max_steps=4, warmup_steps=1, checkpoint_dir=str(tmp_path), loggers=()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Trainer(policy, loader, config).train()["global_step"] == 4
    again = load_policy(tmp_path / "final.pt")
    state = np.random.default_rng(0).normal(size=(3, 5))
    policy.eval()
    np.testing.assert_array_equal(again.predict({"state": state}), policy.predict({"state": state}))
    assert again.state_normalizer.fitted


@every_policy
def test_data_options_say_what_is_needed(name):
    cls = class_of(name)
    wanted = cls.data_options(**SIZES[name], state_dim=20)
    if name == "bc":
        assert wanted == {}
    elif name == "bc-rnn":
        assert wanted == {"seq_len": 6, "obs_len": None, "pad": True}
    else:
        assert wanted == {"seq_len": 6, "obs_len": 1, "pad": True}
    assert cls.data_options(use_image=True)["include_image"] is True


@pytest.mark.parametrize("name", [n for n in SIZES if n != "bc"])  # bc has an ordinary signature
def test_a_wrong_option_is_named(name):
    with pytest.raises(ConfigError, match=r"hiden_dim.*Did you mean 'hidden_dim'"):
        class_of(name)(hiden_dim=3)


@every_policy
def test_every_option_is_kept_in_the_hparams(name):
    component = HOST.component("model", name)
    names = {f.name for f in attrs.fields(import_target(component, component.spec.options))}
    assert names <= set(build(name).hparams)


@every_chunk_policy
def test_chunks_are_executed_and_planned_again(name):
    policy = build(name).eval()
    steps = [observations(2, seed=t) for t in range(7)]
    if policy.head.noise_shape is not None:
        policy.set_execution(noise="held")
    plans = [policy.predict_chunk(obs, seeds=[3, 4]) for obs in steps]
    policy.reset(None, [3, 4])
    taken = [policy.predict(obs) for obs in steps]
    for t, actions in enumerate(taken):
        np.testing.assert_allclose(actions, plans[t - t % 3][:, t % 3], atol=1e-6)
    if name != "bc-gmm":  # of which ensembling may take another mode, see below
        held = {"noise": "held"} if "noise" in policy.hparams else {}
        policy.set_execution(execute=1, ensemble=0.5, **held)
        policy.reset(None, [3, 4])
        taken = [policy.predict(obs) for obs in steps]
        weights = np.exp(-0.5 * np.arange(3))
        wanted = sum(w * plans[i][:, 2 - i] for i, w in enumerate(weights)) / weights.sum()
        np.testing.assert_allclose(taken[2], wanted, atol=1e-6)
    with pytest.raises(ConfigError, match="'execute': expected at most horizon=6, got 7"):
        policy.set_execution(execute=7)


def test_memory_carries_on_exactly_and_starts_anew_after_its_horizon():
    policy, data = build("bc-rnn").eval(), batch("bc-rnn")
    obs = data["observations"]
    with torch.no_grad():
        hidden, _ = policy.memory(policy.enter(policy.inputs(obs)))
        wanted = policy.head.sample(hidden.flatten(0, 1)).view(8, 6, A).numpy()
    for _ in range(2):  # after `horizon` steps the memory is empty again
        for t in range(6):
            np.testing.assert_allclose(policy.predict(step(obs, t)), wanted[:, t], atol=1e-5)


def test_weights_of_former_names_load():
    policy = build("bc").eval()
    former = {k.replace("inputs.", ""): v for k, v in policy.state_dict().items()}
    assert "state_normalizer.mean" in former
    again = class_of("bc")(**policy.hparams)
    again.load_state_dict(former, strict=True)
    obs = observations(2)
    np.testing.assert_array_equal(again.eval().predict(obs), policy.predict(obs))
