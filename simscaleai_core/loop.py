"""The training loop, readable from top to bottom; the only owner of order.

It knows no plugin: it is handed built parts and compiled events. Each step: batch, forward,
backward, clip, update, counters, listeners; then, when their turn comes, metrics, evaluation and
checkpoint. Counters advance before anything observes them, so that every observer sees the same
number.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from attrs import define, field, frozen
from torch import Tensor

from simscaleai_core.batches import sample_count, split_batch, to_device
from simscaleai_core.checkpoints import CheckpointStore
from simscaleai_core.contracts import Batch, EvalFunction, StateDict
from simscaleai_core.errors import SaveError
from simscaleai_core.evaluate import evaluate
from simscaleai_core.feed import Feed
from simscaleai_core.mechanisms import Events, Logger
from simscaleai_core.metrics import MetricWindow, loss_of, scalars_of
from simscaleai_core.signals import SignalFlag
from simscaleai_core.state import Run, checkpoint_tree, restore

logger = logging.getLogger("simscaleai")


@frozen(kw_only=True)
class Parts:
    """What the loop works with besides the run itself."""

    feed: Feed
    """Where batches come from."""
    store: CheckpointStore
    """Where checkpoints go."""
    logger: Logger
    """Where metrics go."""
    evals: Sequence[tuple[str, EvalFunction]]
    """Eval functions by name; the held-out loss first."""
    events: Events
    """Compiled listeners."""
    about: Mapping[str, Any]
    """What a checkpoint says of the policy and the data: plain values."""


@define
class Loop:
    """One run of the training loop.

    Args:
        run: The freshly built run.
        parts: What it works with.
    """

    run: Run
    parts: Parts
    _window: MetricWindow = field(factory=MetricWindow, init=False)
    _parameters: list[Tensor] = field(factory=list, init=False)
    _last_loss: float = field(default=math.nan, init=False)
    _window_started: float = field(default=0.0, init=False)
    _window_samples: int = field(default=0, init=False)
    _evaluated_at: int = field(default=-1, init=False)
    _last_save_failed: SaveError | None = field(default=None, init=False)

    def train(self) -> dict[str, float]:
        """Run to the end, to a stop or to an exception; tear everything down in each case.

        Returns:
            ``final_loss`` (mean over the last logging window), ``global_step`` and
            ``best_eval_loss``.

        Raises:
            SaveError: If the last state could not be written.
        """
        status = "failed"
        with ExitStack() as cleanup:
            flag = cleanup.enter_context(SignalFlag())
            cleanup.callback(self.run.strategy.teardown)
            cleanup.callback(lambda: self.parts.logger.close(status))
            cleanup.callback(lambda: self.parts.events.run_end(self.run, status))
            try:
                self._setup()
                self._steps(flag)
                status = "stopped" if flag.name else "done"
            except BaseException as error:
                self.parts.events.run_exception(self.run, error)
                raise
        if self._last_save_failed is not None:
            raise self._last_save_failed
        flag.finish()
        return {
            "final_loss": self._last_loss,
            "global_step": self.run.counters.step,
            "best_eval_loss": self.run.counters.best_eval_loss,
        }

    def _setup(self) -> None:
        run, parts = self.run, self.parts
        run.register_state("loop", self)
        parts.events.run_setup(run)
        if run.strategy.rank == 0:
            parts.store.open()
        self._parameters = [p for p in run.policy.parameters() if p.requires_grad]
        notes: list[str] = []
        resumed: dict[str, str] = {}
        if run.config.resume_from:
            path, tree = parts.store.load(run.config.resume_from)
            notes = restore(run, tree, path=str(path))
            resumed = {"resumed": f"from {path} at step {run.step}"}
        for note in notes:
            logger.warning("not bit-exact after resume: %s", note)
        if run.strategy.rank == 0:
            parts.logger.start({**run.facts, **resumed}, run.step)
        parts.events.run_start(run)

    def _steps(self, flag: SignalFlag) -> None:
        run, config = self.run, self.run.config
        if run.step >= config.max_steps:
            logger.warning("nothing to do: the run already has %d of %d steps", run.step,
                           config.max_steps)  # fmt: skip
            return
        run.module.train()
        gc.collect()
        gc.freeze()  # a full collection over torch's own objects costs a fifth of a second
        self._start_window()
        batches = self.parts.feed.batches(run.step)
        try:
            while run.step < config.max_steps and not run.stop_reason:
                self._step(batches)
                if flag.name:
                    run.request_stop(flag.name)
                self._observe()
        finally:
            gc.unfreeze()
        if flag.name and run.step < config.max_steps:
            self._save(f"step_{run.step}")
        else:
            self._finish()

    def _step(self, batches: Iterator[Batch]) -> None:
        run, events = self.run, self.parts.events
        strategy, precision, optimizer = run.strategy, run.precision, run.optimizer
        batch = next(batches)
        size = sample_count(batch)
        pieces = (
            [batch] if run.config.accumulate == 1 else split_batch(batch, run.config.accumulate)
        )
        out: Mapping[str, Any] = {}
        scalars: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces, start=1):
            micro = to_device(piece, strategy.device)
            for transform in events.transform_batch:
                micro = transform(run, micro)
            weight = sample_count(piece) / size if len(pieces) > 1 else 1.0
            with strategy.sync(run.module, number == len(pieces)):
                with precision.autocast():
                    out = run.module(micro)
                loss = loss_of(out, run.policy, step=run.step)
                precision.backward(loss if weight == 1.0 else loss * weight)
            for name, value in scalars_of(out).items():
                scalars[name] = value * weight + scalars[name] if name in scalars else (
                    value if weight == 1.0 else value * weight
                )  # fmt: skip
        precision.unscale(optimizer)
        veto = False
        for listener in events.grads_ready:
            veto = bool(listener(run)) or veto
        scalars["grad_norm"] = norm = strategy.clip(self._parameters, run.config.grad_clip or None)
        applied = precision.step(optimizer, norm, veto)
        for parameter in self._parameters:
            parameter.grad = None
        self._advance(applied, size, scalars)
        for hook in events.step_end:
            hook(run, out)

    def _advance(self, applied: bool | Tensor, size: int, scalars: dict[str, Tensor]) -> None:
        run, counters = self.run, self.run.counters
        counters.step += 1
        counters.samples += size
        self._window_samples += size
        if isinstance(applied, Tensor):
            # read at the end of the window; until then the schedule assumes that it was applied
            scalars["applied"] = applied.float()
            counters.updates += 1
            self._step_schedule()
        elif applied:
            counters.updates += 1
            run.schedule.step()
        else:
            counters.skipped += 1
        self._window.add(scalars, counters.step)

    def _step_schedule(self) -> None:
        if self.run.counters.schedule_lag:
            self.run.counters.schedule_lag -= 1
        else:
            self.run.schedule.step()

    def _observe(self) -> None:
        run, config = self.run, self.run.config
        if run.step % config.log_every == 0:
            self._log()
        if run.step == config.max_steps:
            return
        is_best = bool(config.eval_every) and run.step % config.eval_every == 0 and self._evaluate()
        is_due = bool(config.save_every) and run.step % config.save_every == 0
        if is_due or run.save_requested:
            run.save_requested = False
            self._save(f"step_{run.step}")
        if is_best:
            self._save("best")

    def _finish(self) -> None:
        if self.run.step % self.run.config.log_every:
            self._log()
        is_best = self._evaluate()
        self._save("final")
        if is_best:
            self._save("best")

    def _start_window(self) -> None:
        self._window_started = time.perf_counter()
        self._window_samples = 0

    def _log(self) -> None:
        run = self.run
        means = self._window.drain(run.strategy)
        seconds = time.perf_counter() - self._window_started
        if "applied" in means:
            self._count_skips(means.pop("applied"))
        self._last_loss = means.get("loss", math.nan)
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics["train/lr"] = run.optimizer.param_groups[0]["lr"]
        metrics["train/skipped"] = float(run.counters.skipped)
        if isinstance(steps := self.parts.feed.steps_per_epoch, int) and steps:
            metrics["train/epoch"] = run.step / steps
        rate = self._window_samples * run.strategy.world_size / max(seconds, 1e-9)
        metrics["perf/samples_per_s"] = rate
        self.parts.events.metrics(run, metrics)
        if run.strategy.rank == 0:
            self.parts.logger.log(metrics, run.step)
        self._start_window()

    def _count_skips(self, applied_fraction: float) -> None:
        counters = self.run.counters
        steps = counters.step % self.run.config.log_every or self.run.config.log_every
        skips = steps - round(applied_fraction * steps)
        counters.skipped += skips
        counters.updates -= skips
        counters.schedule_lag += skips

    def _evaluate(self) -> bool:
        """Evaluate and log; return whether eval/loss is the best so far."""
        run, paused = self.run, time.perf_counter()
        if not self.parts.evals or self._evaluated_at == run.step:
            return False
        self._evaluated_at = run.step
        results = evaluate(run, self.parts.evals, self.parts.events)
        if run.strategy.rank == 0:
            self.parts.logger.log(results, run.step)
        self._window_started += time.perf_counter() - paused
        loss = results.get("eval/loss", math.nan)
        if loss < run.counters.best_eval_loss:
            run.counters.best_eval_loss = loss
            return True
        return False

    def _save(self, name: str) -> None:
        run, paused = self.run, time.perf_counter()
        tree = {**checkpoint_tree(run), **self.parts.about}
        if run.strategy.rank == 0:
            try:
                info = self.parts.store.save(name, tree, step=run.step)
            except SaveError as error:
                logger.error("%s Training goes on; the next save tries again.", error)
                self._last_save_failed = error
            else:
                self._last_save_failed = None
                self.parts.store.prune()
                self.parts.events.checkpoint_saved(run, info)
        self._window_started += time.perf_counter() - paused

    def state_dict(self) -> StateDict:
        """Return the open logging window, so that a resumed run logs the same means."""
        return {"window": self._window.state_dict(), "last_loss": self._last_loss}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue the logging window."""
        self._window.load_state_dict(state["window"])
        self._last_loss = state["last_loss"]
