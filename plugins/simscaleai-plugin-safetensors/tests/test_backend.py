"""The file itself: exact, readable by others, harmless, and nothing beside it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from simscaleai_devkit.checkpoints.driver import store_in
from simscaleai_devkit.support.children import in_child
from simscaleai_devkit.support.trees import edge_case_tree
from simscaleai_devkit.support.trees import tree_differences as differences
from simscaleai_plugin_safetensors.backend import TREE_KEY, SafetensorsBackend
from simscaleai_plugin_safetensors.encoding import Encoder, decode
from simscaleai_plugin_safetensors.plugin import PLUGIN, simscale_register_checkpoint_backends

from simscaleai_core.checkpoint.store import read_checkpoint
from simscaleai_core.errors import CheckpointError
from simscaleai_core.plugin import CheckpointBackendSpec


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, SafetensorsBackend())


def test_what_the_plugin_offers() -> None:
    (spec,) = simscale_register_checkpoint_backends()
    assert isinstance(spec, CheckpointBackendSpec)
    assert PLUGIN.selects == {spec.kind: spec.name}


def test_every_kind_of_value_comes_back_exactly(tmp_path: Path) -> None:
    tree = {**edge_case_tree(), "more": (b"", 10**5000, -(16**4000), "\ud800", {True: 1, "": 2})}
    SafetensorsBackend().save(tmp_path / "x.safetensors", tree)
    assert not differences(tree, read(tmp_path / "x.safetensors"))


def test_values_that_a_checkpoint_cannot_hold_are_named() -> None:
    with pytest.raises(TypeError, match=r"cannot hold set @ a\.1"):
        Encoder().encode({"a": [0, {1}]})


def test_memory_is_not_shared_with_what_was_saved(tmp_path: Path) -> None:
    tree = {"w": torch.ones(3)}
    SafetensorsBackend().save(tmp_path / "x.safetensors", tree)
    found = read(tmp_path / "x.safetensors")
    found["w"][0] = 5  # the file is not mapped into memory
    assert torch.equal(read(tmp_path / "x.safetensors")["w"], tree["w"])


def test_weights_are_readable_without_this_project(tmp_path: Path) -> None:
    weights = {"net.0.weight": torch.randn(3, 4).t(), "scale": torch.ones((), dtype=torch.bfloat16)}
    SafetensorsBackend().save(tmp_path / "x.safetensors", {"model_state_dict": weights, "step": 1})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == {f"model_state_dict.{name}" for name in weights}
    for name, value in weights.items():
        assert torch.equal(found[f"model_state_dict.{name}"], value)


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        SafetensorsBackend().save(tmp_path / name, edge_case_tree())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_file_with_the_permissions_of_any_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        SafetensorsBackend().save(tmp_path / "x.safetensors", {"w": torch.ones(2)})
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_a_kill_leaves_while_the_library_writes_is_swept(tmp_path: Path) -> None:
    def killed() -> None:
        import simscaleai_plugin_safetensors.backend as module

        def die(tensors: Any, path: Path, metadata: Any) -> None:
            (path.parent / ".tmpAbC123").write_bytes(b"half")
            os._exit(9)

        module.save_file = die
        store_in(tmp_path, SafetensorsBackend(), "safetensors").save("step_2", {"step": 2}, step=2)

    store_in(tmp_path, SafetensorsBackend(), "safetensors").save("step_1", {"step": 1}, step=1)
    assert in_child(killed)[0] == 9
    assert len(list(tmp_path.iterdir())) == 4
    assert store_in(tmp_path, SafetensorsBackend(), "safetensors").load("auto")[1] == {"step": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_1.json", "step_1.safetensors"]


# --- hostile and damaged files --------------------------------------------------------------


class Payload:
    """Would touch a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_cut_file_is_refused_without_a_manifest_too(tmp_path: Path, part: float) -> None:
    path = tmp_path / "x.safetensors"
    SafetensorsBackend().save(path, edge_case_tree())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(CheckpointError, match=r"x\.safetensors cannot be read"):
        read(path)


def test_a_flipped_bit_is_found_without_a_manifest_too(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tree = edge_case_tree()
    SafetensorsBackend().save(path, tree)
    data = path.read_bytes()
    refused, places = 0, range(0, 8 * len(data), 8 * len(data) // 120)
    for place in places:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            assert not differences(tree, read(path)), place
        except CheckpointError:
            refused += 1
    assert refused > 0.95 * len(places)


@pytest.mark.parametrize(
    "change", [{"x": torch.zeros(2)}, {"w": torch.ones(1, 2)}, {"w": torch.ones(2).int()}]
)
def test_the_checksum_is_about_every_tensor(change: dict[str, torch.Tensor]) -> None:
    encoder = Encoder()
    text = encoder.encode({"w": torch.ones(2)})
    with pytest.raises(ValueError, match="does not match the checksum"):
        decode(text, {**encoder.tensors, **change})


def test_a_file_of_0_1_0_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    path, text = tmp_path / "x.safetensors", '{"dict":{"w":{"tensor":"w"}}}'
    save_file({"w": torch.ones(2)}, path, metadata={TREE_KEY: text})
    assert not differences({"w": torch.ones(2)}, read(path))


@pytest.mark.parametrize("content", [b"hello\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(64)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors cannot be read"):
        read(tmp_path / "x.safetensors")


def test_a_payload_is_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "x.safetensors"
    for write in (torch.save, lambda tree, p: p.write_bytes(pickle.dumps(tree))):
        write({"step": Payload(canary)}, path)
        with pytest.raises(CheckpointError, match=r"x\.safetensors cannot be read"):
            read(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())  # negative control: it is live
    assert canary.exists()


def test_weights_of_somebody_else_are_no_checkpoint(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="it holds tensors only"):
        read(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "3", "{}", '{"exec": "x"}', '{"dict": 3}', '{"dict": {"a": {"tensor": "w2"}}}',
     '{"tensor": "w", "as": ["load", [2]]}', '{"tensor": "w", "as": ["float64", [99]]}',
     '{"bytes": "?"}', '{"int": "x"}', "[" * 9999 + "]" * 9999],
    ids=range(13),
)  # fmt: skip
def test_nonsense_in_the_header_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata={TREE_KEY: text})
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        read(path)


def test_json_and_back_needs_nothing_but_text() -> None:
    encoder = Encoder()
    text = encoder.encode(edge_case_tree())
    assert text.isascii()
    assert not differences(edge_case_tree(), decode(text, encoder.tensors))
