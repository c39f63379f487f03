"""Whatever an environment does wrong is one error of one line, with its name, the seed and the step."""

import pickle
import signal
import threading
import time

import faulty_toys
import gymnasium
import numpy as np
import pytest
from faulty_toys import FAULTY, expert
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym import EvalConfig, evaluate_policy, make_env, make_vector_env
from simscaleai_plugin_gym.envs.failures import EnvError, close_env
from simscaleai_plugin_gym.envs.limits import TimeLimitReached, limited
from simscaleai_plugin_gym.envs.success import rule_from_text
from simscaleai_plugin_gym.video.frames import episode_frames

from simscaleai_core.errors import ConfigError, SimScaleError

LIMIT_S = 10.0
SHORT_S = 0.1  # for those that hang
HANGS = ("sleep", "swallow")
RAISES = {
    "raise": "ValueError: the spring broke",
    "unpicklable": "UnpicklableError: the cable",
    "exit": "SystemExit: 3",
}


def run(vectorization, *, limit_s=None, **faults):
    """Evaluate three episodes, and leave nothing behind."""
    if limit_s is None:
        limit_s = SHORT_S if faults["fault"] in HANGS else LIMIT_S
    if vectorization == "single":
        env = make_env(FAULTY, env_timeout_s=limit_s, **faults)
    else:
        env = make_vector_env(
            FAULTY, 2, vectorization=vectorization, env_timeout_s=limit_s, **faults
        )
    processes = getattr(env, "processes", ())
    try:
        config = EvalConfig(seeds=[0, 1, 2], env_timeout_s=limit_s)
        return evaluate_policy(env, expert if vectorization != "native" else np.copy, config)
    finally:
        if vectorization != "single":
            close_env(env, FAULTY, limit_s)
        assert not any(process.is_alive() for process in processes)


def message_of(vectorization, **faults):
    with pytest.raises(SimScaleError) as caught:
        run(vectorization, **faults)
    text = str(caught.value)
    assert "\n" not in text and "Toys/Faulty-v0'" in text
    return caught.value, text


def check_fault(vectorization, fault, place, **options):
    error, text = message_of(vectorization, fault=fault, place=place, **options)
    if place == "construction":
        expected = "did not return from its construction" if fault in HANGS else "cannot be made: "
        assert expected in text
        return
    where = "step 2 of seed 1" if place == "step" else "the reset with seed 1"
    assert where in text and isinstance(error, EnvError)
    assert (error.seed, error.step) == (1, 2 if place == "step" else 0)
    if fault in RAISES:
        assert f"failed in {where}: {RAISES[fault]}. Fix" in text
    elif fault in HANGS:
        assert (
            f"did not return from {where}: expected it within" in text and "--env-timeout-s" in text
        )
    elif fault != "killed":
        assert f"gave a wrong result in {where}: expected " in text and ", got " in text


IN_TURN = [
    *((fault, place) for fault in [*RAISES, *HANGS] for place in ("construction", "reset", "step")),
    *((fault, "step") for fault in faulty_toys.STEP),
    *((fault, "reset") for fault in faulty_toys.RESET),
]


@pytest.mark.parametrize("vectorization", ["single", "sync"])
@pytest.mark.parametrize(("fault", "place"), IN_TURN)
def test_a_fault_in_turn(vectorization, fault, place):
    began = time.monotonic()
    check_fault(vectorization, fault, place)
    assert time.monotonic() - began < 5


IN_PROCESSES = [
    *((fault, place) for fault in [*RAISES, "killed"] for place in ("construction", "reset", "step")),
    ("sleep", "construction"),
    ("swallow", "reset"),
    ("sleep", "step"),
    *((fault, "step") for fault in ("nan", "nan reward", "shape", "size", "type", "four")),
    ("nothing", "reset"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "place"), IN_PROCESSES)
def test_a_fault_in_processes(capfd, fault, place):
    options = {"there": True} if place == "construction" else {}
    if fault == "killed" and place == "construction":
        _, text = message_of("async", fault=fault, place=place, **options)
        assert "failed in its construction: its process ended with SIGKILL" in text
    else:
        check_fault("async", fault, place, limit_s=0.5 if fault in HANGS else LIMIT_S, **options)
    assert capfd.readouterr().err == ""  # no traceback of a process


