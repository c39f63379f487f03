"""Closed-loop evaluation."""

from simscaleai_plugin_sim import EvalConfig, evaluate_policy

__all__ = ["EvalConfig", "evaluate_policy"]
