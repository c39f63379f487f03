"""A trajectory file that is damaged or hostile gives its whole contents, or one clear line.

Each mutant is looked at in a forked child: ``data check``, ``data show`` and a training dataset. A
child that opens what a link names would wait for ever, because every such name is a pipe.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import itertools
import json
import os
import re
import resource
import signal
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import forked_runs
import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.reading.allowance import FREE_BYTES, MAX_RATIO
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.cli.app import run
from simscaleai_core.errors import SimScaleError

HANG_S = 10.0
MEMORY_FACTOR = 8
"""Bytes of memory per byte that a file may declare: a batch of images is float32."""
SEED = int(os.environ.get("SIMSCALE_CAMPAIGN_SEED", "0"))
USES = ("check", "show", "train")
SIGNATURES = (b"\x89HDF", b"OHDR", b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"GCOL", b"FAHD", b"FADB")
OLD_SIGNATURES = (b"TREE", b"SNOD", b"HEAP", b"GCOL")

Random = np.random.Generator
Mutate = Callable[[Path, Random], None]


def write_sound_file(path: Path) -> None:
    """Write six episodes with our writer, which puts a checksum on everything."""
    rng = np.random.default_rng(1)
    with EpisodeWriter(path, env="reach") as writer:
        for number in range(4):
            steps = 5 + number
            observations = {
                "joint_pos": rng.normal(size=(steps, 7)),
                "ee_pos": rng.normal(size=(steps, 3)).astype(np.float32),
                "image": rng.integers(0, 256, (steps, 12, 12, 3), dtype=np.uint8),
            }
            words, actions = f"reach target {number % 2}", rng.normal(size=(steps, 4))
            done = {"language": words, "success": number != 2, "seed": number}
            name = writer.write(observations, actions, rng.normal(size=steps), **done)
        writer.relabel(name, rng.normal(size=(8, 4)), language="touch the table")


def write_file_without_checksums(path: Path) -> None:
    """Write a file as h5py does it by default, as most people's files are."""
    rng = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        file.attrs["env_name"] = "reach"
        for number in range(4):
            group = file.create_group(f"episode_{number}")
            group.attrs["language"] = f"reach target {number % 2}"
            group["observations/joint_pos"] = rng.normal(size=(6, 7))
            group.create_dataset(
                "observations/image",
                data=rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
                chunks=(1, 8, 8, 3),
                compression="lzf" if number % 2 else "gzip",
            )
            group.create_dataset(
                "actions", data=rng.normal(size=(6, 4)), chunks=(2, 4), shuffle=True
            )
            group["rewards"] = np.zeros(6)


# Mutants of the bytes.


def places(raw: bytes, signatures: tuple[bytes, ...]) -> list[int]:
    """Return where the structures of the file begin."""
    return [m.start() for s in signatures for m in re.finditer(re.escape(s), raw)]


def mutate_bytes(path: Path, rng: Random, signatures: tuple[bytes, ...] = SIGNATURES) -> None:
    """Damage a file in one of seven ways, more often in its structure than in its data."""
    raw = bytearray(path.read_bytes())
    known = places(bytes(raw), signatures)

    def position() -> int:
        if rng.random() < 0.6:
            return min(int(rng.choice(known)) + int(rng.integers(300)), len(raw) - 1)
        return int(rng.integers(len(raw)))

    size = int(rng.choice([1, 2, 4, 8, 16, 64, 256]))
    one, two = (min(position(), len(raw) - size) for _ in range(2))
    way = rng.integers(7)
    if way == 0:
        for _ in range(rng.integers(1, 6)):
            raw[position()] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del raw[int(rng.integers(len(raw))) :]
    elif way == 2:
        raw[one : one + size], raw[two : two + size] = raw[two : two + size], raw[one : one + size]
    elif way == 3:
        raw[one : one + size] = raw[two : two + size]
    elif way == 4:
        values = (bytes(size), b"\xff" * size, rng.bytes(size))
        raw[one : one + size] = values[rng.integers(3)]
    elif way == 5:
        address = (int(rng.choice(known)), len(raw), 2**32, 2**63 - 1)[rng.integers(4)]
        raw[one & ~7 : (one & ~7) + 8] = address.to_bytes(8, "little")
    else:
        del raw[one : one + size]
    path.write_bytes(raw)


