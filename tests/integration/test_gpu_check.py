"""The check on a GPU runs as far as it goes without one, and says what it left out."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "gpu_check"

STRANGE = '''
import os, subprocess, sys, time

def hangs(context, found):
    """A rank of torchrun is in a session of its own, as this process is."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                             start_new_session=True)
    with open({pid!r}, "w") as file:
        file.write(str(child.pid))
    time.sleep(60)

def dies(context, found):
    os._exit(7)

def raises(context, found):
    raise ValueError("the kernel | of one thing")

def works(context, found):
    found.facts["answer"] = 42.0
'''
CHECKS = """
CHECKS = tuple(Check(name, f"it {name}", f"strange:{name}", 1)
               for name in ("hangs", "dies", "raises", "works"))
"""


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gpu_check_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def check(output: Path, *arguments: str, folder: Path = FOLDER) -> tuple[int, Any, str]:
    """Return the exit status, the results by name, and the page."""
    command = [sys.executable, str(folder), "--device", "cpu", "--output", str(output), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=output.parent, check=False
    )
    (results,) = output.glob("*-gpu-check.json")
    (page,) = output.glob("*-gpu-check.md")
    report = json.loads(results.read_text())
    return done.returncode, {c["name"]: c for c in report["checks"]}, page.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_that_needs_no_gpu_works_on_the_cpu(tmp_path: Path) -> None:
    status, found, page = check(tmp_path / "out", "--limit-s", "1400")
    said = {name: (c["status"], c["message"]) for name, c in found.items()}
    assert said.pop("no-waiting") == ("skipped", "needs CUDA")
    optional = {"rendering": said.pop("rendering")}
    assert {name for name, (state, _) in said.items() if state != "passed"} == set(), said
    assert optional["rendering"][0] in {"passed", "skipped"}
    assert status == 0
    assert "**Not run on a GPU.**" in page
    assert all(f"| {name} |" in page for name in found)
    for name in ("speed-M", "speed-L"):
        ours, by_hand = found[name]["rows"]
        assert (ours["loop"], by_hand["loop"]) == ("simscaleai", "by hand")
        assert ours["tokens/s"] > 0
        assert ours["MFU"] == "no peak known"
        assert f"## {name}" in page
    ways = [row["way"] for row in found["feed"]["rows"]]
    assert len(ways) == 5
    assert found["resume-exact"]["facts"]["vla bf16"] == "equal"
    assert found["fp16"]["facts"]["scales"] == "1024 to 512"


@pytest.mark.slow
def test_a_check_that_fails_or_hangs_ends_no_other(tmp_path: Path) -> None:
    folder, pid = tmp_path / "gpu_check", tmp_path / "pid"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "checks.py").open("a") as file:
        file.write(CHECKS)
    (folder / "strange.py").write_text(STRANGE.format(pid=str(pid)))
    status, found, page = check(tmp_path / "out", folder=folder)
    assert {name: c["status"] for name, c in found.items()} == {
        "hangs": "timed out", "dies": "failed", "raises": "failed", "works": "passed",
    }  # fmt: skip
    assert status == 1
    assert "ended with 7" in found["dies"]["message"]
    assert found["raises"]["message"] == "ValueError: the kernel | of one thing"
    assert "the kernel / of one thing" in page
    assert "answer 42" in page
    state = Path(f"/proc/{pid.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_there_is_no_time_for_is_said(tmp_path: Path) -> None:
    status, found, page = check(tmp_path / "out", "--limit-s", "2")
    assert status == 0
    assert {c["status"] for c in found.values()} == {"left out"}
    assert "2 s were left of 2 s" in page
    assert {"fp32", "nccl", "fsdp", "compile", "feed", "rendering"} <= found.keys()


def test_wheels_are_unpacked_where_the_machine_has_no_newer(tmp_path: Path) -> None:
    for wheel in ("simscaleai_core-0.0.1", "attrs-1.0", "missing_one-1.0", "torch-99.0"):
        with zipfile.ZipFile(tmp_path / f"{wheel}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{wheel.partition('-')[0]}/__init__.py", "")
    unpack = module("wheels").unpack
    taken = unpack(tmp_path, tmp_path / "site")
    assert taken == ["missing_one", "simscaleai_core", "torch"]  # this attrs is newer than 1.0
    assert sorted(p.name for p in (tmp_path / "site").iterdir()) == sorted(taken)
    with zipfile.ZipFile(tmp_path / "odd-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("odd-1.0.data/purelib/odd.py", "")
    with pytest.raises(RuntimeError, match=r"odd-1\.0.*pip"):
        unpack(tmp_path, tmp_path / "again")


def test_everything_that_is_packed_has_a_version_and_torch_is_not() -> None:
    pack = module("pack")
    names = [line.partition("==")[0] for line in pack._pinned()]
    assert len(names) == len(pack.THIRD_PARTY)
    assert not {"torch", "torchvision", "triton"} & set(names)
    assert pack.LIMIT_MB == 60.0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 311.9),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_of_a_device_is_known_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "checks", raising=False)
    assert module("machine").peak_tflops(name) == peak
    sys.modules.pop("checks", None)
