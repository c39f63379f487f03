"""Low-rank weights: nothing changes at first, only they are trained, and they can be merged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions import lora
from simscaleai_plugin_extensions.options import LoraOptions
from torch import nn

from simscaleai_core import ModelRegistry, load_policy
from simscaleai_core.cli.app import run
from simscaleai_core.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="peft is an extra")

OPTIONS: dict[str, Any] = {"lora": {"rank": 2, "dropout": 0.2}}
BATCH = {"state": torch.linspace(-1, 1, 18).reshape(3, 6)}


def bc() -> nn.Module:
    """A policy that its checkpoint alone can build."""
    torch.manual_seed(0)
    return ModelRegistry.create("bc", state_dim=6, action_dim=2, hidden_dim=8)


def train(folder: Path, **given: Any) -> FinishedRun:
    """Train a small policy with low-rank weights."""
    wanted = {"adapters": ("lora",), "options": OPTIONS, "policy": bc, "save_every": 5}
    return train_small(folder, **(wanted | given))


def actions(policy: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(policy.predict(BATCH))


def disturbed(policy: nn.Module) -> nn.Module:
    """Give the low-rank weights some values, as training does."""
    torch.manual_seed(1)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return policy


class Blocks(nn.Module):
    """A transformer, layers of the same name at two depths, and one layer that has two names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 8)
        self.deep = nn.ModuleDict({"head": nn.Linear(8, 8)})
        self.again = self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features `[B, T, 8]`."""
        found: torch.Tensor = self.again(self.deep["head"](self.encoder(x)))
        return found


def test_nothing_changes_until_the_weights_are_trained() -> None:
    plain, adapted = bc().eval(), lora.apply(bc()).eval()
    assert torch.equal(actions(adapted), actions(plain))
    assert not torch.equal(actions(disturbed(adapted)), actions(plain))


def test_only_low_rank_weights_are_trained(tmp_path: Path) -> None:
    policy = bc()
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    tree = train(tmp_path, policy=policy, weight_decay=0.5).tree()
    after = {n.replace(".base_layer", ""): p for n, p in policy.named_parameters()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert tree["param_names"]
    assert all(".lora_A." in name or ".lora_B." in name for name in tree["param_names"])
    assert all(after[name].any() for name in tree["param_names"])
    (about,) = tree["policy"]["adapters"]
    assert about["component"] == "extensions/lora"
    assert about["options"]["rank"] == 2


def test_parameters_named_besides_are_trained_too(tmp_path: Path) -> None:
    options = {"lora": {"targets": ["*"], "train": ["*.bias"]}}
    trained = train(tmp_path, options=options).tree()["param_names"]
    assert any(name.endswith("base_layer.bias") for name in trained)
    assert not any(name.endswith("base_layer.weight") for name in trained)


@pytest.mark.slow
def test_resume_is_exact(tmp_path: Path) -> None:
    whole = train(tmp_path / "a", save_every=1)
    for step in (1, 7):
        found = train(tmp_path / str(step), resume_from=str(whole.step(step)))
        assert not tree_differences(found.tree(), whole.tree())
    other = {"lora": {**OPTIONS["lora"], "alpha": 4}}
    with pytest.raises(CheckpointError, match=r"lora\.alpha was 16, is 4"):
        train(tmp_path / "b", resume_from=str(whole.step(5)), options=other)
    with pytest.raises(CheckpointError, match="does not fit the policy"):
        train(tmp_path / "c", resume_from=str(whole.step(5)), adapters=(), options={})


def test_a_checkpoint_alone_builds_the_adapted_policy(tmp_path: Path) -> None:
    policy = bc()
    train(tmp_path, policy=policy)
    loaded = load_policy(tmp_path / "final.pt")
    assert not tree_differences(dict(loaded.state_dict()), dict(policy.state_dict()))
    assert torch.equal(actions(loaded), actions(policy.eval()))


def test_averaged_weights_are_evaluated_and_merged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {**OPTIONS, "ema": {"decay": 0.5}}
    train(tmp_path, extensions=("ema",), options=options)
    averaged, trained = (
        actions(load_policy(tmp_path / "final.pt", weights=w)) for w in ("evaluated", "trained")
    )
    assert not torch.allclose(averaged, trained)
    for weights, expected in (("evaluated", averaged), ("trained", trained)):
        merged = tmp_path / f"{weights}.pt"
        assert (
            run(["checkpoint", "merge", f"{tmp_path}/final.pt", str(merged), "--weights", weights])
            == 0
        )
        torch.testing.assert_close(actions(load_policy(merged)), expected)


def test_merged_weights_are_plain_and_begin_another_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path)
    source, merged = str(tmp_path / "final.pt"), str(tmp_path / "merged.pt")
    assert run(["checkpoint", "merge", source, merged]) == 0
    plain = load_policy(merged)
    assert plain.state_dict().keys() == bc().state_dict().keys()
    torch.testing.assert_close(actions(plain), actions(load_policy(source)))
    again = {"adapters": (), "options": {}, "max_steps": 1, "lr": 1e-12, "policy": bc}
    begun = train_small(tmp_path / "again", init_from=merged, **again)
    torch.testing.assert_close(actions(load_policy(begun.checkpoint)), actions(plain))
    with pytest.raises(CheckpointError, match=r"Merge them first: simscale checkpoint merge"):
        train_small(tmp_path / "refused", init_from=source, **again)
    assert run(["checkpoint", "merge", merged, str(tmp_path / "twice.pt")]) == 2
    assert run(["checkpoint", "merge", source, merged]) == 2
    assert "has no adapters" in (shown := capfd.readouterr().err) and "exists" in shown


@pytest.mark.parametrize("names", [("*",), ("head",), ("encoder.*",), ("deep.head", "encoder.*")])
def test_every_way_to_a_layer_is_adapted_in_training_and_acting(names: tuple[str, ...]) -> None:
    """torch's fused transformer kernel, and a second name, would pass the added weights by."""
    policy = disturbed(lora.apply(Blocks(), LoraOptions(targets=names)))
    x = torch.randn(2, 5, 8)
    training = policy(x).detach()
    assert not torch.allclose(training, Blocks()(x))
    policy.eval()
    with torch.no_grad():
        torch.testing.assert_close(policy(x), training)
        merged = lora.merge(policy)
        torch.testing.assert_close(merged(x), training, rtol=1e-4, atol=1e-5)
    assert merged.state_dict().keys() == Blocks().state_dict().keys()


def test_patterns_name_whole_layers() -> None:
    policy = lora.apply(Blocks(), LoraOptions(targets=("head",)))
    adapted = {n.partition(".lora_A")[0] for n, _ in policy.named_parameters() if "lora_A" in n}
    assert adapted == {"head"}


@pytest.mark.parametrize(("option", "what"), [("targets", "linear layer"), ("train", "parameter")])
def test_a_pattern_that_matches_nothing_is_named(option: str, what: str) -> None:
    given: Mapping[str, Any] = {option: ("haed.*",)}
    with pytest.raises(ConfigError, match=rf"no {what} 'haed\.\*'.*--lora\.{option}"):
        lora.apply(bc(), LoraOptions(**given))


@pytest.mark.slow
def test_without_peft_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['peft'] = None\n"
        "from simscaleai_core.cli.app import run\n"
        "sys.exit(run(['train', '--model', 'bc', '--adapter', 'lora', '--max-steps', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'simscaleai-plugin-extensions[lora]'" in done.stderr
    assert "Traceback" not in done.stderr
