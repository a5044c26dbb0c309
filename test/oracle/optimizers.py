"""Optimizers written from their papers in NumPy, float64: parameters after each update.

usage: optimizers.py REQUEST.json; prints JSON: for each case the list of {path: values} after each update.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
State = dict[str, Any]
Rule = Callable[[str, Array, Array, State, int, dict[str, Any]], Array]


def adam(_path: str, g: Array, p: Array, state: State, t: int, o: dict[str, Any]) -> Array:
    """Kingma & Ba 2015, Algorithm 1."""
    g = g + o.get("l2", 0.0) * p
    b1, b2 = o.get("beta1", 0.9), o["beta2"]
    state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g**2
    return (state["m"] / (1 - b1**t)) / (np.sqrt(state["v"] / (1 - b2**t)) + o.get("epsilon", 1e-8))


def sgd(_path: str, g: Array, _p: Array, state: State, _t: int, o: dict[str, Any]) -> Array:
    state["b"] = o["momentum"] * state.get("b", 0.0) + g
    return g + o["momentum"] * state["b"] if o.get("nesterov") else state["b"]


def lion(_path: str, g: Array, _p: Array, state: State, _t: int, _o: dict[str, Any]) -> Array:
    """Chen et al. 2023, Algorithm 2."""
    m = state.get("m", np.zeros_like(g))
    state["m"] = 0.99 * m + 0.01 * g
    return np.sign(0.9 * m + 0.1 * g)


def adafactor(_path: str, g: Array, p: Array, state: State, t: int, o: dict[str, Any]) -> Array:
    """Shazeer & Stern 2018, Algorithms 4 and 5, with sums as there, not means."""
    decay = 1 - t ** -o.get("decayExponent", 0.8)
    squares = g**2 + 1e-30
    if g.ndim == 2:
        state["r"] = decay * state.get("r", 0.0) + (1 - decay) * squares.sum(1)
        state["c"] = decay * state.get("c", 0.0) + (1 - decay) * squares.sum(0)
        v = np.outer(state["r"], state["c"]) / state["r"].sum()
    else:
        state["v"] = decay * state.get("v", 0.0) + (1 - decay) * squares
        v = state["v"]
    u = g / np.sqrt(v)
    u = u / max(1.0, float(np.sqrt(np.mean(u**2))) / o.get("clipThreshold", 1.0))
    if o.get("scaleByParameter", True):
        u = u * max(1e-3, float(np.sqrt(np.mean(p**2))))
    beta1 = o.get("beta1", 0.0)
    if beta1:
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * u
        return state["m"]
    return u


def muon(path: str, g: Array, p: Array, state: State, t: int, o: dict[str, Any]) -> Array:
    """Jordan 2024 (kellerjordan.github.io/posts/muon); scale "rms" of Liu et al. 2025, equation 4."""
    if g.ndim < 2 or "embed" in path:
        return adam(path, g, p, state, t, {"beta2": 0.95})
    state["b"] = 0.95 * state.get("b", 0.0) + g
    x = g + 0.95 * state["b"]
    rows, columns = x.shape
    tall = rows > columns
    x = x.T if tall else x
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.T if tall else x
    rms = o.get("scale", "rms") == "rms"
    return x * (0.2 * np.sqrt(max(rows, columns)) if rms else np.sqrt(max(1, rows / columns)))


RULES: dict[str, Rule] = {
    "adam": adam,
    "adamw": adam,
    "sgd": sgd,
    "lion": lion,
    "adafactor": adafactor,
    "muon": muon,
}


def run(case: dict[str, Any], start: dict[str, Array], gradients: list[dict[str, Array]]) -> list[dict[str, list]]:
    options = case["options"]
    rate, decay = options["learningRate"], options.get("weightDecay", 0.0)
    parameters = dict(start)
    states: dict[str, State] = {path: {} for path in start}
    after = []
    for t, raw in enumerate(gradients, 1):
        given = raw
        if "clipValue" in options:
            given = {k: np.clip(g, -options["clipValue"], options["clipValue"]) for k, g in given.items()}
        if "clipNorm" in options:
            norm = np.sqrt(sum(float(np.sum(g**2)) for g in given.values()))
            given = {k: g * min(1.0, options["clipNorm"] / (norm + 1e-6)) for k, g in given.items()}
        for path, p in list(parameters.items()):
            direction = RULES[case["rule"]](path, given[path], p, states[path], t, options)
            own = decay if p.ndim >= 2 else 0.0
            parameters[path] = p - rate * (direction + own * p)
        after.append({path: p.reshape(-1).tolist() for path, p in parameters.items()})
    return after


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    start = {path: np.array(values, np.float64) for path, values in request["parameters"].items()}
    gradients = [{path: np.array(values) for path, values in step.items()} for step in request["gradients"]]
    print(json.dumps([run(case, start, gradients) for case in request["cases"]]))


main()
