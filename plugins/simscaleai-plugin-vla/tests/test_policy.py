"""The policy's contract, on real tensors."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from simscaleai_plugin_vla.options import HEADS, VLAOptions
from simscaleai_plugin_vla.policy import VLAPolicy
from torch import nn

from simscaleai_core import ModelRegistry
from simscaleai_core.contracts import DataSpec, Statistics
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.host.components import component_of
from simscaleai_core.host.facade import Host

SIDE, HORIZON, SIZE = 16, 3, 6
TEXTS = ("reach the red ball", "reach the blue ball")
SMALL = {"size": "debug", "patch_size": 4, "action_horizon": HORIZON}


def stats(*std: float, mean: float = 0.0, reach: float = 1.0) -> Statistics:
    n = len(std)
    return Statistics(mean=(mean,) * n, std=std, low=(-reach,) * n, high=(reach,) * n)


def spec(**changes) -> DataSpec:
    given = {
        "observations": {
            "joint": (3,),
            "cam": (3, SIDE, SIDE),
            "tool": (2,),
            "wrist": (3, SIDE, SIDE),
        },
        "action_dim": 4,
        "seq_len": HORIZON,
        "obs_len": 1,
        "pad": True,
        "language": True,
        "instructions": TEXTS,
        "statistics": {
            "joint": stats(1.0, 2.0, 3.0, mean=5.0),
            "tool": stats(0.5, 0.5),
            "actions": stats(1, 1, 1, 1),
        },
    }
    return DataSpec(**{**given, **changes})


def batch(size: int = SIZE, **changes):
    generator = torch.Generator().manual_seed(0)
    return {
        "observations": {
            "tool": torch.randn(size, 2, generator=generator),
            "joint": torch.randn(size, 3, generator=generator),
            "cam": torch.rand(size, 3, SIDE, SIDE, generator=generator),
            "wrist": torch.rand(size, 3, SIDE, SIDE, generator=generator),
        },
        "actions": torch.rand(size, HORIZON, 4, generator=generator) * 2 - 1,
        "is_pad": torch.arange(HORIZON).expand(size, -1) >= HORIZON - 1,
        "language": [TEXTS[i % 2] for i in range(size)],
        **changes,
    }


def build(**options) -> VLAPolicy:
    torch.manual_seed(0)
    return VLAPolicy.from_data(spec(), **{**SMALL, **options})


def plain(**options) -> VLAPolicy:
    """A policy whose loss depends on nothing random."""
    return build(word_dropout=0.0, word_insertion=0.0, **options)


def test_the_registry_builds_one_without_data():
    policy = ModelRegistry.create("vla", state_dim=20, action_dim=4)
    seen = {"state": np.zeros(20), "image": np.zeros((128, 128, 3), dtype=np.uint8)}
    assert policy.predict(seen, language="go").shape == (4,)
    assert component_of(Host(), policy) == "vla/vla"


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_reaches_every_parameter(head):
    policy = build(action_head_type=head)
    out = policy(batch())
    assert out["loss"].shape == () and out["loss"].isfinite()
    assert out["sample_loss"].shape == (SIZE,)
    out["loss"].backward()
    assert not [n for n, p in policy.named_parameters() if p.grad is None]
    assert policy.predict_chunk(batch()["observations"], TEXTS[0]).shape == (SIZE, HORIZON, 4)


def test_padded_actions_change_nothing():
    policy = plain().eval()
    data = batch()
    other = {**data, "actions": torch.where(data["is_pad"][..., None], 9.0, data["actions"])}
    assert torch.equal(policy(data)["loss"], policy(other)["loss"])
    assert not torch.equal(policy({**other, "is_pad": None})["loss"], policy(data)["loss"])


def test_longer_instructions_beside_one_change_nothing():
    policy = plain().eval()
    seen = batch(2)["observations"]
    alone = policy.predict_chunk(seen, [TEXTS[0], TEXTS[0]])
    beside = policy.predict_chunk(seen, [TEXTS[0], TEXTS[1] + " which is far away on the left"])
    torch.testing.assert_close(alone[0], beside[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(alone[1], beside[1], atol=1e-4)


def test_the_language_is_heard_and_case_is_not():
    policy = plain()
    seen = batch()["observations"]
    first = policy.predict_chunk(seen, TEXTS[0])
    assert torch.equal(first, policy.predict_chunk(seen, TEXTS[0].upper()))
    assert not torch.allclose(first, policy.predict_chunk(seen, TEXTS[1]))


def test_predict_takes_numpy_or_torch_one_or_many_as_the_env_gives_them():
    policy = plain()
    seen = batch()["observations"]
    raw = {
        k: v.double().numpy()
        if v.ndim == 2
        else (v.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
        for k, v in seen.items()
    }
    seen = {
        k: v if v.ndim == 2 else torch.as_tensor(raw[k]).movedim(-1, 1).float() / 255
        for k, v in seen.items()
    }
    instructions = batch()["language"]
    actions = policy.predict(raw, language=instructions)
    assert isinstance(actions, np.ndarray) and actions.shape == (SIZE, 4)
    policy.reset()
    np.testing.assert_allclose(
        policy.predict(seen, language=instructions).numpy(), actions, rtol=1e-5, atol=1e-6
    )
    policy.reset()
    one = policy.predict({k: v[3] for k, v in raw.items()}, language=instructions[3])
    assert one.shape == (4,)
    np.testing.assert_allclose(one, actions[3], rtol=1e-4, atol=1e-5)


def test_a_new_chunk_follows_a_chunk_a_reset_or_another_instruction():
    policy = plain(execute=2)
    looks = []
    inner = policy._features
    policy._features = lambda obs, texts: (looks.append(list(texts)), inner(obs, texts))[1]
    seen = batch(2)["observations"]
    for instructions in (
        [TEXTS[0]] * 2,
        [TEXTS[0]] * 2,
        [TEXTS[0]] * 2,
        [TEXTS[0], TEXTS[1]],
        [TEXTS[0], TEXTS[1]],
    ):
        policy.predict(seen, language=instructions)
    assert looks == [[TEXTS[0]] * 2, [TEXTS[0]] * 2, [TEXTS[1]], [TEXTS[0]]]
    policy.reset(np.array([False, True]))
    policy.predict(seen, language=[TEXTS[0], TEXTS[1]])
    assert looks[-1] == [TEXTS[1]]


@pytest.mark.parametrize("head", ["diffusion", "flow"])
def test_what_is_sampled_depends_on_the_episode_alone(head):
    policy = plain(action_head_type=head, execute=2)
    seen = batch()["observations"]
    policy.reset(None, range(SIZE))
    many = [policy.predict(seen, language=TEXTS[0]) for _ in range(5)]
    for env in (0, 4):
        policy.reset(np.array([False, True]), [0, env])
        two = {k: v[[0, env]] for k, v in seen.items()}
        for step in range(5):
            found = policy.predict(two, language=[TEXTS[1], TEXTS[0]])[1]
            torch.testing.assert_close(found, many[step][env], rtol=1e-4, atol=1e-5)
    policy.reset(None, [7] * SIZE)
    assert (policy.predict(seen, language=TEXTS[0]) - many[0]).abs().max() > 1e-2


def test_another_instruction_begins_another_chunk_of_the_same_episode():
    policy = plain(action_head_type="flow", execute=2, noise="fresh")
    seen = batch()["observations"]

    def actions(texts):
        policy.reset(None, range(SIZE))
        return [policy.predict(seen, language=text) for text in texts]

    changed = actions([TEXTS[0], TEXTS[1]])
    assert torch.equal(changed[0], actions([TEXTS[0]])[0])
    assert torch.equal(changed[1], actions([TEXTS[0], TEXTS[1]])[1])
    assert not torch.equal(changed[1], actions([TEXTS[1]])[0])  # its second chunk, not its first


def test_no_instruction_is_warned_of_once(caplog):
    policy = plain()
    with caplog.at_level(logging.WARNING, "simscaleai"):
        policy.predict(batch()["observations"])
        policy.predict(batch()["observations"])
    assert len(caplog.records) == 1
    with pytest.raises(DataError, match=r"one instruction or 6.*got 2"):
        policy.predict(batch()["observations"], language=["a", "b"])


def test_hparams_build_the_same_policy_again():
    policy = build(augment_shift=1)
    policy(batch())  # the images' statistics have moved
    again = VLAPolicy(**policy.hparams)
    again.load_state_dict(policy.state_dict())
    seen = batch()["observations"]
    assert torch.equal(policy.predict_chunk(seen, "go"), again.predict_chunk(seen, "go"))
    torch.save(policy.hparams, "/dev/null")
    assert again.hparams == policy.hparams


def test_a_copy_is_independent():
    policy = plain()
    seen = batch()["observations"]
    before = policy.predict(seen, language=TEXTS[0])
    twin = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    policy.reset()
    assert torch.equal(policy.predict(seen, language=TEXTS[0]), before)


def test_without_language_nothing_is_read():
    policy = VLAPolicy.from_data(spec(language=False), **SMALL, use_language=False)
    data = batch()
    del data["language"]
    policy(data)["loss"].backward()
    assert policy.network.text is None
    assert all(p.grad is not None for p in policy.parameters())


def test_windows_without_obs_len_use_their_first_timestep():
    policy, data = plain().eval(), batch()
    windows = {k: torch.stack([v, v + 1], dim=1) for k, v in data["observations"].items()}
    torch.testing.assert_close(
        policy({**data, "observations": windows})["loss"], policy(data)["loss"]
    )


def test_bfloat16_is_finite_and_close():
    policy = plain()
    exact = policy(batch())["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = policy(batch())["loss"]
    loss.backward()
    assert all(p.grad.isfinite().all() for p in policy.parameters())
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)


def test_checkpointing_activations_changes_no_gradient():
    grads = []
    for chosen in (False, True):
        policy = plain(activation_checkpointing=chosen)
        policy(batch())["loss"].backward()
        grads.append([p.grad for p in policy.parameters()])
    torch.testing.assert_close(*grads)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_loss_for_any_batch():
    torch.compiler.reset()
    exact, policy = plain().eval(), plain().eval()
    policy.network.compile(backend="eager", dynamic=True)
    for size in (4, 6):
        torch.testing.assert_close(policy(batch(size))["loss"], exact(batch(size))["loss"])
    assert list(policy.state_dict()) == list(exact.state_dict())
    torch.compiler.reset()


def test_image_statistics_settle_on_the_data():
    policy = plain().train()
    data = batch()
    for _ in range(60):
        with torch.no_grad():
            policy(data)
    images = torch.stack([data["observations"][k] for k in ("cam", "wrist")], dim=1)
    normal = policy.image_normalizer(images)
    torch.testing.assert_close(normal.mean(0), torch.zeros_like(normal[0]), atol=1e-4, rtol=0)
    assert int(policy.image_normalizer.count) == 50
    before = policy.image_normalizer.mean.clone()
    policy({**data, "observations": {k: v * 0 for k, v in data["observations"].items()}})
    assert torch.equal(policy.image_normalizer.mean, before)


def test_shapes_of_data_for_options():
    wanted = VLAPolicy.data_options(action_horizon=5, use_language=False, unrelated=1)
    assert wanted == {
        "seq_len": 5,
        "obs_len": 1,
        "pad": True,
        "include_image": True,
        "include_language": False,
    }
    assert VLAPolicy.data_options()["seq_len"] == VLAOptions().action_horizon


@pytest.mark.parametrize("part", ["vision", "text", "fusion"])
def test_frozen_parts_have_no_gradient(part):
    policy = build(freeze=part)
    policy(batch())["loss"].backward()
    frozen = {n for n, p in policy.named_parameters() if not p.requires_grad}
    assert frozen and all(n.startswith(f"network.{part}") for n in frozen)
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)


def test_adapters_start_as_nothing_and_are_all_that_is_trained_of_a_part():
    before = build()
    policy = build(lora_rank=2)
    weights = before.state_dict()
    renamed = {
        k: weights[k.replace(".base.", ".")]
        for k in policy.state_dict()
        if not k.endswith((".down", ".up"))
    }
    policy.load_state_dict(renamed, strict=False)
    seen = batch()["observations"]
    torch.testing.assert_close(policy.predict_chunk(seen, "go"), before.predict_chunk(seen, "go"))
    policy(batch())["loss"].backward()
    trained = {n for n, p in policy.named_parameters() if p.requires_grad}
    inside = {
        n
        for n in trained
        if n.startswith(("network.vision", "network.text", "network.fusion.layers"))
    }
    assert inside and all(n.endswith((".down", ".up")) for n in inside)
    assert all(policy.get_parameter(n).grad is not None for n in trained)
    assert any(n.startswith("head.") for n in trained)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda: VLAPolicy.from_data(spec(language=False), **SMALL), DataError, "use_language=False"),
        (lambda: VLAPolicy.from_data(spec(observations={"joint": (3,)}), **SMALL), DataError, "Record with images"),
        (lambda: VLAPolicy.from_data(spec(seq_len=1), **SMALL), DataError, r"action_horizon=3 .*got seq_len=1\."),
        (lambda: build()({**batch(), "language": None}), DataError, "no instructions"),
        (lambda: build()(batch(actions=torch.zeros(SIZE, 4))), DataError, r"action_horizon=3 .*got seq_len=1\."),
        (lambda: build().predict({"joint": np.zeros(3)}, "go"), DataError, "missing"),
        (lambda: build(sise="S"), ConfigError, "'?size'?"),
        (lambda: build(size="XXL"), ConfigError, "XXL"),
        (lambda: build(execute=4), ConfigError, "at most action_horizon=3, got 4"),
        (lambda: build().set_execution(execute=4), ConfigError, "at most action_horizon=3, got 4"),
        (lambda: build(embed_dim=30), ConfigError, "multiple of 4 \\* num_heads=8, got 30"),
        (lambda: build(patch_size=5), ConfigError, "multiple of patch_size=5"),
        (lambda: build(freeze="vison"), ConfigError, "vision, text, fusion, got vison"),
        (lambda: build(tokenizer="/no/such.json"), ConfigError, "'tokenizer'"),
        (lambda: build(vision_backbone="google/siglip"), ConfigError, "'hf:' and a name"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(action, error, message):
    with pytest.raises(error, match=message):
        action()


def test_one_action_and_no_state_are_enough():
    data = spec(observations={"cam": (3, SIDE, SIDE)}, seq_len=1, statistics={})
    policy = VLAPolicy.from_data(data, size="debug", action_horizon=1)
    out = policy(batch(actions=torch.zeros(SIZE, 4), is_pad=None))
    out["loss"].backward()
    assert all(p.grad is not None for p in policy.parameters())
    assert policy.predict({"cam": np.zeros((SIDE, SIDE, 3), np.uint8)}, "go").shape == (4,)


def test_it_is_a_module_that_moves_as_one():
    policy = plain().to(torch.float64)
    assert isinstance(policy, nn.Module)
    assert {
        b.dtype
        for n, b in policy.named_buffers()
        if "normalizer" in n and "fitted" not in n and "count" not in n
    } == {torch.float64}


@pytest.mark.parametrize("head", ["mlp", "diffusion", "flow"])
def test_relative_actions_and_rotations_go_there_and_back(head):
    spaces = {
        "normalization": {"joint": "range", "actions": "quantiles"},
        "delta_actions": {"1:4": "joint"},
        "rotations": {"actions[1:4]": "axis_angle", "joint": "axis_angle"},
    }
    data = spec(numbers=lambda: iter([batch()]), num_samples=SIZE)
    torch.manual_seed(0)
    policy = VLAPolicy.from_data(data, **SMALL, action_head_type=head, **spaces)
    assert (policy.inputs.state_space.dim, policy.action_space.dim) == (8, 7)
    policy(batch())["loss"].backward()
    again = policy._absolute(policy._encoded_actions(batch()), batch()["observations"])
    torch.testing.assert_close(
        policy.action_space.to_data(again), batch()["actions"], atol=1e-4, rtol=0
    )
    twin = VLAPolicy(**policy.hparams)
    twin.load_state_dict(policy.state_dict())
    obs = batch()["observations"]
    for one in (policy, twin):
        one.eval().reset(None, range(SIZE))
    found = policy.predict(obs, language=TEXTS[0])
    assert torch.equal(found, twin.predict(obs, language=TEXTS[0]))
    chunk = policy.predict_chunk(obs, language=TEXTS[0], seeds=range(SIZE))
    assert chunk.shape == (SIZE, HORIZON, 4)
    torch.testing.assert_close(chunk[:, 0], found)


def test_a_horizon_in_seconds_asks_the_dataset_for_seconds():
    options = {**SMALL, "horizon_seconds": 0.5}
    options.pop("action_horizon")
    wanted = VLAPolicy.data_options(**options)
    assert wanted["seq_seconds"] == 0.5 and "seq_len" not in wanted
    assert VLAPolicy.from_data(spec(), **options).hparams["action_horizon"] == HORIZON
