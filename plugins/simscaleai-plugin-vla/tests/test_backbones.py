"""Pretrained encoders, offline, with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from simscaleai_plugin_vla.policy import VLAPolicy
from simscaleai_plugin_vla.tokenizer import TextTokenizer

from simscaleai_core.errors import ConfigError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SIDE = 16
TEXTS = ["reach the red ball", "go to the blue one now"]


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    config = transformers.SiglipVisionConfig(
        **SMALL,
        image_size=32,
        patch_size=8,
    )
    torch.manual_seed(0)
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 2]}'
    )
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    own = TextTokenizer.trained(TEXTS)
    config = transformers.LlamaConfig(
        vocab_size=own.vocab_size,
        **SMALL,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=own._tokenizer, pad_token="[PAD]"
    ).save_pretrained(folder)
    return f"hf:{folder}"


def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "observations": {
            "state": torch.randn(4, 5, generator=generator),
            "image": torch.rand(4, 3, SIDE, SIDE, generator=generator),
        },
        "actions": torch.rand(4, 8, 3, generator=generator),
        "language": TEXTS * 2,
    }


def build(**options):
    torch.manual_seed(0)
    return VLAPolicy(5, 3, image_size=SIDE, size="debug", **options)


def test_the_weights_are_the_pretrained_ones(vision, text):
    policy = build(vision_backbone=vision, text_backbone=text)
    saved = transformers.SiglipVisionModel.from_pretrained(vision.removeprefix("hf:")).state_dict()
    own = policy.network.vision.body.state_dict()
    name = next(k for k in own if k.endswith("patch_embedding.weight"))
    assert torch.equal(own[name], next(v for k, v in saved.items() if k.endswith(name)))
    assert policy.network.vision.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert policy.tokenizer.encode(TEXTS[0]) == TextTokenizer.trained(TEXTS).encode(TEXTS[0])


def test_it_trains_and_no_gradient_is_missing(vision, text):
    policy = build(vision_backbone=vision, text_backbone=text)
    policy(batch())["loss"].backward()
    wanting = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert not [n for n in wanting if policy.get_parameter(n).grad is None]
    assert any("patch_embedding" in n for n in wanting)


def test_a_checkpoint_needs_neither_folder_nor_network(vision, text, tmp_path, monkeypatch):
    policy = build(vision_backbone=vision, text_backbone=text).eval()
    file = tmp_path / "p.pt"
    torch.save({"hparams": policy.hparams, "weights": policy.state_dict()}, file)
    for name in ("AutoModel", "AutoConfig", "AutoTokenizer"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", None)
    tree = torch.load(file, weights_only=True)
    again = VLAPolicy(**tree["hparams"])
    again.load_state_dict(tree["weights"])
    seen = {"state": np.zeros(5), "image": np.zeros((SIDE, SIDE, 3), dtype=np.uint8)}
    np.testing.assert_array_equal(
        policy.predict(seen, TEXTS[0]), again.eval().predict(seen, TEXTS[0])
    )


def test_frozen_or_adapted(vision, text):
    policy = build(
        vision_backbone=vision, text_backbone=text, freeze="vision", lora_rank=2, lora_parts="text"
    )
    policy(batch())["loss"].backward()
    assert not any(p.requires_grad for p in policy.network.vision.body.parameters())
    assert policy.network.vision.token[0].weight.grad is not None
    trained = [n for n, p in policy.network.text.body.named_parameters() if p.requires_grad]
    assert trained and all(n.endswith((".down", ".up")) for n in trained)
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)


@pytest.mark.slow  # transformers takes its time to give up
def test_what_cannot_be_loaded_is_named():
    with pytest.raises(ConfigError, match=r"cannot load 'no/such-model'.*give its folder"):
        build(vision_backbone="hf:no/such-model")
