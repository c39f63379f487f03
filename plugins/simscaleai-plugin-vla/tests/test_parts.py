"""Attention, tokens, words, adapters and pointers, one by one."""

from __future__ import annotations

import json

import pytest
import torch
from simscaleai_plugin_vla.augmentation import vary_words
from simscaleai_plugin_vla.fusion import Pointers
from simscaleai_plugin_vla.layers import Attention, attend
from simscaleai_plugin_vla.lora import LoRALinear, add_lora
from simscaleai_plugin_vla.options import SIZES
from simscaleai_plugin_vla.presets import PRESETS
from simscaleai_plugin_vla.text import TextEncoder, tokenize
from simscaleai_plugin_vla.tokenizer import TextTokenizer
from simscaleai_plugin_vla.vision import ConvEncoder
from torch import nn
from torch.nn import functional as F

from simscaleai_core.errors import ConfigError

CPU = torch.device("cpu")


def test_sixteen_bit_attention_on_a_cpu_is_torch_s_own():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8) for n in (4, 6, 6))
    mask = torch.rand(2, 1, 1, 6) > 0.3
    exact = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    halves = [x.bfloat16() for x in (query, key, value)]
    close = attend(*halves, mask, scale=8**-0.5)
    assert close.dtype == torch.bfloat16
    torch.testing.assert_close(close.float(), exact, atol=0.03, rtol=0.03)


def test_few_queries_read_as_many_would():
    torch.manual_seed(0)
    attention, memory = Attention(16, 4), torch.randn(2, 5, 16)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    many = attention(memory, memory, mask)  # as many queries as there is memory: heads apart
    few = attention(memory[:, :2], memory, mask)
    torch.testing.assert_close(few, many[:, :2])


def test_rows_say_which_memory_is_read():
    torch.manual_seed(0)
    attention, memory = Attention(16, 2), torch.randn(2, 5, 16)
    x, rows = torch.randn(3, 2, 16), torch.tensor([1, 0, 1])
    torch.testing.assert_close(attention(x, memory, rows=rows), attention(x, memory[rows]))


