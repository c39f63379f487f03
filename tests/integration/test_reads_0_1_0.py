"""Recordings, settings and checkpoints of 0.1.0 are read, evaluated and resumed as 0.1.0 did.

The files, and how they were made, are in ``tests/data/v0_1_0``. Other processors round differently,
hence the tolerances; whatever matters to a run shows far above them (the negative controls).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai_core import SimScaleError, load_checkpoint

# make_v0_1_0, under --import-mode=importlib
sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "v0_1_0"))

import make_v0_1_0 as measure
from make_v0_1_0 import CHECKPOINTS, RECORDINGS, WEIGHTS

pytestmark = pytest.mark.slow

DATA = measure.HERE
EXPECTED = json.loads((DATA / "expected.json").read_text())
RTOL = 1e-5
RTOL_BY_END = {
    # a bias of attention's keys changes nothing: its gradient is what rounding leaves of zero,
    # which AdamW scales up
    "self_attn.in_proj_bias": 1e-2,
    "multihead_attn.in_proj_bias": 1e-2,
    "key_value.bias": 1e-3,
    # a divergence near zero is a small difference of numbers near one
    "/kl": 1e-3,
    # closed loop: small differences add up, and drivers draw images differently
    "returns": 1e-2,
}


@pytest.fixture
def simscale(
    simscale_here: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> measure.Command:
    """Run the command, in this process and in a folder with a copy of the files."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Any:
        status, out, err = simscale_here(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


def differences(found: Any, wanted: Any, place: str = "") -> list[str]:
    """Say where something differs from what is wanted; more keys than wanted are none."""
    if isinstance(wanted, dict):
        missing = [f"{place}/{key} is missing" for key in wanted if key not in found]
        both = [key for key in wanted if key in found]
        return missing + [d for k in both for d in differences(found[k], wanted[k], f"{place}/{k}")]
    if isinstance(wanted, list) and not _are_numbers(wanted):
        if len(found) != len(wanted):
            return [f"{place}: {len(found)} entries, not {len(wanted)}"]
        pairs = enumerate(zip(found, wanted, strict=True))
        return [d for i, (f, w) in pairs for d in differences(f, w, f"{place}/{i}")]
    same = _are_close(found, wanted, place) if _are_numbers(wanted) else found == wanted
    return [] if same else [f"{place}: {found}, not {wanted}"]


def _are_numbers(value: Any) -> bool:
    values = value if isinstance(value, list) and value else [value]
    return all(type(v) in {int, float} for v in values)


def _are_close(found: Any, wanted: Any, place: str) -> bool:
    """Compare a number, or a list of them by the largest."""
    if not _are_numbers(found) or isinstance(found, list) != isinstance(wanted, list):
        return False
    ours, theirs = ([v] if not isinstance(v, list) else v for v in (found, wanted))
    rtol = next((rtol for end, rtol in RTOL_BY_END.items() if place.endswith(end)), RTOL)
    atol = rtol * max(map(abs, theirs))
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        o == t if type(t) is int else math.isclose(o, t, rel_tol=0, abs_tol=atol) for o, t in pairs
    )


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_is_read(simscale: measure.Command, name: str) -> None:
    found = measure.recording_as_seen(simscale, name)
    assert differences(found, EXPECTED["recordings"][name]) == []
    simscale("data", "check", name)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_says_what_it_is(simscale: measure.Command, name: str) -> None:
    wanted = EXPECTED["checkpoints"][name]["shown"]
    assert differences(measure.shown(simscale, name), wanted) == []
    assert load_checkpoint(name)["step"] == wanted["step"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_policy_is_loaded(simscale: measure.Command, name: str) -> None:
    wanted = EXPECTED["checkpoints"][name]["loaded"]
    found = measure.both(Path(name), measure.recording_of(name))
    assert differences(found, wanted) == []
    swapped = differences(found["trained"], wanted["evaluated"])
    assert any("/actions" in place for place in swapped), "the negative control"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_is_evaluated(simscale: measure.Command, name: str) -> None:
    wanted = EXPECTED["checkpoints"][name]["evaluated"]
    found = {weights: measure.evaluated(simscale, name, weights) for weights in WEIGHTS}
    assert differences(found, wanted) == []
    swapped = differences(found["trained"], wanted["evaluated"])
    assert any("/returns" in place for place in swapped), "the negative control"


@pytest.mark.parametrize("reference", ["path", pytest.param("auto", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_run_is_resumed(simscale: measure.Command, name: str, reference: str) -> None:
    """By its path into a new folder, or as the newest of its own folder."""
    is_auto = reference == "auto"
    where = (str(Path(name).parent), "auto") if is_auto else ("resumed", name)
    found = measure.resumed(simscale, name, *where)
    assert differences(found, EXPECTED["checkpoints"][name]["resumed"]) == []


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_damage_is_noticed(simscale: measure.Command, name: str) -> None:
    """The manifest of 0.1.0 is read: its checksum is what a flipped bit does not match."""
    path = Path(name)
    file = max(path.iterdir(), key=lambda p: p.stat().st_size) if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SimScaleError, match="checksum"):
        load_checkpoint(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drop", "shown_in"),
    [
        (lambda tree: tree["optimizer_state_dict"]["state"].pop(0), "/trained/sums"),
        (lambda tree: tree["states"].pop("ema"), "/evaluated/sums"),
        (lambda tree: tree["states"]["loop"].update(windows=[]), "/rows"),
        (lambda tree: None, None),
    ],
    ids=["optimizer", "average", "logging window", "nothing"],
)
def test_whatever_is_not_restored_is_missed(
    simscale: measure.Command, drop: Callable[[Any], Any], shown_in: str | None
) -> None:
    """The negative control of resuming: the tolerances hide no part of a checkpoint."""
    name = CHECKPOINTS[0]
    tree = torch.load(name, weights_only=True)
    drop(tree)
    torch.save(tree, "edited.pt")
    found = measure.resumed(simscale, name, "resumed", "edited.pt")
    places = differences(found, EXPECTED["checkpoints"][name]["resumed"])
    assert any(shown_in in place for place in places) if shown_in else places == []
