"""Noticing what hangs: a thread of each rank says that it lives, and looks at the others.

What a rank says goes through the store in which the ranks have met: its step, what it does, and for
how long there has been no sign of work in it. Rank 0 looks at all of them, the others at rank 0. A
run hangs if a rank says nothing, or if no rank shows a sign of work: then whoever sees it first
writes down why, every rank adds its stacks, and all end.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # not in __all__

from simscaleai_core.checkpoint.lock import identity_of
from simscaleai_core.errors import RankError
from simscaleai_plugin_ddp.hangs import explained, in_words, standing
from simscaleai_plugin_ddp.joining import connect
from simscaleai_plugin_ddp.processes import end_process, has_ended
from simscaleai_plugin_ddp.signs import WATCHING, Signs, stacks

if TYPE_CHECKING:
    from simscaleai_core.run.state import Run

logger = logging.getLogger("simscaleai")

_STILL = 0.75  # of the limit, and the rest is for processor time to fall and for telling it
_WINDOW = 1 / 6
_LOOKS = 24  # in the limit
_LONGEST_LOOK_S = 2.0
_PARENT_S = 0.5
_MOURNED_S = 4.0
"""How long a rank may be gone before it ends the others that have not noticed [s]."""
_REPORT_S = 10.0
"""How long telling why a run ends may take [s]; whatever stands in the way then, it ends."""


class Watch:
    """Two threads that end this process when its run hangs or its launcher has died.

    Args:
        rank: Rank of this process.
        world_size: Number of ranks.
        prefix: What the keys of this attempt begin with; None if the group is somebody else's:
            then only the launcher is watched.
        limit_s: Within which time a hang is noticed [s].
        is_on_gpu: Whether a thread of this process may spin while it waits.
    """

    def __init__(
        self, rank: int, world_size: int, prefix: str | None, limit_s: float, *, is_on_gpu: bool
    ) -> None:
        self._rank, self._world_size, self._limit_s = rank, world_size, limit_s
        self._still_s, self._look_s = _STILL * limit_s, min(limit_s / _LOOKS, _LONGEST_LOOK_S)
        self._signs = Signs(_WINDOW * limit_s, counts_own=not is_on_gpu)
        self._run: Run | None = None
        self._ended = threading.Event()
        self._is_reporting = threading.Lock()
        self._answered = time.monotonic()
        self._said: dict[str, Any] = {"process": identity_of(os.getpid())}
        self._said |= {"step": None, "phase": "", "place": "", "waits": False, "still_s": 0.0}
        self._heard: dict[int, tuple[float, dict[str, Any]]] = {}
        self._dead: dict[int, float] = {}
        self._parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._prefix = prefix if world_size > 1 else None
        threads = [self._guard, *([self._talk] if self._prefix else [])]
        self._threads = [
            threading.Thread(target=target, name=WATCHING, daemon=True) for target in threads
        ]
        for thread in self._threads:
            thread.start()

    def follow(self, run: Run) -> None:
        """Say how far a run is; to be called by the thread that trains."""
        self._run, self._signs.thread = run, threading.get_ident()

    def stop(self) -> None:
        """Stop watching, and tell the others that this rank has left; safe to call twice."""
        self._ended.set()
        for thread in self._threads:
            thread.join(_PARENT_S)
        self._run = None

    def _look(self) -> None:
        """Note where this process stands."""
        phase, place, waits = self._signs.where()
        step = self._run.counters.step if self._run else None
        still_s = round(self._signs.still_s(), 1)
        here = {"step": step, "phase": phase if self._run else "setting up", "place": place}
        self._said = {**self._said, **here, "waits": waits, "still_s": still_s}

    def _guard(self) -> None:
        """See whether the launcher is there, and whether the store answers; waits for nobody."""
        looked = time.monotonic()
        while not self._ended.wait(min(_PARENT_S, self._look_s)):
            if self._parent not in {None, os.getppid()}:
                self._leave(
                    f"rank {self._rank} has lost its launcher: process {self._parent} has ended. "
                    "Start the run again with --resume auto."
                )
            if time.monotonic() - looked < self._look_s:
                continue
            self._look()
            looked = time.monotonic()
            is_deaf = looked - self._answered > self._still_s
            if self._prefix and is_deaf and self._said["still_s"] > self._still_s:
                self._report_alone()

    def _talk(self) -> None:
        """Say where this rank stands, and listen."""
        others = [0] if self._rank else list(range(1, self._world_size))
        try:
            timeout = timedelta(seconds=self._limit_s)
            everyones = connect(timeout)
            for rank in others:
                process = everyones.get(f"{self._prefix}/here/{rank}").decode()
                self._heard[rank] = time.monotonic(), {"process": process}
            store = PrefixStore(f"{self._prefix}/watch", everyones)
            while not self._ended.wait(self._look_s):
                self._exchange(store, others)
            store.set(f"{self._rank}", json.dumps({**self._said, "has_left": True}))
        except RuntimeError:  # its keeper has ended: what comes of that, the collectives tell
            logger.debug("the store of the ranks has gone", exc_info=True)

    def _exchange(self, store: PrefixStore, others: list[int]) -> None:
        store.set(f"{self._rank}", json.dumps({**self._said, "at": time.time()}))
        if store.check(["hang"]):
            self._report(store, json.loads(store.get("hang")))
        self._hear(store, others)
        self._answered = time.monotonic()
        found = self._hang(others)
        if found and store.compare_set("hang", "", json.dumps(found)) == json.dumps(found).encode():
            self._report(store, found)

    def _hear(self, store: PrefixStore, others: list[int]) -> None:
        """Note what the others say, and since when they have said it."""
        now = time.monotonic()
        known = [r for r in others if "at" in self._heard[r][1] or store.check([f"{r}"])]
        for rank, text in zip(known, store.multi_get([f"{r}" for r in known]), strict=True):
            said = json.loads(text)
            if self._heard[rank][1] != said:
                self._heard[rank] = now, said

    def _hang(self, others: list[int]) -> dict[str, Any] | None:
        """Return why the run cannot go on, if it cannot."""
        now = time.monotonic()
        there = {r: self._heard[r] for r in others if not self._heard[r][1].get("has_left")}
        everyone = {r: said for r, (_, said) in there.items()} | {self._rank: self._said}
        dead = {r for r, said in everyone.items() if has_ended(said["process"])}
        self._dead = {r: self._dead.get(r, now) for r in dead}
        silent = {r: now - at for r, (at, _) in there.items() if now - at > self._still_s}
        if self._said["waits"] or self._said["still_s"] > _MOURNED_S:
            # as a rule the connection has told it at once; whoever works ends what it does first
            silent |= {r: now - at for r, at in self._dead.items() if now - at > _MOURNED_S}
        is_still = self._rank == 0 and all(
            said.get("still_s", 0.0) > self._still_s for said in everyone.values()
        )
        if not silent and not is_still:
            return None
        left = [r for r in others if r not in there]
        hang = {"by": self._rank, "said": everyone, "silent": silent, "dead": list(dead)}
        return {**hang, "left": left}

    def _report(self, store: PrefixStore, hang: dict[str, Any]) -> None:
        """Tell of a hang, with the stacks of all ranks that can answer, and end."""
        _end_soon()
        store.set(f"stacks/{self._rank}", json.dumps(stacks()))
        text = explained(hang, self._limit_s)
        if hang["by"] != self._rank:
            with suppress(RuntimeError):
                store.wait(["told"], timedelta(seconds=_REPORT_S / 2))
            self._leave(text.splitlines()[0], hang=hang)
        until = time.monotonic() + min(_REPORT_S / 2, 2 * self._look_s + 1.0)
        keys = {rank: f"stacks/{rank}" for rank in range(self._world_size)}
        silent = {int(rank) for rank in hang["silent"]}
        awaited = [k for r, k in keys.items() if r not in silent and r not in hang["left"]]
        while not store.check(awaited) and time.monotonic() < until:
            time.sleep(self._look_s / 4)
        found = {rank: store.get(key) for rank, key in keys.items() if store.check([key])}
        alike: dict[str, list[int]] = {}  # of a thousand ranks most stand in the same place
        for rank, given in found.items():
            for stack in json.loads(given):
                alike.setdefault(stack, []).append(rank)
        each = [f"{in_words(ranks)}, {stack}" for stack, ranks in alike.items()]
        self._leave(text, *each, hang=hang, then=lambda: store.set("told", ""))

    def _report_alone(self) -> None:
        """Tell that the store is silent: whoever keeps it is stopped, or cannot be reached."""
        _end_soon()
        waited_s = time.monotonic() - self._answered
        is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        keeper = "the agent of rank 0" if is_agents else "rank 0"
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        first = self._heard.get(0, (0.0, {"process": ""}))[1]
        self._leave(
            f"the run hangs: {keeper} has not answered for {waited_s:.0f} s: it keeps the store of "
            f"the ranks, at {place}. Rank {self._rank} stands at {standing(self._said)}. See to "
            "that host; then continue with --resume auto.",
            *(f"rank {self._rank}, {stack}" for stack in stacks()),
            hang=None if is_agents else {"silent": [0], "said": {0: first}},
        )

    def _leave(
        self,
        *texts: str,
        hang: dict[str, Any] | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """End this process, and those of silent ranks that are on this machine."""
        _end_soon()
        with self._is_reporting:
            for text in texts:
                logger.error("%s", text)
            _tell_torchrun(texts[0].splitlines()[0])
            with suppress(RuntimeError):
                then()
            for rank in (hang or {}).get("silent", ()):
                end_process((hang or {})["said"].get(rank, {}).get("process", ""))
            os._exit(RankError.exit_status)


def _end_soon() -> None:
    """See to it that this process ends, also if nobody reads what it says."""

    def end() -> None:
        time.sleep(_REPORT_S)
        os._exit(RankError.exit_status)

    threading.Thread(target=end, name=WATCHING, daemon=True).start()


def _tell_torchrun(text: str) -> None:
    """Leave the reason where torchrun's agent looks for the cause of a failed rank."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        try:
            raise RankError(text)  # it wants one that was raised
        except RankError as error:
            with suppress(OSError):
                get_error_handler().record_exception(error)