def test_rotary_attention_sees_distance_only():
    torch.manual_seed(0)
    attention = Attention(16, 2, rotary=True)
    x = torch.randn(1, 6, 16)
    shifted = torch.cat([torch.randn(1, 3, 16), x], dim=1)
    mask = torch.tensor([[False] * 3 + [True] * 6])
    late = attention(shifted, shifted, mask)[:, 3:]
    torch.testing.assert_close(late, attention(x, x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(attention(x, x), attention(x.flip(1), x.flip(1)).flip(1), atol=1e-3)


def test_pointers_say_where_in_the_image():
    torch.manual_seed(0)
    pointers = Pointers(dim=8, fine_dim=8, fine_grid=(5, 7), num_heads=2)
    with torch.no_grad():
        pointers.sharpness.fill_(6.0)
        pointers.query.weight.zero_()
        pointers.query.bias.fill_(1.0)
        pointers.key_value.weight.copy_(torch.eye(8).repeat(2, 1))
        pointers.key_value.bias.zero_()
    cells = torch.zeros(1, 2, 35, 8)
    cells[0, 0, 1 * 7 + 6] = 3.0  # row 1, column 6
    cells[0, 1, 4 * 7 + 0] = 3.0  # row 4, column 0
    places, found = pointers(torch.randn(1, 3, 8), cells)
    where = places.view(3, 2, 2, 2)  # queries, cameras, pointers, (row, column)
    torch.testing.assert_close(where[0, 0, 0], torch.tensor([-0.5, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(where[2, 1, 1], torch.tensor([1.0, -1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(found, torch.full((1, 3, 16), 3.0), atol=1e-2, rtol=0)


@pytest.mark.parametrize("patch", [2, 4, 6, 8])
def test_the_fine_map_is_finer_than_the_patches(patch):
    encoder = ConvEncoder(image_size=(24, 48), patch_size=patch, dim=32, num_heads=2, num_layers=1)
    tokens, cells = encoder(torch.rand(2, 3, 24, 48))
    assert tokens.shape == (2, 24 * 48 // patch**2, 32)
    rows, columns = encoder.fine_grid
    assert cells.shape == (2, rows * columns, 16) and rows > 24 // patch


def test_text_is_bytes_and_comes_back_from_its_json():
    plain = TextTokenizer()
    assert plain.vocab_size == 258 and plain.encode("") == [1]
    assert len(plain.encode("gruen")) == 7 and len(plain.encode("gr\u00fcn")) == 7
    assert len(set(plain.encode("\U0001f600")[2:])) == 4


def test_byte_pairs_are_learnt_and_kept(tmp_path):
    texts = ["reach the red ball", "reach the blue ball", "touch the red ball"]
    learnt = TextTokenizer.trained(texts)
    assert len(learnt.encode("reach the red ball")) == 5
    assert len(learnt.encode("zyx")) > 2
    again = TextTokenizer(learnt.source)
    assert json.loads(again.source) and again.encode(texts[1]) == learnt.encode(texts[1])
    file = tmp_path / "words.json"
    file.write_text(learnt.source)
    assert TextTokenizer(str(file)).encode(texts[2]) == learnt.encode(texts[2])
    assert TextTokenizer.trained(texts[::-1]).source == learnt.source


def test_each_instruction_is_tokenised_once():
    tokens = tokenize(["a", "bb", "a"], TextTokenizer(), max_length=64, device=CPU)
    assert tokens.ids.shape == (2, 8) and tokens.rows.tolist() == [0, 1, 0]
    assert tokens.mask.sum(1).tolist() == [3, 4]  # start, space, letters
    cut = tokenize(["abcdefgh"], TextTokenizer(), max_length=4, device=CPU)
    assert cut.ids.shape == (1, 4) and cut.mask.all()


@pytest.mark.parametrize("spelling", [True, False])
def test_padding_of_text_changes_nothing(spelling):
    torch.manual_seed(0)
    encoder = TextEncoder(vocab_size=258, dim=32, num_heads=2, num_layers=2, spelling=spelling)
    ids = torch.randint(2, 258, (1, 9))
    short = F.pad(ids, (0, 3)), F.pad(torch.ones(1, 9, dtype=torch.bool), (0, 3))
    long = F.pad(ids, (0, 15), value=7), F.pad(torch.ones(1, 9, dtype=torch.bool), (0, 15))
    one, one_mask = encoder(*short)
    two, two_mask = encoder(*long)
    assert one_mask.sum() == two_mask.sum() == (3 if spelling else 9)
    torch.testing.assert_close(one[one_mask], two[two_mask])


def test_words_are_dropped_and_inserted():
    text = "reach the red ball"
    assert vary_words(text, drop=0.0, insert=0.0) == text
    assert vary_words(text, drop=1.0, insert=0.0) == ""
    torch.manual_seed(0)
    more = [vary_words(text, drop=0.0, insert=0.5).split() for _ in range(50)]
    assert all([w for w in words if w in text.split()] == text.split() for words in more)
    assert any(len(words) > 4 for words in more) and len({tuple(w) for w in more}) > 30
    assert all(w.isascii() and w.isalpha() for words in more for w in words)


def test_an_adapted_layer_is_base_plus_low_rank():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    adapted, x = LoRALinear(layer, rank=2, alpha=4.0), torch.randn(3, 6)
    torch.testing.assert_close(adapted(x), layer(x))
    nn.init.normal_(adapted.up)
    expected = F.linear(x, layer.weight + 2.0 * adapted.up @ adapted.down, layer.bias)
    torch.testing.assert_close(adapted(x), expected)
    torch.testing.assert_close(F.linear(x, adapted.weight, adapted.bias), expected)


def test_adapters_go_everywhere_or_are_refused():
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    assert add_lora(block, rank=1, alpha=1.0) == 2
    assert sum(p.requires_grad for p in block.parameters()) == 4
    with pytest.raises(ConfigError, match="no linear layer"):
        add_lora(nn.ReLU(), rank=1, alpha=1.0)


def test_sizes_grow():
    assert tuple(PRESETS) == SIZES
    widths = [p.embed_dim for p in PRESETS.values()]
    assert widths == sorted(widths)
