"""The page of a real run in a real browser: no error, and what should be seen is seen."""

from __future__ import annotations

import html
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from page_tags import elements_of
from run_files import sweep

from simscaleai_core.cli.app import run as simscale

RATES = {"first/final.pt": [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], "expert": [1.0] * 6}

pytestmark = pytest.mark.slow

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PROBE = """
<script>
addEventListener("load", () => {
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const boxes = (s) => [...document.querySelectorAll(s)].filter((e) => e.checkVisibility()).map(box);
  const seen = {
    width: innerWidth, page: document.documentElement.scrollWidth,
    verdicts: boxes(".verdict"), panels: boxes(".panel .plot"), curves: boxes("polyline"),
    squares: boxes(".seeds i"), cells: boxes(".heat rect[fill]"),
    letters: [...document.querySelectorAll(".heat text")].filter((e) => e.checkVisibility()).map(
      (e) => { const b = box(e), c = e.closest("svg").getBoundingClientRect();
               return [b[3] - b[1], b[0] - c.left, c.right - b[2]]; }), pictures: [...document.images].map((i) => i.naturalWidth),
    films: [...document.querySelectorAll("video")].map((v) => v.error ? v.error.message : ""),
    names: [...document.querySelectorAll("h1")].map((e) => e.innerText),
    columns: new Set(boxes(".panel").map((b) => Math.round(b[0]))).size,
    ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
  };
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>
"""
FRAME = """<!DOCTYPE html><title>frame</title>
<iframe src="{name}" width="{width}" height="2400" style="border: 0"></iframe>
<script>
addEventListener("message", (event) => {{
  const out = document.createElement("pre");
  out.id = "seen"; out.textContent = event.data; document.body.append(out);
}});
</script>
"""
"""A window is never narrower than 500 pixels; a frame in it is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of one run and of three, recorded, trained and evaluated here."""
    folder = tmp_path_factory.mktemp("browser")
    data, names = folder / "reach.h5", ["first", "second", "third"]
    words = f"record --env reach --episodes 12 --output {data}"
    assert simscale(words.split()) == 0
    for name, steps in zip(names, (120, 60, 20), strict=True):
        train = f"train --model bc --dataset {data} --max-steps {steps} --warmup-steps 5"
        flags = f"--log-every 5 --eval-every 20 --checkpoint-dir {folder / name}"
        assert simscale(f"{train} {flags} --num-workers 0 --device cpu".split()) == 0
        words = f"eval {folder / name}/final.pt --episodes 8 --output {folder / name}/eval.json"
        films = ["--video", str(folder / name / "video"), "--video-episodes", "2"]
        assert simscale([*words.split(), *films]) == 0
    sweep(folder / "first" / "sweep.json", {"delay": [0, 1], "friction": [0.5, 1, 2]}, RATES)
    assert simscale(["report", str(folder / "first"), "--output", str(folder / "one.html")]) == 0
    runs = [str(folder / name) for name in names]
    assert simscale(["report", *runs, "--output", str(folder / "three.html")]) == 0
    return folder


def chromium(page: Path, width: int, *flags: str) -> subprocess.CompletedProcess[str]:
    """Show a page in a browser of its own that has no window."""
    if BROWSER is None:
        pytest.skip("there is no Chromium on this machine")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += [f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},2400"]
    words += ["--virtual-time-budget=3000", "--enable-logging=stderr", *flags, page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)


def seen_in(page: Path, width: int, *flags: str) -> dict[str, Any]:
    """Return what a browser shows of a page; a copy of it without its policy measures itself."""
    shown = chromium(page, width, *flags, "--dump-dom")
    assert "CONSOLE" not in shown.stderr, shown.stderr
    text = page.read_text(encoding="utf-8")
    policy = next(line for line in text.splitlines() if "Content-Security-Policy" in line)
    measured = page.with_name(f"measured-{page.name}")
    measured.write_text(text.replace(policy, "").replace("</body>", f"{PROBE}</body>"))
    frame = page.with_name(f"frame-{page.name}")
    frame.write_text(FRAME.format(name=measured.name, width=width))
    dumped = chromium(frame, width + 100, *flags, "--dump-dom")
    assert "CONSOLE" not in dumped.stderr, dumped.stderr
    _, _, rest = dumped.stdout.partition('<pre id="seen">')
    found: dict[str, Any] = json.loads(html.unescape(rest.partition("</pre>")[0]))
    return found


@pytest.mark.parametrize(("width", "columns"), [(1280, 3), (390, 1)])
def test_one_run(folder: Path, width: int, columns: int) -> None:
    seen = seen_in(folder / "one.html", width)
    assert seen["width"] == width and seen["page"] <= width  # nothing sticks out
    assert seen["names"] == ["first"] and seen["columns"] == columns
    assert seen["verdicts"][0][3] < 300  # the answer is seen without scrolling
    assert len(seen["panels"]) == 3 and len(seen["curves"]) == 4 and len(seen["squares"]) == 8
    for left, top, right, bottom in [*seen["panels"], *seen["squares"]]:
        assert 0 <= left < right <= width and top < bottom
    assert all(right - left > width / 2 / columns - 60 for left, _, right, _ in seen["panels"])
    assert min(seen["pictures"]) > 100 and seen["films"] == ["", ""]
    assert len(seen["cells"]) >= 2 * 6 + 2  # of the sweep, and where it succeeds
    for left, top, right, bottom in seen["cells"]:
        assert 0 <= left < left + 30 < right <= width and top + 30 < bottom
    assert all(size > 9 and left > -1 and right > -1 for size, left, right in seen["letters"])


@pytest.mark.parametrize("width", [1280, 390])
def test_three_runs(folder: Path, width: int) -> None:
    seen = seen_in(folder / "three.html", width)
    assert seen["width"] == width and seen["page"] <= width
    assert seen["names"] == ["3 runs compared", "first", "second", "third"]
    assert len(seen["verdicts"]) == 4 and seen["verdicts"][0][3] < 300
    assert len(seen["panels"]) == 4 and len(seen["curves"]) == 12
    assert not seen["squares"]  # each run's own part is closed


def test_the_report_takes_little_time(folder: Path) -> None:
    words = [sys.executable, "-m", "simscaleai_core", "report", str(folder / "first")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    target = folder / "timed.html"
    subprocess.run([*words, "--output", str(target)], check=True, capture_output=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert target.stat().st_size < 8e6


def test_dark(folder: Path) -> None:
    light = seen_in(folder / "one.html", 1280)
    dark = seen_in(folder / "one.html", 1280, "--blink-settings=preferredColorScheme=0")
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(18, 21, 25)")
    assert light["ink"] != dark["ink"]


def test_the_commands_of_the_page_give_the_same_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    train, evaluation = ["".join(e.pieces) for e in elements_of(folder / "one.html").all("pre")]
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for lines in (train, evaluation):
        subprocess.run(["bash", "-ec", lines], check=True, timeout=240, capture_output=True)
    one, two = (
        torch.load(path, weights_only=True)["model_state_dict"]
        for path in (folder / "first" / "final.pt", folder / "first-again" / "final.pt")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    first, again = (
        json.loads((folder / f / "eval.json").read_text()) for f in ("first", "first-again")
    )
    assert first["returns"] == again["returns"] and first["seeds"] == again["seeds"]
