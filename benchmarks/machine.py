"""Says what ran where: kept beside every result."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

import torch

__all__ = ["machine"]

_PACKAGES = ("nbtune", "torch", "transformers", "peft", "torchkeras", "accelerate")


def machine() -> dict[str, str | int]:
    """Return versions, processor, threads, GPU where there is one, and git revision."""
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    cpu = platform.processor() or platform.machine()
    packages = {name: version(name) for name in _PACKAGES}
    ran = {"python": platform.python_version(), "cpu": cpu, "threads": torch.get_num_threads(), "revision": revision}
    if torch.cuda.is_available():
        ran["gpu"] = torch.cuda.get_device_name()
    return {**packages, **ran}
