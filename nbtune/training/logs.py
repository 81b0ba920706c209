"""Keeps the log of each step, and averages the logs of an epoch."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["copied", "means_of"]


def copied(log: dict[str, Any]) -> dict[str, Any]:
    """Return a step's log with its tensors flattened and copied, because the next step may change them in place."""
    return {name: value.detach().flatten().clone() if isinstance(value, torch.Tensor) else value for name, value in log.items()}


def means_of(logs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means over the steps, and the last learning rate; this waits for the device once per name."""
    means = {}
    for name in logs[-1]:
        values = [log[name] for log in logs]
        there = [value for value in values if isinstance(value, torch.Tensor)]
        here = [float(value) for value in values if not isinstance(value, torch.Tensor)]
        means[name] = float(values[-1]) if name == "lr" else (sum(torch.cat(there).tolist() if there else []) + sum(here)) / len(values)
    return means