def mutate_old_bytes(path: Path, rng: Random) -> None:
    """Damage a file whose structure carries no checksums."""
    mutate_bytes(path, rng, OLD_SIGNATURES)


# Hostile contents, made with h5py.

HOSTILE: list[Mutate] = []


def hostile(edit: Callable[[h5py.File, Random], None]) -> Callable[[h5py.File, Random], None]:
    """Register a way to make a file hostile."""

    def mutate(path: Path, rng: Random) -> None:
        with h5py.File(path, "a", libver="v110") as file:
            edit(file, rng)

    HOSTILE.append(mutate)
    return edit


def chosen(file: h5py.File, rng: Random) -> tuple[h5py.Group, str, Any]:
    """Return the group, name and values of a dataset, which is removed from the file."""
    episode = file[f"episode_{rng.integers(4)}"]
    where = ("observations/joint_pos", "observations/image", "actions", "rewards")[rng.integers(4)]
    group, name = episode[where].parent, where.rpartition("/")[2]
    values = group[name][()]
    del group[name]
    return group, name, values


@hostile
def link_elsewhere(file: h5py.File, rng: Random) -> None:
    level = ("", "/observations", "/observations/image", "/actions", "/rewards")[rng.integers(5)]
    path = f"episode_{rng.integers(4)}{level}"
    del file[path]
    targets = (
        h5py.ExternalLink("trap", "/x"),
        h5py.ExternalLink("file.h5", path),
        h5py.SoftLink("/episode_3/actions"),
        h5py.SoftLink(f"/{path}"),
    )
    file[path] = targets[rng.integers(4)]


@hostile
def data_elsewhere(file: h5py.File, rng: Random) -> None:
    group, name, values = chosen(file, rng)
    if rng.random() < 0.5:
        external = [("trap", int(rng.integers(9)), values.nbytes)]
        group.create_dataset(name, shape=values.shape, dtype=values.dtype, external=external)
    else:
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource("trap", "x", values.shape)
        group.create_virtual_dataset(name, layout)


@hostile
def declared_sizes(file: h5py.File, rng: Random) -> None:
    """Every dataset of an episode claims timesteps that were never written."""
    steps = int(2 ** rng.uniform(18, 40))
    group = file[f"episode_{rng.integers(4)}"]
    for path in ("observations/joint_pos", "observations/ee_pos", "observations/image"):
        declare(group, path, (steps, *group[path].shape[1:]), rng)
    declare(group, "actions", (steps, 4), rng)
    declare(group, "rewards", (steps,), rng)


@hostile
def declared_everywhere(file: h5py.File, rng: Random) -> None:
    """No single dataset is large, but a million of them are."""
    del file["episode_4"]
    count = int(2 ** rng.uniform(4, 12))
    steps = int(2 ** rng.uniform(19, 30)) // count
    first = file["episode_0"]
    for path in ("observations/joint_pos", "observations/ee_pos", "observations/image"):
        declare(first, path, (steps, *first[path].shape[1:]), rng)
    declare(first, "actions", (steps, 4), rng)
    declare(first, "rewards", (steps,), rng)
    for number in range(5, 5 + count):
        file[f"episode_{number}"] = first


def declare(group: h5py.Group, path: str, shape: tuple[int, ...], rng: Random) -> None:
    dtype = group[path].dtype
    del group[path]
    chunks = (
        (int(rng.choice([1, 2, min(1024, shape[0])])), *shape[1:]) if rng.random() < 0.6 else None
    )
    group.create_dataset(path, shape=shape, dtype=dtype, chunks=chunks)


@hostile
def huge_timesteps(file: h5py.File, rng: Random) -> None:
    """One timestep is huge: images of a gigapixel, or a million dimensions."""
    size = int(2 ** rng.uniform(12, 16))
    shape, dtype = [((size, size, 3), "u1"), ((size * 512,), "f8")][rng.integers(2)]
    key = "image" if len(shape) == 3 else "joint_pos"
    for number in range(5):
        if f"episode_{number}/observations/{key}" in file and number != 4:
            group = file[f"episode_{number}/observations"]
            steps = len(group[key])
            del group[key]
            group.create_dataset(key, shape=(steps, *shape), dtype=dtype, chunks=True)