@pytest.mark.slow
def test_a_process_that_is_stopped_is_not_waited_for():
    """As one that computes without end in compiled code, it cannot be interrupted, but ended."""
    began = time.monotonic()
    _, text = message_of("async", limit_s=0.5, fault="stopped")
    assert "did not return from step 2 of seed 1: expected it within 5.5 s" in text
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_fault_here_before_there_is_any_process():
    for fault, expected in (("raise", "cannot be made"), ("sleep", "did not return from its cons")):
        began = time.monotonic()
        assert expected in message_of("async", fault=fault, place="construction")[1]
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("fault", ["raise", "exit", "sleep"])
@pytest.mark.parametrize("vectorization", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_what_cannot_be_closed_is_a_warning_and_the_results_are_kept(
    caplog, capfd, vectorization, fault
):
    results = run(vectorization, fault=fault, place="close")
    assert results["success_rate"] == 1.0 and results["lengths"] == [4, 4, 4]
    said = caplog.text + capfd.readouterr().err
    assert "failed to close" in said or (fault in HANGS and "did not close within 0.1 s" in said)
    assert "Traceback" not in said


def test_a_method_that_hangs():
    def act(observation, language):
        return expert(observation)

    env = make_env(FAULTY, fault="sleep", place="attribute")
    config = EvalConfig(seeds=[0], env_timeout_s=SHORT_S)
    with pytest.raises(EnvError, match="did not return from task_description after step 0 of seed"):
        evaluate_policy(env, act, config)


def test_a_method_that_fails():
    def act(observation, language):
        return expert(observation)

    env = make_vector_env(FAULTY, 2, vectorization="sync", fault="raise", place="attribute")
    with pytest.raises(EnvError, match="failed in task_description after step 0 of seed 0: ValueE"):
        evaluate_policy(env, act, EvalConfig(seeds=[0, 1]))


@pytest.mark.parametrize("fault", [*faulty_toys.BATCH, "raise", "sleep"])
def test_a_fault_of_a_batch_of_its_own(fault):
    _, text = message_of("native", fault=fault)
    where = {"nan": "step 2 of seed 1", "reward": "step 2 of seed 1"}
    assert where.get(fault, "a step (number 2) of one of the seeds 0, 1") in text


@pytest.mark.parametrize("place", ["construction", "reset"])
def test_a_batch_of_its_own_that_hangs(place):
    error, text = message_of("native", fault="sleep", place=place)
    assert "did not return from " in text and error.seed is None


def test_a_ready_vector_environment_is_watched_as_well():
    def build():
        return make_env(FAULTY, fault="nan")

    envs = SyncVectorEnv([build] * 2, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(EnvError, match=r"gave a wrong result in step 2 of seed 1: .* got nan"):
        evaluate_policy(envs, expert, EvalConfig(seeds=[0, 1]))


def test_what_is_no_environment_with_spaces():
    with pytest.raises(ConfigError, match="expected a Gymnasium environment with observation_spa"):
        make_env("faulty_toys:Toys/Spaceless-v0")


def test_the_others_are_closed_if_one_cannot_be_built(monkeypatch):
    closed = []
    monkeypatch.setattr(faulty_toys.Faulty, "close", lambda env: closed.append(env))  # noqa: PLW0108
    built = iter([None, None, ValueError("no licence left")])

    class Third(faulty_toys.Faulty):
        def __init__(self, **options):
            super().__init__(**options)
            error = next(built)
            if error is not None:
                raise error

    monkeypatch.setitem(
        gymnasium.registry, "Third-v0", gymnasium.envs.registration.EnvSpec("Third-v0", Third)
    )
    with pytest.raises(ConfigError, match="cannot be made: no licence left"):
        make_vector_env("Third-v0", 3, vectorization="sync")
    assert len(closed) == 2


def test_an_episode_without_an_end_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr("simscaleai_plugin_gym.rollout.rollouts.MAX_STEPS_WITHOUT_LIMIT", 100)
    envs = make_vector_env(FAULTY, 2, vectorization="sync", limit=0)
    with pytest.raises(
        ConfigError, match=r"of seed 3, got 100 steps\. Give max_steps \(--max-steps\)"
    ):
        evaluate_policy(envs, expert, EvalConfig(seeds=[3]))
    assert evaluate_policy(envs, expert, EvalConfig(seeds=[3], max_steps=5))["lengths"] == [5]


def test_a_drawing_that_hangs():
    class Slow(faulty_toys.Faulty):
        render_mode = "rgb_array"

        def render(self):
            time.sleep(faulty_toys.HANG_S)

    with pytest.raises(EnvError, match=r"did not return from render\(\) after step 0 of seed 5"):
        list(episode_frames(Slow(), expert, 5, env_timeout_s=SHORT_S))


def test_the_error_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(EnvError("broke", env="door", seed=4, step=2)))
    assert (str(error), error.env, error.seed, error.step) == ("broke", "door", 4, 2)


def test_numbers_that_are_given_as_arrays_of_one_are_taken():
    class Arrays(faulty_toys.Faulty):
        def step(self, action):
            seen, reward, terminated, truncated, info = super().step(action)
            return seen, np.array([reward]), np.bool_(terminated), np.int64(truncated), info

    results = evaluate_policy(Arrays(), expert, EvalConfig(seeds=[0]))
    assert results["returns"] == [4.0] and results["lengths"] == [4]


def test_limits_may_be_nested():
    def inner():
        with pytest.raises(TimeLimitReached):
            limited(0.02, time.sleep, 10)
        time.sleep(10)

    began = time.monotonic()
    with pytest.raises(TimeLimitReached):
        limited(0.1, inner)
    assert 0.09 < time.monotonic() - began < 2


def test_a_timer_of_the_caller_goes_on():
    rang = threading.Event()
    handler = signal.signal(signal.SIGALRM, lambda *_: rang.set())
    timer = signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert limited(5, lambda: 3) == 3
        assert rang.wait(2)
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_after_a_limit_no_timer_is_left():
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        with pytest.raises(TimeLimitReached):
            limited(0.02, time.sleep, 5)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_in_another_thread_there_is_no_limit():
    results = []
    thread = threading.Thread(target=lambda: results.append(limited(0.01, time.sleep, 0.1)))
    thread.start()
    thread.join()
    assert results == [None]


RULES = """
from os import mkdir
from pathlib import Path

def good(observation, reward, terminated, truncated, info):
    return truncated

def anything(*arguments):
    Path("called").touch()

def four(observation, reward, terminated, truncated):
    Path("called").touch()

class Rule:
    def __call__(self, observation, reward, terminated, truncated, info):
        return True

rule = Rule()
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    (tmp_path / "named_rules.py").write_text(RULES)
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_success_rule_by_name(rules):
    assert rule_from_text("named_rules:good")(None, 0.0, False, True, {}) is True
    assert rule_from_text("named_rules:rule")(None, 0.0, False, False, {}) is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("os:system", "is of Python's standard library"),
        ("subprocess:call", "is of Python's standard library"),
        ("builtins:eval", "is of Python's standard library"),
        ("named_rules:mkdir", "of your own, got one of Python's standard library or a builtin"),
        ("named_rules:Path", "got ABCMeta|got type"),
        ("named_rules:Rule", "got type"),
        ("named_rules:anything", r"got \(\*arguments\)"),
        ("named_rules:four", "got one that does not take them: too many positional arguments"),
        ("named_rules:none", "has no attribute 'none'"),
        ("leaving:rule", "cannot be imported: SystemExit: 0"),
        (".:rule", "expected the name of a module before the colon, got '.'"),
        (":", "expected the name of a module before the colon, got ''"),
        ("", "expected a key of info or module:function, got ''"),
        ("a\0b", r"expected a key of info or module:function, got 'a\\x00b'"),
    ],
)
def test_what_is_no_success_rule_is_refused_before_it_is_called(rules, text, reason):
    with pytest.raises(ConfigError, match=reason):
        rule_from_text(text)
    assert not (rules / "called").exists()


def test_a_rule_that_fails_is_one_error():
    def rule(observation, reward, terminated, truncated, info):
        return info["far"] > 3

    with pytest.raises(
        ConfigError, match=r"rule 'test_a_rule_that_fails.*' failed .*KeyError: 'far'"
    ):
        evaluate_policy(faulty_toys.Faulty(), expert, EvalConfig(seeds=[0], success=rule))
