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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from attrs import define, field
from torch import Tensor

from simscaleai_core.batches import sample_count, split_batch, to_device
from simscaleai_core.contracts import Batch, StateDict
from simscaleai_core.errors import DataError
from simscaleai_core.evaluate import evaluate
from simscaleai_core.metrics import MetricWindow, Pace, loss_of, scalars_of
from simscaleai_core.parts import Parts
from simscaleai_core.resume import resume
from simscaleai_core.signals import SignalFlag
from simscaleai_core.state import Run, checkpoint_tree, restore_random_state

logger = logging.getLogger("simscaleai")


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
    _pace: Pace = field(factory=Pace, init=False)
    _evaluated_at: int = field(default=-1, init=False)
    _is_stopping: bool = field(default=False, init=False)
    _is_interrupted: bool = field(default=False, init=False)
    _is_save_asked: bool = field(default=False, init=False)

    def train(self) -> dict[str, float]:
        """Run to the end, to a stop or to an exception; tear everything down in each case.

        Returns:
            ``final_loss`` (mean over the last logging window), ``global_step`` and
            ``best_eval_loss``.

        Raises:
            SimScaleError: If the last state could not be written.
        """
        status, parts = "failed", self.parts
        with ExitStack() as cleanup:
            flag = cleanup.enter_context(SignalFlag(on_usr1=self.run.request_save))
            cleanup.callback(lambda: self.run.strategy.teardown(status))
            cleanup.callback(parts.store.close)
            cleanup.callback(lambda: parts.logger.close(status))
            cleanup.callback(lambda: parts.events.run_end(self.run, status))
            cleanup.callback(parts.saver.wait)
            try:
                self._setup()
                self._steps(flag)
                status = "stopped" if self._is_interrupted else "done"
            except BaseException as error:
                parts.events.run_exception(self.run, error)
                raise
        if parts.saver.failure is not None:
            raise parts.saver.failure
        if self._is_interrupted:
            flag.leave()
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
        run.prepare()
        self._parameters = [p for p in run.policy.parameters() if p.requires_grad]
        resumed = resume(run, parts.store, parts.about)
        about = {"resumed": resumed.source} if resumed else {}
        parts.logger.start({**run.facts, **about}, run.step)
        parts.events.run_start(run)
        if resumed:
            restore_random_state(run, resumed.tree)

    def _steps(self, flag: SignalFlag) -> None:
        run, config = self.run, self.run.config
        if run.step >= config.max_steps:
            logger.warning(
                "nothing to do: the run already has %d of %d steps", run.step, config.max_steps
            )
            return
        self._is_stopping = bool(run.stop_reason)  # a run that was stopped early, and resumed
        run.module.train()
        gc.collect()
        gc.freeze()  # a full collection over torch's own objects costs a fifth of a second
        self._pace.restart()
        batches = self.parts.feed.batches(run.step)
        try:
            while run.step < config.max_steps and not self._is_stopping:
                try:
                    batch = next(batches)
                except DataError:
                    if not flag.name:
                        raise
                    self._is_interrupted = True  # the signal reached the workers first
                    break
                self._step(batch)
                self._observe(flag)
        finally:
            gc.unfreeze()
        if self._is_interrupted and run.step < config.max_steps:
            self._save(f"step_{run.step}")
            logger.info("interrupted after step %d: continue with --resume auto", run.step)
        else:
            if self._is_stopping:
                logger.info("stopping after step %d: %s", run.step, run.stop_reason)
            self._is_interrupted = False
            self._finish()
        self.parts.saver.wait()
        self._tell_saved()

    def _step(self, batch: Batch) -> None:
        run, events = self.run, self.parts.events
        strategy, precision, optimizer = run.strategy, run.precision, run.optimizer
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
        self._pace.samples += size
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

    def _observe(self, flag: SignalFlag) -> None:
        run, config = self.run, self.run.config
        if run.step % config.log_every == 0:
            self._log(flag)
        is_last = run.step == config.max_steps
        is_eval = not is_last and config.eval_every > 0 and run.step % config.eval_every == 0
        is_best = is_eval and self._evaluate()
        if run.strategy.world_size == 1:
            self._agree(self._wishes(flag))
        elif is_eval:  # what an evaluation asks for is about the weights that it saw
            everyone = run.strategy.gather(self._wishes(flag))
            self._agree([any(wish) for wish in zip(*everyone, strict=True)])
        if is_last:
            return
        is_due = config.save_every > 0 and run.step % config.save_every == 0
        names = [f"step_{run.step}"] if is_due or self._is_save_asked else []
        if is_best:
            names.append("best")
        if names:
            self._save(*names)
        self._tell_saved()

    def _wishes(self, flag: SignalFlag | None) -> tuple[bool, bool, bool]:
        """Return whether this rank was interrupted, wants to stop, and wants a checkpoint."""
        run = self.run
        interrupted = flag is not None and bool(flag.name)
        return interrupted, bool(run.stop_reason), run.save_requested

    def _agree(self, wishes: Sequence[bool]) -> None:
        self._is_interrupted, is_stop_asked, self._is_save_asked = wishes
        self._is_stopping = self._is_interrupted or is_stop_asked

    def _finish(self) -> None:
        if self.run.step % self.run.config.log_every:
            self._log()
        is_best = self._evaluate()
        every = self.run.config.save_every
        names = [f"step_{self.run.step}"] if every and self.run.step % every == 0 else []
        self._save(*names, "final", *(["best"] if is_best else []))

    def _log(self, flag: SignalFlag | None = None) -> None:
        run = self.run
        means, agreed = self._window.drain(run.strategy, self._wishes(flag))
        if run.strategy.world_size > 1:
            self._agree(agreed)
        if "applied" in means:
            in_window = run.step % run.config.log_every or run.config.log_every
            run.counters.correct(in_window, applied_fraction=means.pop("applied"))
        self._last_loss = means.get("loss", math.nan)
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics["train/lr"] = run.optimizer.param_groups[0]["lr"]
        metrics["train/skipped"] = float(run.counters.skipped)
        if isinstance(steps := self.parts.feed.steps_per_epoch, int) and steps:
            metrics["train/epoch"] = run.step / steps
        metrics["perf/samples_per_s"] = self._pace.rate() * run.strategy.world_size
        self.parts.events.metrics(run, metrics)
        self.parts.logger.log(metrics, run.step)
        self._pace.restart()

    def _evaluate(self) -> bool:
        """Evaluate and log; return whether eval/loss is the best so far."""
        run = self.run
        if not self.parts.evals or self._evaluated_at == run.step:
            return False
        self._evaluated_at = run.step
        with self._pace.paused():
            found = evaluate(run, self.parts.evals, self.parts.events)
            self.parts.logger.log(found.metrics, run.step)
            self.parts.logger.log_pictures(found.pictures, run.step)
        loss = found.metrics.get("eval/loss", math.nan)
        is_best = loss < run.counters.best_eval_loss
        if is_best:
            run.counters.best_eval_loss = loss
        return is_best

    def _save(self, *names: str) -> None:
        run, saver = self.run, self.parts.saver
        run.save_requested = self._is_save_asked = False
        with self._pace.paused():
            saver.wait_for_turn()  # every rank: no shard of the next save before this is whole
            tree = {**checkpoint_tree(run), **self.parts.about}
            if run.strategy.rank == 0 or self.parts.store.is_sharded:
                self._tell_saved()  # before the next save may prune what this tells of
                saver.submit(names, tree, step=run.step)

    def _tell_saved(self) -> None:
        for info in self.parts.saver.finished():
            self.parts.events.checkpoint_saved(self.run, info)

    def state_dict(self) -> StateDict:
        """Return each rank's open logging window, so that a resumed run logs the same means."""
        windows = self.run.strategy.gather(self._window.state_dict())
        return {"windows": windows, "last_loss": self._last_loss}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue this rank's logging window."""
        strategy = self.run.strategy
        if strategy.rank < len(state["windows"]):
            self._window.load_state_dict(state["windows"][strategy.rank], strategy.device)
        self._last_loss = state["last_loss"]
