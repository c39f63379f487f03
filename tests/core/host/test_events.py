"""Compiled listeners: pluggy's semantics at the price of a tuple."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai_core.errors import PluginError
from simscaleai_core.host.events import compile_events
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.events import Events, _nothing

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    LOG.clear()


def _listener(**members: Any) -> Any:
    marked = {name: hookimpl(function) for name, function in members.items()}
    return type("Listener", (), marked)()


def _logging(name: str) -> Any:
    return _listener(
        simscale_on_step_end=lambda self, run, out: LOG.append(f"{name}.step"),
        simscale_on_run_setup=lambda self, run: LOG.append(f"{name}.setup"),
        simscale_on_run_end=lambda self, run, status: LOG.append(f"{name}.end:{status}"),
    )


def test_no_listener_costs_nothing() -> None:
    events = compile_events([("policy", nn.Linear(1, 1)), ("none", object())])
    assert events.transform_batch == events.grads_ready == events.step_end == ()
    events.run_setup(None)
    events.metrics(None, {})
    events.run_end(None, "done")
    assert Events().run_setup is _nothing


def test_listeners_are_called_in_the_given_order_and_end_in_reverse() -> None:
    events = compile_events([(n, _logging(n)) for n in ("b", "a", "c")])
    events.run_setup("run")
    for step in events.step_end:
        step("run", {})
    events.run_end("run", "done")
    assert LOG == ["b.setup", "a.setup", "c.setup", "b.step", "a.step", "c.step",
                   "c.end:done", "a.end:done", "b.end:done"]  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [lambda self: LOG.append("x"), lambda self, out: LOG.append(out),
     lambda self, run: LOG.append(run), lambda self, out, run: LOG.append(run + out),
     lambda self, run, out: LOG.append(run + out)],
    ids=["none", "out", "run", "swapped", "all"],
)  # fmt: skip
def test_a_listener_may_take_fewer_arguments_in_any_order(function: Any) -> None:
    (step,) = compile_events([("x", _listener(simscale_on_step_end=function))]).step_end
    step("run", "out")
    names = function.__code__.co_varnames[1:]
    assert ["".join(n for n in ("run", "out") if n in names) or "x"] == LOG


def test_the_fast_path_is_the_method_itself() -> None:
    listener = _logging("a")
    (step,) = compile_events([("a", listener)]).step_end
    assert step.__self__ is listener


def test_batches_are_chained() -> None:
    events = compile_events(
        [("double", _listener(simscale_transform_batch=lambda self, batch: batch * 2)),
         ("add", _listener(simscale_transform_batch=lambda self, run, batch: batch + run))]
    )  # fmt: skip
    batch = 3
    for transform in events.transform_batch:
        batch = transform(10, batch)
    assert batch == 16


def _voter(vote: bool | None) -> Any:
    def ready(self: Any) -> bool | None:
        LOG.append(str(vote))
        return vote

    return _listener(simscale_on_grads_ready=ready)


@pytest.mark.parametrize(
    ("votes", "vetoed"), [([None, True, None], True), ([None, False], False), ([True, False], True)]
)
def test_every_listener_votes(votes: list[bool | None], vetoed: bool) -> None:
    events = compile_events([(str(i), _voter(v)) for i, v in enumerate(votes)])
    assert any([bool(ready("run")) for ready in events.grads_ready]) is vetoed  # noqa: C419
    assert [str(v) for v in votes] == LOG


@pytest.mark.parametrize(
    ("hook", "returned", "got"),
    [("transform_batch", None, "a batch, got nothing"), ("transform_batch", [1], "a batch, got list"),
     ("on_grads_ready", "yes", "True, False or nothing, got str"), ("on_grads_ready", 1, "got int"),
     ("on_grads_ready", torch.tensor(False), "got Tensor"),
     ("eval_context", 3, "a context manager or nothing, got int")],
)  # fmt: skip
def test_what_a_listener_returns_is_checked(hook: str, returned: Any, got: str) -> None:
    """The listener that returned it is named, among others that are sound."""
    sound = {"transform_batch": {}, "on_grads_ready": True, "eval_context": nullcontext()}[hook]
    named = [("first", sound), ("wrong", returned), ("last", sound)]
    returning = _returning_batch if hook == "transform_batch" else _returning
    events = compile_events(
        [(name, _listener(**{f"simscale_{hook}": returning(value)})) for name, value in named]
    )
    values = ["run", {}] if hook == "transform_batch" else ["run"]
    functions = getattr(events, hook.removeprefix("on_"))
    with pytest.raises(PluginError, match=f"simscale_{hook} .*{got} @ wrong") as caught:
        [function(*values) for function in functions]
    assert caught.value.plugin == "wrong"


def _returning(value: Any) -> Any:
    return lambda self, run: value


def _returning_batch(value: Any) -> Any:
    return lambda self, run, batch: value


def test_a_wrong_veto_is_found_under_a_wrapper_too() -> None:
    wrong = _listener(simscale_on_grads_ready=_returning("yes"))
    events = compile_events([("wrapper", Wrapper()), ("w", wrong), ("v", _voter(True))])
    with pytest.raises(PluginError, match="got str @ wrapper, w, v"):
        events.grads_ready[0]("run")


def test_a_wrapper_that_keeps_the_answer_is_no_crash() -> None:
    class Silent:
        @hookimpl(wrapper=True)
        def simscale_on_grads_ready(self) -> Iterator[None]:
            yield

        @hookimpl(wrapper=True)
        def simscale_on_step_end(self) -> Iterator[None]:
            yield

    events = compile_events([("silent", Silent()), ("v", _voter(True)), ("a", _logging("a"))])
    assert not events.grads_ready[0]("run")
    events.step_end[0]("run", {})
    assert LOG == ["True", "a.step"]


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_listener_whose_body_would_never_run_is_refused(kind: str) -> None:
    def generator(self: Any) -> Iterator[None]:
        yield

    async def coroutine(self: Any) -> None:
        pass

    function: Any = {"generator": generator, "async": coroutine}[kind]
    with pytest.raises(PluginError, match="x: simscale_on_step_end is async or a generator"):
        compile_events([("x", _listener(simscale_on_step_end=function))])


class Wrapper:
    """Goes around the others."""

    @hookimpl(wrapper=True)
    def simscale_on_step_end(self, run: Any) -> Iterator[None]:
        LOG.append("before")
        result = yield
        LOG.append("after")
        return result

    @hookimpl(wrapper=True)
    def simscale_on_grads_ready(self) -> Iterator[None]:
        return (yield)


def test_a_wrapper_goes_around_the_others() -> None:
    events = compile_events([("a", _logging("a")), ("wrapper", Wrapper()), ("b", _logging("b"))])
    (step,) = events.step_end
    step("run", {})
    assert LOG == ["before", "a.step", "b.step", "after"]


def test_a_wrapper_keeps_vetoes() -> None:
    events = compile_events([("wrapper", Wrapper()), ("v", _voter(True)), ("w", _voter(None))])
    assert any(ready("run") for ready in events.grads_ready)
    events = compile_events([("wrapper", Wrapper()), ("v", _voter(None))])
    assert not any(ready("run") for ready in events.grads_ready)


@pytest.mark.parametrize(
    "name",
    ["transform_batch", "eval_context", "on_checkpoint_saved", "on_run_exception", "on_run_end"],
)
def test_an_isolated_event_cannot_be_wrapped(name: str) -> None:
    """Each listener is called on its own there; a wrapper would silently do nothing."""

    def around(self: Any) -> Iterator[None]:
        yield

    listener = type("W", (), {f"simscale_{name}": hookimpl(wrapper=True)(around)})()
    with pytest.raises(PluginError, match=f"simscale_{name} cannot be wrapped, but w does"):
        compile_events([("a", _logging("a")), ("w", listener)])


def test_an_exception_at_the_end_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(self: Any) -> None:
        raise ValueError("at the end")

    listeners = [("a", _logging("a")), ("bad", _listener(simscale_on_run_end=fail)),
                 ("c", _logging("c"))]  # fmt: skip
    with caplog.at_level(logging.WARNING, "simscaleai"):
        compile_events(listeners).run_end("run", "failed")
    assert LOG == ["c.end:failed", "a.end:failed"]
    assert "bad.simscale_on_run_end failed" in caplog.text


def test_an_exception_in_a_step_is_raised() -> None:
    def fail(self: Any) -> None:
        raise ValueError("in the step")

    (step,) = compile_events([("bad", _listener(simscale_on_step_end=fail))]).step_end
    with pytest.raises(ValueError, match="in the step"):
        step("run", {})


def test_a_failing_save_listener_is_disabled_after_three(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(self: Any) -> None:
        LOG.append("called")
        raise ValueError("no upload")

    events = compile_events([("up", _listener(simscale_on_checkpoint_saved=fail))])
    for _ in range(5):
        events.checkpoint_saved("run", "info")
    assert LOG == ["called"] * 3
    assert "disabled" in caplog.text


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (("simscale_on_stpe_end", hookimpl(lambda self: None)),
         "unknown hook 'simscale_on_stpe_end'; did you mean 'simscale_on_step_end'?"),
        (("simscale_on_step_end", hookimpl(lambda self, loss: None)), "no argument 'loss'"),
        (("simscale_on_step_end", lambda self: None), "not marked: put @hookimpl above it"),
        (("simscale_on_step_end", hookimpl(lambda self, out=None: None)), "has a default"),
        (("simscale_on_step_end", hookimpl(lambda self, **rest: None)), r"\*\*kwargs"),
    ],
    ids=["typo", "argument", "unmarked", "default", "kwargs"],
)  # fmt: skip
def test_a_faulty_listener_is_named(member: tuple[str, Any], text: str) -> None:
    listener = type("Bad", (), dict([member]))()
    with pytest.raises(PluginError, match=text.replace("?", r"\?")) as caught:
        compile_events([("extension 'bad'", listener)])
    assert caught.value.plugin == "extension 'bad'"


def test_properties_of_a_listener_are_not_touched() -> None:
    class Costly:
        @property
        def huge(self) -> None:
            raise AssertionError("touched")

        @hookimpl
        def simscale_on_run_start(self) -> None:
            LOG.append("started")

    compile_events([("costly", Costly())]).run_start("run")
    assert LOG == ["started"]


def test_two_listeners_of_one_name_are_both_called() -> None:
    """An extension and a logger of one plugin may have the same short name."""
    events = compile_events([("wandb", _logging("a")), ("wandb", _logging("b"))])
    events.run_setup("run")
    assert LOG == ["a.setup", "b.setup"]
