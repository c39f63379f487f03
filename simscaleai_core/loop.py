"""The training loop, readable from top to bottom; the only owner of order.

It knows no plugin: it is handed built components and compiled events. Each step: batch, train step,
counters, listeners; then, when their turn comes, metrics, evaluation and checkpoint. Counters
advance before anything observes them, so that every observer sees the same number.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack

from attrs import define, field
from torch import Tensor

from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import Batch, EvalFunction, StateDict, Stateful, StepResult
from simscaleai_core.data.batches import sample_count
from simscaleai_core.data.feed import Feed
from simscaleai_core.errors import DataError, EvaluationError, PolicyError
from simscaleai_core.run.evaluation import evaluate
from simscaleai_core.run.loggers import LoggerGroup
from simscaleai_core.run.metrics import MetricWindow, Throughput
from simscaleai_core.run.signals import SignalFlag
from simscaleai_core.run.snapshot import checkpoint_tree, restore_random_state, resume
from simscaleai_core.run.state import Run

logger = logging.getLogger("simscaleai")


@define(kw_only=True)
class Loop:
    """One run of the training loop, given what was freshly built for it.

    Loggers are none on ranks other than 0; of the eval functions the held-out loss is the first.
    """

    run: Run
    feed: Feed
    store: CheckpointStore
    saver: Saver
    loggers: LoggerGroup
    evals: Sequence[tuple[str, EvalFunction]]
    _window: MetricWindow = field(factory=MetricWindow, init=False)
    _last_loss: float = field(default=math.nan, init=False)
    _throughput: Throughput = field(factory=Throughput, init=False)
    _evaluated_at: int = field(default=-1, init=False)
    _is_best: bool = field(default=False, init=False)
    _best_before: float = field(default=math.inf, init=False)
    _fault: str = field(default="", init=False)
    _is_finished: bool = field(default=False, init=False)
    _is_stopping: bool = field(default=False, init=False)
    _is_interrupted: bool = field(default=False, init=False)
    _is_save_asked: bool = field(default=False, init=False)

    def train(self) -> dict[str, float]:
        """Return the results of a run that ended or was stopped; tear down what it took."""
        status = "failed"
        with ExitStack() as cleanup:
            flag = cleanup.enter_context(SignalFlag(on_usr1=self.run.request_save))
            cleanup.callback(lambda: self.run.strategy.teardown(status))
            cleanup.callback(setattr, self.run, "module", self.run.policy)  # frees the wrapper
            cleanup.callback(self.store.close)
            cleanup.callback(lambda: self.loggers.close(status))
            cleanup.callback(lambda: self.run.events.run_end(self.run, status))
            cleanup.callback(self.saver.wait)
            try:
                self._setup()
                self._steps(flag)
                self.saver.wait()
                self._report_saved()
                status = "stopped" if self._is_interrupted else "done"
            except BaseException as error:
                self.run.events.run_exception(self.run, error)
                explain = getattr(self.run.strategy, "lost_rank", lambda _: None)
                if (lost := explain(error)) is not None:
                    raise lost from error
                raise
        if self.saver.failure is not None:
            raise self.saver.failure
        if self._fault and not self._is_interrupted:
            raise EvaluationError(f"the evaluation {self._fault}. All steps and saves were made.")
        if self._is_interrupted:
            flag.leave()
        return {
            "final_loss": self._last_loss,
            "global_step": self.run.counters.step,
            "best_eval_loss": self.run.counters.best_eval_loss,
        }

    def _setup(self) -> None:
        run = self.run
        run.register_state("loop", self)
        if isinstance(run.train_step, Stateful):
            run.register_state("train_step", run.train_step)
        run.events.run_setup(run)
        if run.strategy.rank == 0:
            self.store.open()
        run.prepare()
        getattr(run.train_step, "setup", lambda _: None)(run)
        resumed = resume(run, self.store)
        if run.strategy.rank == 0 and not resumed:
            self.store.set_aside()
        about = {"resumed": resumed[0]} if resumed else {}
        self.loggers.start({**run.facts, **about}, run.step)
        run.events.run_start(run)
        if resumed:
            restore_random_state(run, resumed[1])

    def _steps(self, flag: SignalFlag) -> None:
        run, config = self.run, self.run.config
        if run.step >= config.max_steps or (run.stop_reason and self._is_finished):
            self._end_again()
            return
        self._save_missing(*self._due())
        self._is_stopping = bool(run.stop_reason)  # a run that was stopped early, and resumed
        run.module.train()
        gc.collect()
        gc.freeze()  # a full collection over torch's own objects costs a fifth of a second
        self._throughput.restart()
        batches = self.feed.batches(run.step)
        try:
            while run.step < config.max_steps and not self._is_stopping:
                run.phase = "batch"
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

    def _save_missing(self, *names: str) -> bool:
        """Write what a kill or a full disk has kept from being written at this step."""
        run = self.run
        missing = [name for name in names if not self.store.has(name, run.step)]
        if missing := run.strategy.broadcast(missing):
            self._save(*missing)
        self._is_best = self._is_save_asked = False
        return bool(missing)

    def _end_again(self) -> None:
        """Complete a run that was killed at its very end."""
        run, steps = self.run, self.run.config.max_steps
        if run.step > steps or not self._save_missing(*self._due(), "final"):
            why = f" ({run.stop_reason})" if run.stop_reason else ""
            logger.warning("nothing to do: the run ended at step %d of %d%s", run.step, steps, why)
            if run.strategy.rank == 0:
                self.store.prune()  # a kill may have come before that

    def _step(self, batch: Batch) -> None:
        run = self.run
        run.phase = "step"
        result = run.train_step.update(run, batch)
        if not isinstance(result, StepResult):
            found = f"{type(run.train_step).__name__}.update broke its contract: expected a "
            raise PolicyError(f"{found}StepResult, got {type(result).__name__}.", step=run.step)
        self._advance(result, sample_count(batch))
        for hook in run.events.step_end:
            hook(run, result.out)

    def _advance(self, result: StepResult, size: int) -> None:
        run, counters, applied = self.run, self.run.counters, result.applied
        counters.step += 1
        counters.samples += size
        self._throughput.samples += size
        if isinstance(applied, Tensor):  # read at the end of the window, till then taken as true
            result.metrics["applied"], applied = applied.float(), True
        else:
            run.skipped_in_row = 0 if applied else run.skipped_in_row + 1
        if not applied:
            counters.skipped += 1
        else:
            counters.updates += 1
            if counters.schedule_lag:
                counters.schedule_lag -= 1
            else:
                run.schedule.step()
        self._window.add(result.metrics, counters.step)

    def _observe(self, flag: SignalFlag) -> None:
        run, config = self.run, self.run.config
        if run.step % config.log_every == 0:
            self._log(flag)
        is_last = run.step == config.max_steps
        is_eval = not is_last and config.eval_every > 0 and run.step % config.eval_every == 0
        if is_eval:
            self._evaluate()
        if run.strategy.world_size == 1:
            self._synchronise(self._flags(flag))
        elif is_eval:  # what an evaluation asks for is about the weights that it saw
            everyone = run.strategy.gather(self._flags(flag))
            self._synchronise([any(flags) for flags in zip(*everyone, strict=True)])
        if is_last or (self._is_stopping and not self._is_interrupted):
            return  # `_finish` saves, once all of the run is in the checkpoint
        if names := self._due():
            self._save(*names)
        self._report_saved()

    def _due(self) -> list[str]:
        """Return the checkpoints to write after this step, but for the final one."""
        run, every = self.run, self.run.config.save_every
        names = ["best"] if self._is_best else []  # first: what comes later tells the new best loss
        if self._is_save_asked or (run.step * every > 0 and run.step % every == 0):
            names.append(f"step_{run.step}")
        return names

    def _flags(self, flag: SignalFlag | None) -> tuple[bool, bool, bool]:
        """Return whether this rank was interrupted, wants to stop, and wants a checkpoint."""
        run = self.run
        interrupted = flag is not None and bool(flag.name)
        return interrupted, bool(run.stop_reason), run.save_requested

    def _synchronise(self, flags: Sequence[bool]) -> None:
        self._is_interrupted, is_stop_asked, self._is_save_asked = flags
        self._is_stopping = self._is_interrupted or is_stop_asked

    def _finish(self) -> None:
        if self.run.step % self.run.config.log_every:
            self._log()
        self._evaluate()
        self._is_finished = True
        self._save(*self._due(), "final")

    def _log(self, flag: SignalFlag | None = None) -> None:
        run = self.run
        means, agreed = self._window.reduce(run.strategy, self._flags(flag))
        if run.strategy.world_size > 1:
            self._synchronise(agreed)
        if "applied" in means:
            in_window = run.step % run.config.log_every or run.config.log_every
            skipped = run.counters.correct(in_window, applied_fraction=means.pop("applied"))
            run.skipped_in_row = run.skipped_in_row + skipped if skipped == in_window else 0
        self._last_loss = means.get("loss", math.nan)
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics["train/lr"] = run.optimizer.param_groups[0]["lr"]
        metrics["train/skipped"] = float(run.counters.skipped)
        if isinstance(steps := self.feed.steps_per_epoch, int) and steps:
            metrics["train/epoch"] = run.step / steps
        rate, run.untimed_s = self._throughput.rate(run.untimed_s), 0.0
        metrics["perf/samples_per_s"] = rate * run.strategy.world_size
        self.run.events.metrics(run, metrics)
        self.loggers.log(metrics, run.step)
        self._throughput.restart()

    def _evaluate(self) -> None:
        """Evaluate and log, once a step; note whether eval/loss is the best so far."""
        run = self.run
        if not self.evals or self._evaluated_at == run.step:
            return
        self._evaluated_at = run.step
        run.phase = "evaluation"
        with self._throughput.paused():
            self._wait_for_save()
            found = evaluate(run, self.evals)
            self._fault = self._fault or next(iter(found.faults), "")
            self.loggers.log(found.metrics, run.step)
            self.loggers.log_pictures(found.pictures, run.step)
        loss = found.metrics.get("eval/loss", math.nan)
        self._is_best = loss < run.counters.best_eval_loss
        if self._is_best:
            self._best_before, run.counters.best_eval_loss = run.counters.best_eval_loss, loss

    def _save(self, *names: str) -> None:
        run, saver = self.run, self.saver
        run.save_requested = False
        run.phase = "checkpoint"
        with self._throughput.paused():
            self._wait_for_save()  # every rank: no shard of the next save before this is whole
            tree = checkpoint_tree(run)
            self._is_best = self._is_save_asked = False
            self._report_saved()  # before the next save may prune what this reports
            saver.submit(names, tree, step=run.step)

    def _wait_for_save(self) -> None:
        """Wait for the save before; a `best` that could not be written is the best no more."""
        self.saver.wait_for_turn()
        if self.run.strategy.broadcast("best" in self.saver.failed):
            self.run.counters.best_eval_loss, self.saver.failed = self._best_before, ()

    def _report_saved(self) -> None:
        for info in self.saver.finished():
            self.run.events.checkpoint_saved(self.run, info)

    def state_dict(self) -> StateDict:
        """Return each rank's open logging window, so that a resumed run logs the same means."""
        return {
            "windows": self.run.strategy.gather(self._window.state_dict()),
            "last_loss": self._last_loss,
            "evaluated_at": self._evaluated_at,
            "is_finished": self._is_finished,
            "is_best": self._is_best,
            "is_save_asked": self._is_save_asked,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue this rank's logging window."""
        strategy = self.run.strategy
        if strategy.rank < len(state["windows"]):
            self._window.load_state_dict(state["windows"][strategy.rank], strategy.device)
        self._last_loss = float(state["last_loss"])
        self._evaluated_at = int(state.get("evaluated_at", -1))
        self._is_finished = bool(state.get("is_finished", False))
        self._is_best = bool(state.get("is_best", False))
        self._is_save_asked = bool(state.get("is_save_asked", False))
