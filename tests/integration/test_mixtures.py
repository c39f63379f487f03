"""A mixture of three layouts: killed and resumed to the last bit, and in proportion."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

sys.path.insert(0, str(Path(__file__).parent))  # asking, under --import-mode=importlib

from asking import Ask, asking, done, forking, refused, rows, tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLER = Path(__file__).with_name("killer.py")
EPISODES, STEPS = 6, 30
TRAIN = (
    *("train", "--model", "bc", "--bc.hidden-dim", 16, "--bc.dropout", 0.1, "--config", "mix.toml"),
    *("--max-steps", 40, "--save-every", 10, "--eval-every", 15, "--log-every", 7, "--seed", 3),
    *("--warmup-steps", 5, "--lr", 1e-3, "--batch-size", 20, "--bc.use-image"),
)
CONFIG = """
weights = [0.5, 0.3, 0.2]
dataset_kwargs = { cache_images_gib = 0, obs_keys = ["state", "image"] }
dataset_path = [
    { path = "seed.h5", rename = { pose = "state" } },
    { path = "robomimic.hdf5", rename = { robot0_eef_pos = "state", agentview_image = "image" } },
    { path = "buffer.zarr", rename = { img = "image" } },
]
"""
Array = np.ndarray[Any, Any]


def episode(number: int) -> tuple[Array, Array, Array]:
    draw = np.random.default_rng(number)
    pose = draw.normal(size=(STEPS, 3)).cumsum(0).astype(np.float32)
    frames = draw.integers(0, 256, (STEPS, 16, 16, 3), dtype=np.uint8)
    return pose, frames, np.diff(pose, axis=0, append=pose[-1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of other episodes, each in another layout."""
    folder = tmp_path_factory.mktemp("layouts")
    with h5py.File(folder / "seed.h5", "w") as file:
        for n in range(EPISODES):
            pose, frames, actions = episode(n)
            group = file.create_group(f"episode_{n}")
            group["observations/pose"], group["observations/image"] = pose, frames
            group["actions"] = actions
    with h5py.File(folder / "robomimic.hdf5", "w") as file:
        for n in range(EPISODES):
            pose, frames, actions = episode(100 + n)
            group = file.create_group(f"data/demo_{n}")
            group.attrs["num_samples"] = STEPS
            group["obs/robot0_eef_pos"], group["obs/agentview_image"] = pose, frames
            group["actions"] = actions
    root = zarr.open_group(str(folder / "buffer.zarr"), mode="w", zarr_format=2)
    for name, part in (("state", 0), ("img", 1), ("action", 2)):
        values = np.concatenate([episode(200 + n)[part] for n in range(EPISODES)])
        root.create_array(f"data/{name}", data=values, chunks=(25, *values.shape[1:]))
    root.create_array("meta/episode_ends", data=np.arange(1, EPISODES + 1) * STEPS)
    (folder / "mix.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def ask(here: Any, environment: dict[str, str]) -> Iterator[Ask]:
    """Run the command."""
    with forking(here.python, environment) as process:
        yield asking(process)


def place(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    for path in folder.iterdir():
        if path.suffix in {".h5", ".hdf5", ".zarr", ".toml"}:
            (made / path.name).symlink_to(path)
    return made


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_resumed_is_bit_exact(ask: Ask, folder: Path, ranks: int) -> None:
    whole = {}
    for workers in (0, 2):
        command = (*TRAIN, "--num-workers", workers)
        whole[workers] = place(folder, f"whole-{ranks}-{workers}")
        output = done(ask(*command, cwd=whole[workers], ranks=ranks))
        assert f"workers: {workers}\n" in output
        killed = place(folder, f"killed-{ranks}-{workers}")
        statuses, output = ask(*command, "--plugin", KILLER, cwd=killed, ranks=ranks)
        assert statuses == [-9] * ranks, output
        assert "resumed: " in done(ask(*command, "--resume", "auto", cwd=killed, ranks=ranks))
        one, other = (f / "checkpoints" / "final.pt" for f in (whole[workers], killed))
        assert one.read_bytes() == other.read_bytes()
        assert rows(whole[workers]) == rows(killed)
    states = [tree(whole[workers])["model_state_dict"] for workers in (0, 2)]
    assert all(a.equal(b) for a, b in zip(*(s.values() for s in states), strict=True))
    for kind in ("train", "eval"):
        losses = {key for row in rows(whole[0]) for key in row if key.startswith(f"{kind}/loss/")}
        assert losses == {f"{kind}/loss/{name}" for name in weights()}


def test_the_training_loss_of_each_part_is_that_of_all_ranks(ask: Ask, folder: Path) -> None:
    found = []
    for ranks, size in ((1, 40), (2, 20)):
        here = place(folder, f"losses-{ranks}")
        command = ("train", "--model", "bc", "--bc.use-image", "--config", "mix.toml", "--seed", 3)
        one = ("--max-steps", 1, "--warmup-steps", 0, "--log-every", 1, "--batch-size", size)
        done(ask(*command, *one, cwd=here, ranks=ranks))
        losses = {k: v for k, v in rows(here)[0].items() if k.startswith("train/loss")}
        shares = sum(w * losses[f"train/loss/{name}"] for name, w in weights().items())
        assert losses["train/loss"] == pytest.approx(shares, rel=1e-5)
        found.append(losses)
    assert set(found[0]) == {"train/loss", *(f"train/loss/{name}" for name in weights())}
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_samples_are_in_proportion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simscaleai_core.cli.configuration import build_config, read_toml
    from simscaleai_core.cli.from_config import load_data, named_data, with_ids
    from simscaleai_core.data.feed import build_feed
    from simscaleai_core.host.components import build_component
    from simscaleai_core.host.facade import Host

    monkeypatch.chdir(folder)
    host = Host()
    config = build_config(read_toml(folder / "mix.toml"), {"batch_size": 20, "num_workers": 0})
    config = with_ids(config, host, named_data(host, config))
    assert config.sampler == "builtin/mixture"
    loader = load_data(host, config).train_loader
    sampler = build_component(host, "sampler", config.sampler, config)
    feed = build_feed(loader, seed=3, sampler=(config.sampler, sampler))
    counts: Counter[str] = Counter()
    for batch in itertools.islice(feed.batches(0), 200):
        here = Counter(batch["source"])
        counts += here
        assert max(abs(here[n] - 20 * w) for n, w in weights().items()) <= 1.01
    for name, weight in weights().items():
        assert counts[name] / counts.total() == pytest.approx(weight, abs=0.01)


def weights() -> dict[str, float]:
    return {"seed.h5": 0.5, "robomimic.hdf5": 0.3, "buffer.zarr": 0.2}


def test_other_weights_are_another_run(ask: Ask, folder: Path) -> None:
    here = place(folder, "drift")
    statuses, output = ask(*TRAIN, "--num-workers", 0, "--plugin", KILLER, cwd=here)
    assert statuses == [-9], output
    command = (*TRAIN, "--num-workers", 0, "--weights", "0.2,0.3,0.5", "--resume", "auto")
    assert "fingerprint" in refused(ask(*command, cwd=here))
