"""Instructions: which tokenizer, when words are changed, and which sub-environment has which."""

from __future__ import annotations

import io
import json

import pytest
import torch
from simscaleai_plugin_vla.augmentation import WordVariation
from simscaleai_plugin_vla.instructions import InstructionTracker
from simscaleai_plugin_vla.policy import VLAPolicy
from simscaleai_plugin_vla.tokenizer import BYTES, TextTokenizer, tokenizer_for

from simscaleai_core.contracts import DataSpec
from simscaleai_core.errors import DataError

TEXTS = ("reach the red ball", "reach the blue ball")
NUM_BYTES = 258


def build(*, instructions=TEXTS, language=True, **options):
    torch.manual_seed(0)
    data = DataSpec(
        observations={"joint": (3,), "image": (3, 16, 16)},
        action_dim=2,
        language=language,
        instructions=instructions,
    )
    return VLAPolicy.from_data(data, size="debug", action_horizon=1, **options)


def batch(*texts):
    generator = torch.Generator().manual_seed(0)
    size = len(texts)
    return {
        "observations": {
            "joint": torch.randn(size, 3, generator=generator),
            "image": torch.rand(size, 3, 16, 16, generator=generator),
        },
        "actions": torch.rand(size, 2, generator=generator),
        "language": list(texts),
    }


@pytest.mark.parametrize(
    ("chosen", "length"),
    [({}, 5), ({"tokenizer": "auto"}, 5), ({"tokenizer": "bpe"}, 5), ({"tokenizer": "bytes"}, 20)],
)
def test_words_of_the_data_are_tokens_unless_bytes_are_asked_for(chosen, length):
    policy = build(**chosen)
    assert len(policy.tokenizer.encode(TEXTS[0])) == length  # a start, then words or bytes
    assert (policy.tokenizer.vocab_size > NUM_BYTES) == (length == 5)
    assert policy.network.text.embedding.num_embeddings == policy.tokenizer.vocab_size


@pytest.mark.parametrize("instructions", [(), ("",)])
def test_without_instructions_auto_is_bytes_and_bpe_is_refused(instructions):
    assert tokenizer_for("auto", instructions) == BYTES
    with pytest.raises(DataError, match="'bpe' is learnt from the instructions"):
        tokenizer_for("bpe", instructions)
    policy = build(instructions=instructions, language=False, use_language=False)
    assert policy.tokenizer.vocab_size == NUM_BYTES


def test_what_is_given_is_taken_as_it_is(tmp_path):
    file = tmp_path / "words.json"
    file.write_text(TextTokenizer.trained(["go there"]).source)
    policy = build(tokenizer=str(file))
    assert len(policy.tokenizer.encode("go there")) == 3 < len(policy.tokenizer.encode("reach")) - 1


@pytest.mark.parametrize(
    ("chosen", "is_spelt"),
    [
        ({}, False),
        ({"spelling": None}, False),
        ({"spelling": True}, True),
        ({"tokenizer": "bytes"}, True),
        ({"tokenizer": "bytes", "spelling": False}, False),
    ],
)
def test_words_of_the_data_are_not_spelt(chosen, is_spelt):
    policy = build(**chosen)
    assert policy.hparams["spelling"] is is_spelt
    assert bool(policy.network.text.spelling) is is_spelt


def test_a_checkpoint_from_before_the_choice_has_spelling():
    policy = build(spelling=True)
    before = {k: v for k, v in policy.hparams.items() if k != "spelling"}
    VLAPolicy(**before).load_state_dict(policy.state_dict())


@pytest.mark.parametrize("chosen", ["auto", "bpe", "bytes"])
def test_a_checkpoint_holds_the_tokenizer(chosen):
    policy = build(tokenizer=chosen)
    kept = io.BytesIO()
    torch.save({"hparams": policy.hparams, "weights": policy.state_dict()}, kept)
    kept.seek(0)
    tree = torch.load(kept, weights_only=True)
    again = VLAPolicy(**tree["hparams"])
    again.load_state_dict(tree["weights"])
    words = "reach the zebra, then the bl\u00fce ball"
    assert again.tokenizer.encode(words) == policy.tokenizer.encode(words)
    seen = batch(words)["observations"]
    assert torch.equal(again.predict_chunk(seen, words), policy.predict_chunk(seen, words))
    if chosen != "bytes":
        assert json.loads(tree["hparams"]["tokenizer"])["model"]["merges"]


def varied(vary, count):
    return [list(vary([TEXTS[0], TEXTS[1], TEXTS[0]])) for _ in range(count)]


def test_words_are_plain_first_and_varied_afterwards():
    torch.manual_seed(0)
    vary = WordVariation(drop=0.5, insert=0.5, after=3)
    plain = [TEXTS[0], TEXTS[1], TEXTS[0]]
    found = varied(vary, 6)
    assert found[:3] == [plain] * 3
    assert all(texts != plain and texts[0] == texts[2] for texts in found[3:])
    assert int(vary.batches) == 3


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_words_are_the_same_after_a_stop_and_a_resume(stop):
    torch.manual_seed(0)
    whole = WordVariation(drop=0.3, insert=0.3, after=3)
    expected = varied(whole, 7)
    torch.manual_seed(0)
    first = WordVariation(drop=0.3, insert=0.3, after=3)
    found = varied(first, stop)
    weights, generator = first.state_dict(), torch.get_rng_state()
    second = WordVariation(drop=0.3, insert=0.3, after=3)
    second.load_state_dict(weights)
    torch.set_rng_state(generator)
    assert found + varied(second, 7 - stop) == expected
    assert second.state_dict() == whole.state_dict()


def test_an_older_state_makes_words_plain_again():
    vary = WordVariation(drop=1.0, insert=0.0, after=1)
    start = {name: value.clone() for name, value in vary.state_dict().items()}
    assert varied(vary, 2)[1] == [""] * 3
    vary.load_state_dict(start)
    assert varied(vary, 1)[0][0] == TEXTS[0]


def test_only_training_varies_words():
    policy = build(word_dropout=1.0, word_insertion=0.0, vary_words_after=1)
    given = []
    inner = policy._features
    policy._features = lambda seen, texts: (given.append(list(texts)), inner(seen, texts))[1]
    with torch.no_grad():
        for is_training in (True, True, False):
            policy.train(is_training)(batch(*TEXTS))
    policy.train().predict(batch(*TEXTS)["observations"], list(TEXTS))
    assert given == [[*TEXTS], ["", ""], [*TEXTS], [*TEXTS]]
    assert int(policy.vary.batches) == 1


def test_the_tracker_says_whose_instruction_has_changed():
    tracker = InstructionTracker(is_needed=False)
    assert tracker.update(["a", "b"]) == [True, True]
    assert tracker.update(["a", "c"]) == [False, True]
    assert tracker.update(["a"]) == [False]
    assert tracker.update(["a", "c", "c"]) == [False, False, True]