@hostile
def many_links(file: h5py.File, rng: Random) -> None:
    """One episode under thousands of names, or a group inside itself."""
    count = int(2 ** rng.uniform(10.5, 15))
    if rng.random() < 0.5:
        for number in range(5, 5 + count):
            file[f"episode_{number}"] = file["episode_0"]
    else:
        observations = file["episode_0/observations"]
        for number in range(count):
            observations[f"key_{number}"] = observations["joint_pos"]
        for number in range(1, 5):
            if f"episode_{number}/observations" in file:
                del file[f"episode_{number}/observations"]
            file[f"episode_{number}/observations"] = observations
        observations["again"] = observations


@hostile
def chunk_contents(file: h5py.File, rng: Random) -> None:
    """A chunk that decodes to more or less than its size, or says that it went through no filter."""
    group, name, values = chosen(file, rng)
    filters = [{"compression": "gzip"}, {"compression": "lzf"}, {}][rng.integers(3)]
    made = group.create_dataset(
        name, data=values, chunks=values.shape, shuffle=bool(rng.integers(2)), **filters,
        fletcher32=not filters or bool(rng.integers(2)),
    )  # fmt: skip
    contents = (
        zlib.compress(bytes(int(2 ** rng.uniform(20, 27)))),
        zlib.compress(bytes(max(1, values.nbytes // 2))),
        zlib.compress(values.tobytes())[:-5],
        b"\0",
        rng.bytes(int(rng.integers(1, 300))),
        b"\xff\xff\x00" * int(2 ** rng.uniform(2, 12)),
    )
    made.id.write_direct_chunk((0,) * values.ndim, contents[rng.integers(6)], int(rng.integers(4)))


@hostile
def foreign_filters(file: h5py.File, rng: Random) -> None:
    group, name, values = chosen(file, rng)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(values.shape)
    for _ in range(rng.integers(1, 4)):
        code = int(rng.choice([1, 2, 3, 5, 6, 32000, 32001, 32015, 40000]))
        options = tuple(int(n) for n in rng.integers(0, 2**31, rng.integers(0, 12)))
        with contextlib.suppress(ValueError, RuntimeError):
            properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, options)
    space = h5py.h5s.create_simple(values.shape)
    kind = h5py.h5t.py_create(values.dtype)
    with contextlib.suppress(ValueError, RuntimeError):
        made = h5py.h5d.create(group.id, name.encode(), kind, space, properties)
        made.write_direct_chunk((0,) * values.ndim, rng.bytes(int(2 ** rng.uniform(1, 14))))


@hostile
def odd_types(file: h5py.File, rng: Random) -> None:
    group, name, values = chosen(file, rng)
    nested: Any = np.dtype("f8")
    for _ in range(rng.integers(1, 40)):
        nested = h5py.vlen_dtype(nested)
    dtypes = (
        h5py.vlen_dtype(np.uint8), nested, h5py.string_dtype(), np.dtype("S70000"), h5py.ref_dtype,
        h5py.regionref_dtype, np.dtype([("x", "f8"), ("y", h5py.string_dtype())]), np.dtype("V9"),
        np.dtype([(f"n{number}", "f8") for number in range(1000)]), np.dtype("c16"),
        np.dtype(("f8", (1000,))),
    )  # fmt: skip
    group.create_dataset(name, shape=(len(values),), dtype=dtypes[rng.integers(len(dtypes))])


@hostile
def text_attributes(file: h5py.File, rng: Random) -> None:
    owner, name = [(file, "env_name"), (file[f"episode_{rng.integers(4)}"], "language")][
        rng.integers(2)
    ]
    text = "x" * int(2 ** rng.uniform(4, 15))
    values: tuple[Any, ...] = (
        [text] * int(rng.integers(2, 4000)), text * 8, h5py.Empty("S10"), 5, np.ones((3, 3)),
        np.bytes_(b"\xff\xfe" + text.encode()), "\x1b[2Jgone", "a\udcff", b"\0",
    )  # fmt: skip
    value = values[rng.integers(len(values))]
    with contextlib.suppress(UnicodeError, OSError, RuntimeError, ValueError):
        del owner.attrs[name]
        owner.attrs[name] = value
    if name not in owner.attrs:
        owner.attrs[name] = 5


@hostile
def success_attributes(file: h5py.File, rng: Random) -> None:
    values: tuple[Any, ...] = ("yes", ["a"] * 3000, h5py.Empty("f8"), np.zeros(2, dtype="V7"))
    file[f"episode_{rng.integers(4)}"].attrs["success"] = values[rng.integers(4)]


@hostile
def odd_names(file: h5py.File, rng: Random) -> None:
    """Keys that are paths, no UTF-8, or written for a terminal; numbers that are no number."""
    names = (
        b"\xff\xfe",
        b"\x1b[31mred",
        b"a\rb",
        "a\u202eb".encode(),
        b"\x9b2J",
        b".hidden",
        b"n" * 60000,
    )
    group = file[f"episode_{rng.integers(4)}/observations"]
    raw = names[rng.integers(len(names))]
    h5py.h5o.link(group["joint_pos"].id, group.id, raw)


@hostile
def things_beside_the_data(file: h5py.File, rng: Random) -> None:
    """What nobody reads does no harm: the contents are the same."""
    file["notes"] = np.arange(9)
    file["elsewhere"] = h5py.ExternalLink("trap", "/x")
    file["episode_" + "9" * int(rng.integers(30, 5000))] = h5py.SoftLink("/nowhere")
    file["episode_0/extra"] = h5py.ExternalLink("trap", "/x")
    file["episode_0/observations/image"].attrs["CLASS"] = ["IMAGE"] * 500
    file["episode_0/observations/image"].attrs["PALETTE"] = np.zeros(3)


# What is done with each.


def contents(path: Path) -> str:
    """Return a digest of all that a training run can see of a file."""
    digest = hashlib.sha256()
    for cache_images_gib in (2.0, 0.0):
        dataset = TrajectoryDataset(
            path, seq_len=2, include_language=True, cache_images_gib=cache_images_gib
        )
        told = dataset.describe()
        digest.update(repr((told.fingerprint, told.env, told.instructions, len(dataset))).encode())
        for start in range(0, min(len(dataset), 400), 16):
            batch = dataset.__getitems__(range(start, min(start + 16, len(dataset)))).batch
            for key, value in sorted(batch["observations"].items()):
                digest.update(key.encode("utf-8", "surrogateescape") + value.numpy().tobytes())
            digest.update(batch["actions"].numpy().tobytes())
    return digest.hexdigest()


def look(path: Path) -> dict[str, Any]:
    """Use a file in the three ways; of each: what it gave, or the lines that refused it."""
    found: dict[str, Any] = {}
    started = [time.monotonic()]
    for command in ("check", "show"):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(["data", command, str(path), "--json"])
        lines = [line for line in err.getvalue().splitlines() if not line.startswith("warning")]
        found[command] = {"gave": out.getvalue()} if status == 0 else {"refused": lines}
        assert status in {0, 2}, status
        started.append(time.monotonic())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            found["train"] = {"gave": contents(path)}
        except SimScaleError as error:
            found["train"] = {"refused": ["error: " + line for line in str(error).splitlines()]}
    started.append(time.monotonic())
    found["longest_s"] = max(b - a for a, b in itertools.pairwise(started))
    return found


def look_and_tell(path: Path) -> int:
    """Look at a file in this process, and write down what came of it and how much memory it took."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = memory_kib("VmRSS")
    limit = (memory_kib("VmSize") + 4 * 2**20) * 2**10
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    h5py.h5pl.append(str(path.parent).encode())  # a library in there is a pipe too
    found = look(path)
    peak = max(memory_kib("VmHWM"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    found["memory_bytes"] = (peak - before) * 2**10
    path.with_suffix(".json").write_text(json.dumps(found))
    return 0


def memory_kib(field: str) -> int:
    return int(re.findall(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


@pytest.fixture(scope="module")
def warm_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Everything imported and run once, so that each child starts where the last one did."""
    path = tmp_path_factory.mktemp("warm") / "file.h5"
    write_sound_file(path)
    look(path)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which what hostile files name is a pipe."""
    for name in ("trap", "libfilter.so"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def outcome(path: Path) -> dict[str, Any] | str:
    """Look at a file in a child: what it found, or how it failed."""
    log = path.with_suffix(".log")
    pid = forked_runs.fork(lambda: look_and_tell(path), log)
    deadline = time.monotonic() + 3 * HANG_S
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hung over 10 s"
        time.sleep(0.002)
    lines = log.read_text().splitlines(keepends=True)
    said = "".join(line for line in lines if not line.startswith("info: "))
    if done[1] != 0 or said:
        return f"crashed with status {os.waitstatus_to_exitcode(done[1])} {said[-800:]}"
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return "hung over 10 s" if found["longest_s"] > HANG_S else found


def faults(found: dict[str, Any], sound: dict[str, Any] | None) -> list[str]:
    """Name what is neither the contents of the sound file, if they are known, nor one line."""
    wrong = []
    for use in USES:
        lines = found[use].get("refused")
        if lines is None:
            if sound is not None and found[use] != sound[use]:
                wrong.append(f"{use} gave something else")
        elif len(lines) != 1 or not re.match(r"error: .* @ .*\.$", lines[0]):
            wrong.append(f"{use} said {lines}")
        elif not lines[0].isprintable():
            wrong.append(f"{use} said what a terminal obeys: {lines[0]!r}")
    return wrong


def try_mutants(
    write: Callable[[Path], None],
    mutations: Iterable[Mutate],
    folder: Path,
    tally: Any,
    accepted: str,
    *,
    is_checked: bool,
) -> None:
    """Look at mutants of one file and count what came of each; the first wrong one fails."""
    path = folder / "file.h5"
    write(path)
    raw, sound = path.read_bytes(), outcome(path)
    assert isinstance(sound, dict), sound
    assert all("gave" in sound[use] for use in USES), sound
    tally.update({"tried": 0, accepted: 0, "refused with one line": 0})
    for number, mutate in enumerate(mutations):
        path.write_bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mutate(path, np.random.default_rng([SEED, number]))
        found = outcome(path)
        wrong = [found] if isinstance(found, str) else faults(found, sound if is_checked else None)
        if isinstance(found, dict):
            used, size = found["memory_bytes"], path.stat().st_size
            if used > MEMORY_FACTOR * (FREE_BYTES + MAX_RATIO * size):
                wrong.append(f"took {used / 2**20:.0f} MiB for {size} bytes")
            is_refused = any("refused" in found[use] for use in USES)
            tally["refused with one line" if is_refused else accepted] += 1
            tally["MiB peak memory"] = max(tally["MiB peak memory"], used >> 20)
        tally["tried"] += 1
        assert not wrong, f"mutant {number} of seed {SEED} @ {path}: {wrong}"
    tally.update({"crashed": 0, "hung over 10 s": 0})
    assert tally[accepted]
    assert tally["refused with one line"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("warm_process")
def test_mutants(folder: Path, campaign: Any, scaled: Callable[[int], int]) -> None:
    """Half of them have damaged bytes, half hostile contents."""
    mutations = [
        HOSTILE[number // 2 % len(HOSTILE)] if number % 2 else mutate_bytes
        for number in range(scaled(500))
    ]
    tally = campaign("hdf5 mutants")
    try_mutants(write_sound_file, mutations, folder, tally, "accepted unchanged", is_checked=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("warm_process")
def test_mutants_without_checksums(
    folder: Path, campaign: Any, scaled: Callable[[int], int]
) -> None:
    """Nobody can tell that a number was changed; the rest is promised of these files too."""
    tally = campaign("hdf5 mutants without checksums")
    mutations = [mutate_old_bytes] * scaled(200)
    try_mutants(
        write_file_without_checksums, mutations, folder, tally, "accepted", is_checked=False
    )
