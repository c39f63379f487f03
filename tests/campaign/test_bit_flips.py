"""One flipped bit anywhere in a checkpoint is found; the checkpoint before it is offered or used."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_runs import finish
from run_comparison import BACKENDS, DIRECTORY, read, store_in
from simscaleai_devkit.support.trees import tree_differences
from small_runs import TRAIN

from simscaleai_core.checkpoint.manifest import list_checkpoints
from simscaleai_core.errors import CheckpointError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("warm")]

FLIPS = 600
PER_BACKEND = FLIPS // len(BACKENDS)


@pytest.fixture(scope="module", params=BACKENDS)
def finished(request: pytest.FixtureRequest, warm: None, tmp_path_factory: Any) -> Path:
    """Two step checkpoints of a run with a backend, without its best and final ones."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    backend = ("--checkpoint-backend", request.param)
    finish(folder, *TRAIN, "--max-steps", 9, "--lr", 0.01, "--keep-last", 2, *backend)
    directory = folder / DIRECTORY
    for name in ("best", "final"):
        for path in directory.glob(f"{name}.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [info.step for info in list_checkpoints(directory)] == [4, 8]
    return directory


@pytest.fixture
def flips(
    finished: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., Iterator[str]]:
    """Yield after each flip of a bit in the newest checkpoint's files; undo it afterwards."""

    def flip(directory: Path, files: list[Path], count: int) -> Iterator[str]:
        rng = random.Random(f"{request.node.name} {finished.name}")
        sizes = [file.stat().st_size for file in files]
        for _ in range(count):
            (file,) = rng.choices(files, weights=sizes)
            content = file.read_bytes()
            place, bit = rng.randrange(len(content)), rng.randrange(8)
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            file.write_bytes(changed)
            yield f"{file.relative_to(directory)}, byte {place}, bit {bit}"
            file.write_bytes(content)

    return flip


def _copy(finished: Path, tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """Return a copy of the directory, its newest checkpoint and the files of that."""
    directory = shutil.copytree(finished, tmp_path / DIRECTORY)
    newest = directory / list_checkpoints(directory)[-1].file
    files = sorted(p for p in newest.rglob("*") if p.is_file()) if newest.is_dir() else [newest]
    return directory, newest, files


def test_with_its_manifest_every_flip_is_found(
    finished: Path,
    tmp_path: Path,
    flips: Callable[..., Iterator[str]],
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory, newest, files = _copy(finished, tmp_path)
    before = list_checkpoints(directory)[0].file
    tally = campaign(f"bit flips in {newest.suffix[1:]} with a manifest")
    store = store_in(directory, newest.suffix[1:])
    for at in flips(directory, files, scaled(PER_BACKEND)):
        tally["tried"] += 1
        with pytest.raises(CheckpointError, match="damaged") as named:
            store.load(str(newest))
        assert f"The newest whole one is {directory / before}" in str(named.value), at
        caplog.clear()
        found = store.load("auto")
        assert found is not None and found[0].name == before, at
        assert "skipping a damaged checkpoint" in caplog.text, at
        tally["found"] += 1


def test_without_a_manifest_no_flip_is_silent(
    finished: Path,
    tmp_path: Path,
    flips: Callable[..., Iterator[str]],
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
) -> None:
    """A flip is found by the format's own checksums, or it changes nothing that is read."""
    directory, newest, files = _copy(finished, tmp_path)
    whole = read(newest)
    newest.with_suffix(".json").unlink()
    tally = campaign(f"bit flips in {newest.suffix[1:]} without a manifest")
    silent = []
    for at in flips(directory, files, scaled(PER_BACKEND)):
        tally["tried"] += 1
        try:
            tree = read(newest)
        except CheckpointError:
            tally["found"] += 1
            continue
        differences = tree_differences(tree, whole)
        tally["without effect"] += not differences
        silent += [f"{at}: {differences[0]}"] if differences else []
    assert not silent, "\n".join([f"{len(silent)} silently wrong", *silent[:10]])


def test_a_flip_in_a_manifest_leads_to_no_wrong_checkpoint(
    finished: Path,
    tmp_path: Path,
    flips: Callable[..., Iterator[str]],
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The newest whole one is used, or an older one, and then it is said."""
    caplog.set_level(logging.WARNING)
    directory, newest, _ = _copy(finished, tmp_path)
    whole = {info.file: read(directory / info.file) for info in list_checkpoints(directory)}
    manifest = newest.with_suffix(".json")
    tally = campaign("bit flips in manifests")
    silent = []
    for at in flips(directory, [manifest], scaled(PER_BACKEND // 2)):
        tally["tried"] += 1
        caplog.clear()
        found = store_in(directory, newest.suffix[1:]).load("auto")
        assert found is not None, at
        path, tree = found
        assert not tree_differences(tree, whole[path.name]), at
        is_newest = path.name == newest.name
        tally["without effect"] += is_newest
        tally["the one before used"] += not is_newest
        if not is_newest and not caplog.text:
            silent.append(f"{at}: {manifest.read_text(errors='replace')}")
    assert not silent, "\n".join([f"{len(silent)} older ones used without a word", *silent[:5]])
