"""Failed episodes of trained policies: the very ones, wherever they run, and films of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

HERE = Path(__file__).parent
POINT = "recording_toys:Toys/Point-v0"
pytestmark = pytest.mark.slow
pytest.importorskip("simscaleai_plugin_bc", reason="needs policies: simscaleai-plugin-bc")


def run(*words, cwd, **environ):
    environ = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **environ}
    environ.pop("SIMSCALE_PLUGIN", None)
    environ.pop("SIMSCALE_PLUGINS", None)
    done = subprocess.run(
        [sys.executable, "-m", "simscaleai_core", *map(str, words)], env=environ, cwd=cwd,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def failures(checkpoint, folder, *words, cwd, **environ):
    """Return results, outcomes of the recorded episodes by seed, and what was said."""
    words = ("--failures", folder, "--video-episodes", 2, "--json", *words)
    out, said = run("eval", checkpoint, *words, cwd=cwd, **environ)
    with h5py.File(cwd / folder / "failures.h5") as file:
        recorded = {
            int(group.attrs["seed"]): (bool(group.attrs["success"]), len(group["actions"]))
            for group in file.values()
        }
    return json.loads(out), recorded, said


def first_actions(path):
    with h5py.File(path) as file:
        return file["episode_0/actions"][()]


def lengths_of_failures(results):
    outcomes = zip(results["seeds"], results["successes"], results["lengths"], strict=True)
    return {seed: (success, length) for seed, success, length in outcomes if not success}


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """Two policies: one of single actions, one that draws chunks."""
    place = tmp_path_factory.mktemp("points")
    run("record", "--env", POINT, "--expert", "recording_toys:go", "--episodes", 60, "--output",
        "p.h5", "--noise", 0.1, cwd=place)  # fmt: skip
    for model in ("bc", "flow"):
        run("train", "--model", model, "--dataset", "p.h5", "--max-steps", 40, "--warmup-steps", 5,
            "--checkpoint-dir", model, cwd=place)  # fmt: skip
    return place


@pytest.mark.parametrize(
    ("model", "chosen"), [("bc", ()), ("flow", ("--execute", 3, "--policy-seed", 5))]
)
def test_they_do_not_depend_on_the_workers(points, model, chosen):
    words = (f"{model}/final.pt", f"{model}-one", "--env", POINT, "--episodes", 60, *chosen)
    results, recorded, _ = failures(*words, cwd=points)
    failed = lengths_of_failures(results)
    assert 3 < len(recorded) <= len(failed) == results["n_failed"]
    assert len(recorded) >= 0.9 * len(failed), "rounding decides in few"
    assert recorded.items() <= failed.items()
    others = (*words[:1], f"{model}-two", *words[2:], "--workers", 2)
    again, same, _ = failures(*others, cwd=points)
    assert same == recorded and again["common"] == results["common"]
    for name in ("conditions.json", "failures.h5"):
        one, two = (points / f"{model}-{n}" / name for n in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name
    first = next(iter(recorded))
    words = ("record", "--policy", words[0], "--labels", "policy", "--seed", first, "--episodes", 1)
    run(*words, "--env", POINT, "--output", "again.h5", "--overwrite", *chosen, cwd=points)
    file = points / f"{model}-one" / "failures.h5"
    assert np.array_equal(first_actions(points / "again.h5"), first_actions(file))


def test_videos_show_the_policy_with_the_seed_that_was_evaluated(tmp_path):
    words = ("--env", "toy_dot:Toys/Dot-v0", "--expert", "toy_dot:expert", "--output", "d.h5")
    run("record", *words, "--episodes", 60, cwd=tmp_path)
    run("train", "--model", "flow", "--dataset", "d.h5", "--max-steps", 30, "--warmup-steps", 5,
        "--checkpoint-dir", "c", cwd=tmp_path)  # fmt: skip
    lengths = []
    for seed in (0, 5):
        words = ("--policy-seed", seed, "--video", f"v{seed}", "--video-episodes", 6, "--json")
        out, _ = run("eval", "c/final.pt", "--episodes", 6, *words, cwd=tmp_path)
        results = json.loads(out)
        assert [video["success"] for video in results["videos"]] == results["successes"]
        lengths.append(results["lengths"])
    assert lengths[0] != lengths[1], "says nothing if the seed does not matter"


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    pytest.importorskip("simscaleai_plugin_sim", reason="needs simscaleai-plugin-sim")
    place = tmp_path_factory.mktemp("arm")
    run("record", "--env", "pick_place", "--episodes", 30, "--output", "p.h5", cwd=place)
    run("train", "--dataset", "p.h5", "--max-steps", 400, "--warmup-steps", 20, "--lr", 2e-3,
        "--batch-size", 64, "--checkpoint-dir", "ck", cwd=place)  # fmt: skip
    return place


def test_what_an_arm_fails_at(arm):
    results, recorded, _ = failures("ck/final.pt", "f", "--episodes", 60, cwd=arm)
    failed = lengths_of_failures(results)
    assert 10 < len(failed) < 55, "says nothing if it always fails, or never"
    assert len(recorded) >= 0.9 * len(failed)
    assert all(not success for success, _ in recorded.values())
    assert set(recorded) <= set(failed)
    assert {row["name"] for row in results["common"]} >= {"object_x", "target_y"}
    assert all(0 <= row["p_value"] <= row["p_value_corrected"] <= 1 for row in results["common"])
    films = [Path(film).name for film in results["films"]]
    assert films == [f"seed_{seed}.mp4" for seed in sorted(recorded)[:2]]
    names = {"conditions.json", "failures.h5", "contact_sheet.png", *films}
    assert {path.name for path in (arm / "f").iterdir()} == names
    run("data", "check", "f/failures.h5", cwd=arm)


def test_without_graphics_only_the_films_are_missing(arm):
    words = ("ck/final.pt", "g", "--episodes", 30)
    results, recorded, said = failures(*words, cwd=arm, MUJOCO_GL="disable")
    assert recorded and results["films"] == []
    assert len([line for line in said.splitlines() if "no films" in line]) == 1
    assert {path.name for path in (arm / "g").iterdir()} == {"conditions.json", "failures.h5"}


def test_a_policy_that_sees_and_follows_instructions(tmp_path):
    pytest.importorskip("simscaleai_plugin_vla", reason="needs simscaleai-plugin-vla")
    pytest.importorskip("simscaleai_plugin_sim", reason="needs simscaleai-plugin-sim")
    run("record", "--env", "reach_language", "--episodes", 12, "--images", 32, "--output", "l.h5",
        cwd=tmp_path)  # fmt: skip
    run("train", "--model", "vla", "--vla.size", "debug", "--vla.action-horizon", 2, "--dataset",
        "l.h5", "--max-steps", 30, "--batch-size", 8, "--warmup-steps", 5, "--checkpoint-dir", "ck",
        cwd=tmp_path)  # fmt: skip
    results, recorded, _ = failures("ck/final.pt", "f", "--episodes", 8, cwd=tmp_path)
    assert set(recorded) == set(lengths_of_failures(results)) and len(results["films"]) == 2
    with h5py.File(tmp_path / "f" / "failures.h5") as file:
        said = [group.attrs["language"] for group in file.values()]
        assert all(group["observations/image"].shape[1:] == (32, 32, 3) for group in file.values())
    given = dict(zip(results["seeds"], results["instructions"], strict=True))
    assert said == [given[seed] for seed in recorded] and len(set(said)) > 1

    words = ("--episodes", 3, "--language", "touch the green ball")
    failures("ck/final.pt", "told", *words, cwd=tmp_path)
    with h5py.File(tmp_path / "told" / "failures.h5") as file:
        assert {group.attrs["language"] for group in file.values()} == {"touch the green ball"}
