"""Describes the machine and the software of a measurement, to be saved with every result."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["machine"]

_PACKAGES = ("nbtune", "torch", "transformers", "peft", "torchkeras", "accelerate")


def machine() -> dict[str, str | int]:
    """Return the versions, processor, number of threads, git revision and, if there is one, the GPU."""
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    cpu = _processor()
    packages = {name: version(name) for name in _PACKAGES}
    ran = {"python": platform.python_version(), "cpu": cpu, "threads": torch.get_num_threads(), "revision": revision}
    if torch.cuda.is_available():
        ran["gpu"] = torch.cuda.get_device_name()
    return {**packages, **ran}


def _processor() -> str:
    """Return the name of the processor; Linux has it in a file, Python knows it only on some systems."""
    known = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", known.read_text(), re.MULTILINE) if known.exists() else None
    return named[1] if named else platform.processor() or platform.machine()
