"""Closed-loop evaluation."""

from simscaleai_plugin_gym import EvalConfig, evaluate_policy

__all__ = ["EvalConfig", "evaluate_policy"]
