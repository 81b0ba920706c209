"""Imports torchkeras quietly: its package prints a line for every optional dependency it misses."""

from __future__ import annotations

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    from torchkeras.kerasmodel import KerasModel as TorchkerasModel
    from torchkeras.kerasmodel import StepRunner as TorchkerasStepRunner

__all__ = ["TorchkerasModel", "TorchkerasStepRunner"]
