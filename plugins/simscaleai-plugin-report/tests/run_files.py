"""Files of a run of which all is known."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from PIL import Image
from simscaleai_plugin_gym.evaluate.intervals import success_rate

SEEDS = list(range(500, 512))


def evaluate(directory: Path, successes: list[bool], **more: object) -> None:
    """Write what `simscale eval --output` writes, with these outcomes."""
    number = len(successes)
    results = {
        "checkpoint": str(directory / "final.pt"),
        "env": "reach",
        "env_kwargs": {"images": 0},
        **success_rate(sum(successes), number),
        "success_at_end_rate": sum(successes) / number,
        "n_episodes": number,
        "mean_return": 1.5,
        "mean_length": 12.0,
        "seeds": SEEDS[:number],
        "successes": successes,
        "initial_conditions": [
            {"target.0": float(place), "target.1": 0.5 * (place % 3), "light": 1.0}
            for place in range(number)
        ],
        "returns": [0.25 * place for place in range(number)],
        "lengths": [10 + place for place in range(number)],
        "predict_ms": {"p50": 0.25, "p95": 0.5, "p99": 0.75, "max": 1.25, "calls": 40},
        "policy_share": 0.125,
        "env_share": 0.75,
    }
    (directory / "eval.json").write_text(json.dumps({**results, **more}))


def sweep(path: Path, varied: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    """Write what `simscale eval --vary --output` writes: rates of each policy, in order."""
    conditions = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    nominal = {name: values[0] for name, values in varied.items()}
    cells = [
        {
            "policy": policy,
            "condition": condition,
            **success_rate(round(100 * rate), 100),
            "n_episodes": 100,
            "difference": rate - found[0],
            "difference_ci95": [rate - found[0] - 0.1, rate - found[0] + 0.1],
            "p_value": 0.001 if rate < found[0] - 0.1 else 1.0,
            "p_value_corrected": 0.01 if rate < found[0] - 0.1 else 1.0,
        }
        for policy, found in rates.items()
        for condition, rate in zip(conditions, found, strict=True)
    ]
    results = {
        "kind": "sweep",
        "env": "reach",
        "varied": varied,
        "policies": list(rates),
        "n_episodes": 100,
        "nominal": nominal,
        "cells": cells,
        "answer": ["one/final.pt: worst with delay=2."],
    }
    path.write_text(json.dumps(results))


def film(directory: Path, size: int = 2000) -> dict[str, object]:
    """Write a contact sheet and a film, and return what an evaluation says of them."""
    directory.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (320, 64), (200, 30, 30)).save(directory / "contact_sheet.png")
    (directory / "seed_500.mp4").write_bytes(b"\0\0\0\x18ftyp" + bytes(size))
    video = {"file": str(directory / "seed_500.mp4"), "seed": 500, "success": False}
    return {"videos": [video], "contact_sheet": str(directory / "contact_sheet.png")}
