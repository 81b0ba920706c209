"""The built-in model: its training text, its recipe and its weights."""

from pathlib import Path

__all__ = ["BUILT_IN", "WEIGHTS"]

BUILT_IN = "tiny"  # name of the model, accepted in place of a folder or a hub id
WEIGHTS = Path(__file__).parent / "weights"
