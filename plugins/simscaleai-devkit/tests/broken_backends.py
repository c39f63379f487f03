"""A sound checkpoint backend, and backends that break one thing each."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from simscaleai_devkit import CheckpointBackendSuite

from simscaleai_core.builtin.pt import PtBackend

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

ZIP = b"PK"


class Sound(PtBackend):
    pass


@fails("suffix_is_one", "'.p t'")
class OddSuffix(Sound):
    suffix = ".p t"


@fails("round_trip_is_exact", "tuple")
class TuplesBecomeLists(Sound):
    def save(self, path, tree):
        super().save(path, _listed(tree))


@fails("round_trip_is_exact", "float64")
class HalvesPrecision(Sound):
    def save(self, path, tree):
        kinds = tree.get("kinds", {})
        found = {k: v.float() if v.dtype == torch.float64 else v for k, v in kinds.items()}
        super().save(path, {**tree, "kinds": found} if kinds else tree)


@fails("saving_changes_nothing", "saved")
class ChangesTheTree(Sound):
    def save(self, path, tree):
        super().save(path, tree)
        tree["saved"] = True


@fails("loaded_memory_is_its_own", "mapping")
class SharesMemory(Sound):
    cache: ClassVar[dict[Any, Any]] = {}

    def load(self, path):
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in self.cache:
            self.cache[key] = super().load(path)
        return self.cache[key]


@fails("writes_only_where_it_is_told", "index.txt")
class WritesAnIndex(Sound):
    def save(self, path, tree):
        super().save(path, tree)
        (path.parent / "index.txt").write_text(path.name)


@fails("writes_only_where_it_is_told", "standard output")
class PrintsProgress(Sound):
    def save(self, path, tree):
        print("saving", path)
        super().save(path, tree)


@fails("writes_only_where_it_is_told", "checkpoint.tmp")
class OneTemporaryName(Sound):
    def save(self, path, tree):
        temporary = path.with_name("checkpoint.tmp")
        try:
            torch.save(tree, str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@fails("writes_only_where_it_is_told", "spool")
class SpoolsForAllRuns(Sound):
    def save(self, path, tree):
        spool = Path(tempfile.gettempdir()) / f"simscale-kit-spool-{os.getpid()}"
        with spool.open("wb") as file:
            torch.save(tree, file)
        shutil.move(spool, path)


@fails("same_tree_gives_same_bytes", "times")
class WritesTheTime(Sound):
    def save(self, path, tree):
        super().save(path, tree)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("archive/made", str(time.time_ns()))


@fails("any_path_works", "spaces")
class AsciiOnly(Sound):
    def save(self, path, tree):
        str(path).encode("ascii")
        super().save(path, tree)


@fails("cut_file_is_refused", "cut to 30 %")
class TakesHalfFiles(Sound):
    def load(self, path):
        try:
            return super().load(path)
        except Exception:
            if path.read_bytes()[:2] == ZIP:
                return {}
            raise


@fails("foreign_file_is_refused", "54 foreign bytes")
class TakesAnything(Sound):
    def load(self, path):
        try:
            return super().load(path)
        except Exception:
            if path.read_bytes()[:2] in {ZIP, b""}:
                raise
            return {}


@fails("nothing_is_executed", "weights_only=True")
class Unpickles(Sound):
    def load(self, path):
        with zipfile.ZipFile(path):
            return torch.load(path, weights_only=False)


@fails("nothing_is_executed", "executed")
class UnpicklesFirst(Sound):
    def load(self, path):
        data = path.read_bytes()
        if data[:1] == b"\x80":
            return pickle.loads(data)
        return super().load(path)


@fails("resume_is_exact", "resumed")
class ForgetsTheOptimizer(Sound):
    def load(self, path):
        tree = super().load(path)
        for state in tree.get("optimizer_state_dict", {}).get("state", {}).values():
            state["exp_avg"].zero_()
        return tree


@fails("crash_loses_nothing", "killed at file operation")
class WritesInPlace(Sound):
    """Writes under the final name first, where the earlier checkpoint is."""

    def save(self, path, tree):
        final = path.with_name(path.name.removeprefix(".").partition(".tmp-")[0])
        if final == path:
            return super().save(path, tree)
        try:
            super().save(final, tree)
        except OSError:
            final.unlink()
            raise
        shutil.move(final, path)
        return None


@fails("full_disk_is_reported", "OSError")
class HidesAFullDisk(Sound):
    def save(self, path, tree):
        try:
            super().save(path, tree)
        except OSError:
            path.write_bytes(b"")


def _listed(node):
    if isinstance(node, dict):
        return {k: _listed(v) for k, v in node.items()}
    return [_listed(v) for v in node] if isinstance(node, list | tuple) else node


class PlainTorch(Sound):
    """Sound too: on a full disk torch raises an error of its own."""

    def save(self, path, tree):
        torch.save(tree, path)


class SpoolsUnderItsOwnName(Sound):
    """Sound too: no two saves share what they write for a while."""

    def save(self, path, tree):
        with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as folder:
            super().save(Path(folder) / "tree", tree)
            (Path(folder) / "tree").replace(path)


SOUND_TOO = [
    (CheckpointBackendSuite, PlainTorch, "full_disk_is_reported"),
    (CheckpointBackendSuite, SpoolsUnderItsOwnName, "writes_only_where_it_is_told"),
]
SOUND = [(CheckpointBackendSuite, Sound)]
