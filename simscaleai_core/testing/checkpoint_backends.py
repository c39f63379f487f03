"""Checks of checkpoint backends: exact, harmless, and safe at every moment."""

from __future__ import annotations

from typing import ClassVar

import torch

from simscaleai_core.testing import runs
from simscaleai_core.testing.checks import CheckFailed, checks_in, expect, text_of
from simscaleai_core.testing.damage import DAMAGE_CHECKS
from simscaleai_core.testing.process import captured_stdout, process_state, state_changes
from simscaleai_core.testing.saving import SUFFIX, loaded, saved, store_in, suffix_of
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.suite import Suite
from simscaleai_core.testing.trees import awkward_tree, tree_differences


def check_suffix_is_one(subject: Subject) -> None:
    """`suffix` is a dot and letters, so that files are told apart by it."""
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
    path = saved(subject, awkward_tree())
    try:
        found = subject.build().load(path)
    except Exception as error:
        raise CheckFailed(
            f"a tree that was just saved cannot be loaded: {text_of(error)}. Save and load must be "
            "inverse for tensors of every dtype and plain containers."
        ) from error
    differences = tree_differences(awkward_tree(), found)
    expect(
        not differences,
        "what was loaded differs from what was saved",
        expected="the same to the last bit",
        found="; ".join(differences[:3]),
        remedy="Keep types, dtypes, shapes, the order of keys and every bit.",
    )


def check_saving_changes_nothing(subject: Subject) -> None:
    """Saving leaves the tree that it is given as it was: training goes on with it."""
    tree = awkward_tree()
    backend = subject.build()
    backend.save(subject.folder / f"step_1{suffix_of(backend)}", tree)
    differences = tree_differences(awkward_tree(), tree)
    expect(
        not differences,
        "saving changed the tree that it was given",
        expected="an untouched tree",
        found="; ".join(differences[:3]),
        remedy="Copy what has to be converted.",
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
    """Saving makes one file or one directory, and leaves the process as it was."""
    folder = subject.folder / "only"
    folder.mkdir()
    backend = subject.build()
    before = process_state()
    with captured_stdout() as printed:
        backend.save(folder / f".step_1{suffix_of(backend)}.tmp-7", awkward_tree())
    names = sorted(p.name for p in folder.iterdir())
    expect(
        names == [f".step_1{suffix_of(backend)}.tmp-7"],
        "saving wrote beside the path that it was given",
        expected="one file or directory",
        found=", ".join(names) or "nothing",
        remedy="Write to `path` itself; the core renames it.",
    )
    changes = state_changes(before, process_state())
    changes += ["standard output"] if printed() else []
    expect(
        not changes,
        "saving changed the process",
        expected="nothing but the file",
        found="; ".join(changes),
        remedy="Put it back, or do without.",
    )


def check_same_tree_gives_same_bytes(subject: Subject) -> None:
    """Two saves of one tree are equal, whatever the path: a resumed run writes the same files."""
    backend = subject.build()
    (subject.folder / "elsewhere").mkdir()
    infos = []
    for folder in (subject.folder / "a", subject.folder / "elsewhere" / "b"):
        store = store_in(folder, backend)
        infos.append(store.save("final", awkward_tree(), step=3).blake2b)
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
    try:
        backend.save(path, {"w": torch.ones(2)})
        found = backend.load(path)
    except Exception as error:
        raise CheckFailed(
            f"a path with spaces and letters beyond ASCII: expected to work, got {text_of(error)}. "
            "Hand the Path on as it is."
        ) from error
    expect(
        torch.equal(found["w"], torch.ones(2)),
        "a path with spaces",
        expected="the same tree",
        found=found,
        remedy="Hand the Path on as it is.",
    )


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    fields = {"checkpoint_backend": subject.component.id}
    try:
        whole = runs.train(
            subject, subject.config(subject.folder / "whole", **fields), listeners=[runs.Keeper()]
        )
        parts = runs.interrupted_tree(
            subject, subject.folder, at=5, fields=fields, listeners=lambda: [runs.Keeper()]
        )
    except Exception as error:
        raise CheckFailed(
            f"a run that saves and resumes with this backend: expected to work, got "
            f"{text_of(error)}. See the other checks first."
        ) from error
    differences = tree_differences(runs.final_tree(subject, whole), parts)
    expect(
        not differences,
        "a run that was resumed differs from one that was not",
        expected="equality to the last bit",
        found="; ".join(differences[:3]),
        remedy="See the check 'round_trip_is_exact'.",
    )


class CheckpointBackendSuite(Suite):
    """Checks of a checkpoint backend."""

    kind: ClassVar[str] = "checkpoint_backend"
    checks = (*checks_in(globals()), *DAMAGE_CHECKS)
