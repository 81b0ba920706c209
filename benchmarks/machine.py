"""Says what ran where: kept beside every result."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

import torch

__all__ = ["machine"]

_PACKAGES = ("nbtune", "torch", "transformers", "peft", "torchkeras", "accelerate")


def machine() -> dict[str, str | int]:
    """Return versions, processor, threads and git revision."""
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    cpu = platform.processor() or platform.machine()
    packages = {name: version(name) for name in _PACKAGES}
    return {**packages, "python": platform.python_version(), "cpu": cpu, "threads": torch.get_num_threads(), "revision": revision}
