"""Checks of checkpoint backends: exact and harmless; and the suite with all checks of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import torch

from simscaleai_devkit.checkpoints.damage import DAMAGE_CHECKS
from simscaleai_devkit.checkpoints.driver import SUFFIX, loaded, saved, store_in, suffix_of
from simscaleai_devkit.checks import checks_in, expect, expect_none, must_work
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.listeners import StateKeeper
from simscaleai_devkit.support.process import process_unchanged
from simscaleai_devkit.support.trees import edge_case_tree, expect_equal
from simscaleai_devkit.support.writes import watched_writes


def check_suffix_is_one(subject: Subject) -> None:
    """`suffix` is a dot and letters, so that files can be distinguished by it."""
    suffix = getattr(subject.build(), "suffix", None)
    expect(
        isinstance(suffix, str) and SUFFIX.match(suffix),
        "suffix",
        expected="a dot and letters, such as '.pt'",
        found=repr(suffix),
        remedy="Set the class attribute `suffix`.",
    )


def check_round_trip_is_exact(subject: Subject) -> None:
    """Every kind of value that a checkpoint may hold comes back to the last bit."""
    path = saved(subject, edge_case_tree())
    remedy = "Save and load must be inverse for tensors of every dtype and plain containers."
    with must_work("loading a tree that was just saved", remedy=remedy):
        found = subject.build().load(path)
    remedy = "Keep types, dtypes, shapes, the order of keys and every bit."
    expect_equal(found, edge_case_tree(), "what was loaded, against what was saved", remedy=remedy)


def check_saving_changes_nothing(subject: Subject) -> None:
    """Saving leaves the tree that it is given as it was: training goes on with it."""
    tree = edge_case_tree()
    backend = subject.build()
    backend.save(subject.folder / f"step_1{suffix_of(backend)}", tree)
    remedy = "Copy what has to be converted."
    expect_equal(
        tree, edge_case_tree(), "the tree after it was saved", expected="as before", remedy=remedy
    )


def check_loaded_memory_is_its_own(subject: Subject) -> None:
    """Changing a loaded tensor changes neither the file nor a second load; tensors are on the CPU.

    A file that is mapped into memory would change under a run that is resumed from it.
    """
    path = saved(subject, {"w": torch.ones(64)})
    backend = subject.build()
    first = loaded(backend, path)
    expect(
        first["w"].device.type == "cpu",
        "a loaded tensor is on another device",
        expected="cpu",
        found=first["w"].device,
        remedy="Load with map_location='cpu'.",
    )
    first["w"][0] = 5.0
    again = loaded(backend, path)
    expect(
        torch.equal(again["w"], torch.ones(64)),
        "changing a loaded tensor changed the file",
        expected="memory of its own for each load",
        found="shared memory",
        remedy="Read the file instead of mapping it, or copy the tensors.",
    )


def check_writes_only_where_it_is_told(subject: Subject) -> None:
    """Saving makes one file or one directory, and leaves the process as it was.

    What it writes elsewhere for a while has a name that no other save uses.
    """
    folder = subject.folder / "only"
    folder.mkdir()
    backend = subject.build()
    name = f".step_1{suffix_of(backend)}.tmp-7"
    with process_unchanged(
        "the process after saving", remedy="Undo the change, or do without.", check_stdout=True
    ):
        backend.save(folder / name, edge_case_tree())
        names = sorted(p.name for p in folder.iterdir())
    expect(
        names == [name],
        "what saving wrote",
        expected="one file or directory at the path that it was given",
        found=", ".join(names) or "nothing",
        remedy="Write to `path` itself; the core renames it.",
    )
    elsewhere = []
    for path in (folder / f".step_{n}{suffix_of(backend)}.tmp-{n}" for n in (2, 3)):
        with watched_writes() as written:
            backend.save(path, edge_case_tree())
        paths = (written.opened | written.moved) - {Path(os.devnull)}
        elsewhere.append({p for p in paths if not p.is_relative_to(path)})
    fact = "paths that two saves write to, besides those that they are given"
    remedy = "Write to `path` itself, or to a name that begins with it: saves may run at once."
    expect_none([p.name for p in elsewhere[0] & elsewhere[1]], fact, remedy=remedy)


def check_same_tree_gives_same_bytes(subject: Subject) -> None:
    """Two saves of one tree are equal, whatever the path: a resumed run writes the same files."""
    backend = subject.build()
    (subject.folder / "elsewhere").mkdir()
    infos = []
    for folder in (subject.folder / "a", subject.folder / "elsewhere" / "b"):
        store = store_in(folder, backend)
        infos.append(store.save("final", edge_case_tree(), step=3).blake2b)
    expect(
        infos[0] == infos[1],
        "two saves of the same tree differ",
        expected="the same bytes",
        found="another digest",
        remedy="Leave times, paths, process ids and random names out of the file.",
    )


def check_any_path_works(subject: Subject) -> None:
    """Spaces and letters of any script in the path are harmless."""
    folder = subject.folder / "a b" / "gr\u00fc\u00df \u4e2d\u6587 100%"
    folder.mkdir(parents=True)
    backend = subject.build()
    path = folder / f"step_1{suffix_of(backend)}"
    fact, remedy = "a path with spaces and letters beyond ASCII", "Use the Path as it is."
    with must_work(fact, remedy=remedy):
        backend.save(path, {"w": torch.ones(2)})
        found = backend.load(path)
    expect_equal(found, {"w": torch.ones(2)}, fact, expected="the same tree", remedy=remedy)


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    fields = {"checkpoint_backend": subject.component.id}
    given: dict[str, Any] = {"listeners": lambda: [StateKeeper()]}
    with must_work("a run that saves with this backend", remedy="See the other checks first."):
        whole = subject.train("whole", fields, **given)
    remedy = "See the check 'round_trip_is_exact'."
    subject.expect_exact_resume(whole, fields, at=5, remedy=remedy, **given)


class CheckpointBackendSuite(Suite):
    """Checks of a checkpoint backend."""

    kind: ClassVar[str] = "checkpoint_backend"
    checks = (*checks_in(globals()), *DAMAGE_CHECKS)
