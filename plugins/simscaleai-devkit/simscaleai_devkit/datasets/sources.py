"""Checks of readers: that an `EpisodeSource` gives what its contract says, in every process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from simscaleai_core.data.source import ACTIONS, Episode, EpisodeSource, Key, natural_order
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.errors import DataError
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
    raised_by,
    slow,
    text_of,
)
from simscaleai_devkit.datasets.source_subject import (
    SourceSubject,
    declared_shape,
    differing,
    digest_of,
    keys_of,
    numbers_of,
    read,
    read_all,
    same,
    source_subject,
)
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.children import in_child
from simscaleai_devkit.support.leaks import watched_leaks

_KINDS = ("low-dimensional", "image", "depth")
_OPEN_WHERE_IT_READS = "Keep paths, not open files, in __getstate__; open them where you read."


def check_describes_its_episodes(subject: SourceSubject) -> None:
    """It has a path, keys of one name each, actions called ``"actions"``, and episodes."""
    remedy = "Give the attributes of simscaleai_core.data.source.EpisodeSource."
    with must_work("opening the data", expected="an EpisodeSource", remedy=remedy):
        source = subject.open()
        keys, episodes = keys_of(source), list(source.episodes)
        path = Path(source.path)
    expect(path == subject.path or path.is_relative_to(subject.path), "path",
           expected=f"{subject.path}, as it was given", found=path, remedy=remedy)  # fmt: skip
    strange = [repr(x) for x in keys if not isinstance(x, Key)]
    strange += [repr(x) for x in episodes if not isinstance(x, Episode)]
    expect_none(strange, "keys and episodes", expected="Key and Episode", remedy=remedy)
    wrong = [f"{k.name!r} is {k.kind!r}" for k in keys if k.kind not in _KINDS]
    wrong += [
        f"{k.name!r} is {k.shape}" for k in keys if k.kind in _KINDS[1:] and len(k.shape) != 3
    ]
    expect_none(wrong, "kinds of keys", expected="low-dimensional, or (C, H, W)", remedy=remedy)
    twice = [n for n, count in Counter(k.name for k in keys).items() if count > 1]
    expect_none(twice, "names of several keys", remedy="Give each key a name of its own.")
    expect((source.actions.name, source.actions.kind) == (ACTIONS, _KINDS[0]), "the actions",
           expected="low-dimensional, called 'actions'",
           found=f"{source.actions.kind}, called {source.actions.name!r}",
           remedy="Name them so, whatever the data calls them.")  # fmt: skip
    twice = [n for n, count in Counter(e.name for e in episodes).items() if count > 1]
    expect_none(twice, "names of several episodes", remedy="Give each episode a name of its own.")
    empty = [
        f"{e.name} has {e.length!r}" for e in episodes if type(e.length) is not int or e.length < 1
    ]
    expect_none(empty, "lengths of episodes", expected="whole numbers from 1 on",
                remedy="Leave out episodes without a timestep.")  # fmt: skip
    expect(episodes, "the episodes", expected="at least one", found="none",
           remedy="Raise DataError for data without an episode.")  # fmt: skip


def check_episodes_are_in_natural_order(subject: SourceSubject) -> None:
    """Numbers in the names of episodes are sorted as numbers: ``demo_10`` after ``demo_2``."""
    names = [episode.name for episode in _sound(subject).episodes]
    wanted = sorted(names, key=natural_order)
    first = next((i for i, name in enumerate(names) if name != wanted[i]), 0)
    expect(names == wanted, f"episode {first}", expected=wanted[first], found=names[first],
           remedy="Sort by the numbers in the names, not by their letters.")  # fmt: skip


def check_reads_what_it_declares(subject: SourceSubject) -> None:
    """Whole episodes have the lengths, shapes and types that `episodes` and keys declare.

    Images are uint8 `[T, H, W, C]`, depth is real numbers `[T, H, W]`, other keys are numbers
    `[T, *shape]` of the declared type.
    """
    source = _sound(subject)
    for number in numbers_of(source):
        length = source.episodes[number].length
        for key in keys_of(source):
            fact = f"{key.name!r} of {source.episodes[number].name}"
            with must_work(f"reading {fact}", remedy="Read what episodes and keys declare."):
                values = read(source, number, key.name, 0, length)
            wanted = declared_shape(key, length)
            remedy = "Let lengths, shapes and `read` agree; frames have channels last."
            found = list(values.shape)
            expect(values.shape == wanted, fact, expected=list(wanted), found=found, remedy=remedy)
            expected = _expected_type(key)
            remedy = "Declare the type that is read; as_frames makes frames uint8."
            name = _type_name(values.dtype)
            expect(
                name in expected, fact, expected=" or ".join(expected), found=name, remedy=remedy
            )


def check_reads_repeat(subject: SourceSubject) -> None:
    """Reading all of it a second time, from the end to the beginning, gives the same."""
    source = _sound(subject)
    first, again = subject.whole(source), subject.whole(source, backwards=True)
    expect_none(differing(first, again), "what a second reading changes",
                remedy="Let `read` depend on its arguments alone.")  # fmt: skip


def check_parts_are_parts_of_the_whole(subject: SourceSubject) -> None:
    """Any timesteps of an episode equal these timesteps of the whole episode."""
    source = _repeating(subject)
    wrong = []
    for (number, key), values in subject.whole(source).items():
        for start, stop in _spans(len(values)):
            with must_work(f"reading {start}:{stop} of {key!r}", remedy="Read any timesteps."):
                part = read(source, number, key, start, stop)
            if not same(part, values[start:stop]):
                wrong.append(f"{key!r} {start}:{stop} of {source.episodes[number].name}")
    expect_none(wrong, "timesteps that differ from those of the whole episode",
                remedy="Count start and stop from the beginning of the episode.")  # fmt: skip


def check_last_timestep_is_read(subject: SourceSubject) -> None:
    """The last timestep of each episode can be read alone."""
    source = _repeating(subject)
    wrong = []
    for (number, key), values in subject.whole(source).items():
        last = len(values) - 1
        with must_work(f"reading {last}:{last + 1} of {key!r}", remedy="Read to the very end."):
            part = read(source, number, key, last, last + 1)
        if not same(part, values[last:]):
            wrong.append(f"{key!r} of {source.episodes[number].name}: {list(part.shape)}")
    expect_none(wrong, "last timesteps that differ", remedy="`stop` may be the episode's length.")


def check_reads_are_copies(subject: SourceSubject) -> None:
    """What was read can be changed, and is changed by no later reading."""
    source = _repeating(subject)
    whole = subject.whole(source)
    remedy = "Return a copy of what is kept or reused, such as values[start:stop].copy()."
    taken = {(e, k): read(source, e, k, 0, len(values)) for (e, k), values in whole.items()}
    expect_none(differing(whole, taken), "arrays that later readings changed", remedy=remedy)
    fixed = [repr(key) for (_, key), values in taken.items() if not values.flags.writeable]
    expect_none(fixed, "arrays that cannot be changed", remedy=remedy)
    for values in taken.values():
        values[...] = 0
    fact = "what setting the arrays of an earlier reading to zero changed"
    expect_none(differing(whole, subject.whole(source)), fact, remedy=remedy)


def check_unknown_key_is_refused(subject: SourceSubject) -> None:
    """Reading a key that is not there raises `DataError` or `KeyError`."""
    source = _sound(subject)
    error = raised_by(partial(source.read, 0, "no such key", 0, 1))
    expect(isinstance(error, DataError | KeyError), "reading an unknown key",
           expected="DataError or KeyError", found=text_of(error),
           remedy="Look the key up among those that are declared.")  # fmt: skip


def check_two_openings_are_equal(subject: SourceSubject) -> None:
    """Opened twice, it declares the same keys and episodes and reads the same numbers."""
    one, other = _repeating(subject), subject.opened()
    remedy = "Leave out hash(), sets, and the order in which a folder happens to be listed."
    for name in ("observations", "actions", "episodes"):
        first, second = (_plain(getattr(source, name)) for source in (one, other))
        expect(first == second, f"{name} of data that is opened twice", expected="equality",
               found="a difference", remedy=remedy)  # fmt: skip
    wrong = differing(subject.whole(one), subject.whole(other))
    expect_none(wrong, "what a second opening reads otherwise", remedy=remedy)


def check_optional_members_fit(subject: SourceSubject) -> None:
    """`timestamps`, `rewards`, `take`, `fps` and the like, as far as it has them, fit the rest."""
    source = _repeating(subject)
    remedy = "Give what simscaleai_core.data.source.EpisodeSource says, or None."
    for name in ("timestamps", "rewards", "timestep_instructions"):
        method: Any = getattr(source, name, None)
        for number in numbers_of(source) if method else ():
            found = method(number)
            shape, wanted = np.shape(found), (source.episodes[number].length,)
            expect(found is None or shape == wanted, f"{name}({number})", expected=list(wanted),
                   found=list(shape), remedy=remedy)  # fmt: skip
    fps = getattr(source, "fps", None)
    expect(fps is None or fps > 0, "fps", expected="timesteps per second", found=fps, remedy=remedy)
    files = getattr(source, "files", ())
    expect_none([str(f) for f in files if not Path(f).exists()], "files that are not there",
                remedy=remedy)  # fmt: skip
    take: Any = getattr(source, "take", None)
    wrong = []
    for (number, key), values in subject.whole(source).items() if take else ():
        timesteps = np.arange(0, len(values), 2)
        if not same(np.asarray(take(number, key, timesteps)), values[timesteps]):
            wrong.append(f"{key!r} of {source.episodes[number].name}")
    expect_none(wrong, "timesteps that `take` gives otherwise than `read`", remedy=remedy)


def check_pickles(subject: SourceSubject) -> None:
    """It pickles, also after reading, and the copy reads the same."""
    source = _repeating(subject)
    whole = subject.whole(source)
    with must_work("a pickle of the reader", expected="a copy", remedy=_OPEN_WHERE_IT_READS):
        other = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
        found = read_all(other)
    expect_none(differing(whole, found), "what a pickled copy reads otherwise",
                remedy=_OPEN_WHERE_IT_READS)  # fmt: skip


def check_forked_process_reads_the_same(subject: SourceSubject) -> None:
    """A process that is forked after reading, as loader workers are, reads the same."""
    source = _repeating(subject)
    wanted = digest_of(subject.whole(source))
    status, found = in_child(lambda: digest_of(read_all(source)))
    said = found["error"] if isinstance(found, dict) else "something else"
    expect(found == wanted, "what a forked process reads", expected="the same",
           found=said if status == 0 else f"a crash ({status})",
           remedy="Open files anew if another process opened them: see os.getpid().")  # fmt: skip


@slow
def check_fresh_process_reads_the_same(subject: SourceSubject) -> None:
    """A new process, which gets the reader as a pickle, reads the same."""
    with left_to("pickles"):
        check_pickles(subject)
    source = subject.opened()
    home = type(source).__module__
    wanted, place = digest_of(subject.whole(source)), subject.folder / "reader.pickle"
    place.write_bytes(pickle.dumps(source))
    code = (
        "import sys; from simscaleai_devkit.datasets.source_subject import main; main(sys.argv[1])"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if "ModuleNotFoundError" in done.stderr and home.partition(".")[0] in done.stderr:
        raise NotApplicable(f"another process cannot import {home}, which is in no package")
    expect(lines and lines[-1] == wanted, "what a new process reads", expected="the same",
           found="something else" if lines else (done.stderr.splitlines() or ["nothing"])[-1][:200],
           remedy=_OPEN_WHERE_IT_READS)  # fmt: skip


def check_closes_its_files(subject: SourceSubject) -> None:
    """Opening, reading and dropping it leaves no file open; reading again opens no more."""
    if not Path("/proc/self/fd").is_dir():
        raise NotApplicable("this system does not list open files")
    subject.whole(_repeating(subject))
    with watched_leaks() as left:
        for _ in range(3):
            subject.whole(subject.opened())
    expect_none(left, "what opening, reading and dropping it three times left", expected="nothing",
                remedy="Close files after reading, in `close` or in `__del__`.")  # fmt: skip
    source = subject.opened()
    subject.whole(source)
    with watched_leaks() as left:
        subject.whole(source)
    expect_none(left, "what a second reading left open", expected="nothing",
                remedy="Keep a file open, or close it after each reading.")  # fmt: skip
    if hasattr(source, "close"):
        source.close()
        subject.whole(source)


def check_nothing_is_written(subject: SourceSubject) -> None:
    """Nothing beside or in the data is written, removed or touched."""
    before = _listed(subject.path)
    source = subject.opened()
    subject.whole(source)
    del source
    after = _listed(subject.path)
    changed = sorted(str(p) for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    expect_none(changed, "what was written where the data lies", expected="nothing",
                remedy="Keep an index in memory; people's data is read only.")  # fmt: skip


def check_missing_path_is_named(subject: SourceSubject) -> None:
    """A path where nothing is gives a `DataError` that names it."""
    path = subject.folder / "no such data"

    def look() -> None:
        source = subject.reader(path, **subject.suite.options)
        len(source.episodes)

    error = raised_by(look)
    expect(isinstance(error, DataError) and path.name in f"{error} {getattr(error, 'path', '')}",
           "opening data that is not there", expected="a DataError that names it",
           found=text_of(error), remedy="Raise Location(path=path).error(...).")  # fmt: skip


def check_windows_can_be_cut(subject: SourceSubject) -> None:
    """A dataset of it has a sample for each timestep, of finite numbers."""
    source = _repeating(subject)
    with must_work(
        "a dataset of its episodes", remedy="Give finite numbers of the declared shape."
    ):
        data = WindowedDataset(source, cache_images_gib=0.0)
        count, sample = len(data), data[len(data) - 1]
    total = sum(episode.length for episode in source.episodes)
    expect(count == total, "samples of a dataset of its episodes", expected=total, found=count,
           remedy="Let the lengths of the episodes be what can be read.")  # fmt: skip
    expect("actions" in sample, "a sample", expected="actions", found=sorted(sample),
           remedy="Give actions.")  # fmt: skip


class SourceSuite(Suite):
    """Checks of a reader: the class of an `EpisodeSource`, or the id of a dataset that names one.

    Give it `write_data`, or `path`.
    """

    kind: ClassVar[str] = "source"
    checks = checks_in(globals())

    path: ClassVar[Path | str | None] = None
    """A small file or folder to read, with several episodes of different lengths."""

    @classmethod
    def write_data(cls, folder: Path) -> Path | str | None:
        """Write small data with several episodes, and return its path."""
        del folder
        return cls.path

    @classmethod
    def open(cls) -> AbstractContextManager[Any]:
        """Return a context with the reader and its data."""
        return source_subject(cls)


def _sound(subject: SourceSubject) -> EpisodeSource:
    """Open data whose description is sound."""
    with left_to("describes_its_episodes"):
        check_describes_its_episodes(subject)
    return subject.opened()


def _repeating(subject: SourceSubject) -> EpisodeSource:
    """Open data that is as declared, and the same when it is read again."""
    with left_to("reads_what_it_declares"):
        check_reads_what_it_declares(subject)
    with left_to("reads_repeat"):
        check_reads_repeat(subject)
    return subject.opened()


def _spans(length: int) -> set[tuple[int, int]]:
    """Return some timesteps of an episode; none of them is the last alone."""
    middle = length // 2
    spans = {(0, 1), (0, middle), (1, length), (middle - 1, middle + 1), (0, length - 1)}
    return {(a, b) for a, b in spans if 0 <= a < b <= length and (a, b) != (length - 1, length)}


def _expected_type(key: Key) -> list[str]:
    """Return the types that `read` may give of a key."""
    if key.kind == "image":
        return ["uint8"]
    if key.kind == "depth":
        return ["uint8", "uint16", "uint32", "int32", "int64", "float16", "float32", "float64"]
    with suppress(TypeError):
        return [_type_name(np.dtype(key.dtype))]
    return [f"a type of numbers, not {key.dtype!r}"]


def _type_name(dtype: np.dtype[Any]) -> str:
    """Return the name of a type of real numbers in any order of bytes, such as float32."""
    return dtype.name if dtype.kind in "biuf" else f"{dtype}, no real numbers"


def _plain(value: Any) -> Any:
    return list(value) if not isinstance(value, Key) else value


def _listed(path: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of the data and all in it, and the names of what lies beside it."""
    stats = {p: p.stat() for p in [path, *path.rglob("*")]}
    found = {p: (s.st_size, s.st_mtime_ns) for p, s in stats.items()}
    return {**dict.fromkeys(path.parent.iterdir(), (0, 0)), **found}
