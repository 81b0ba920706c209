"""The built-in model: its text, its recipe, its weights."""

from pathlib import Path

__all__ = ["BUILT_IN", "WEIGHTS"]

BUILT_IN = "tiny"  # what it is called where a folder or a hub id may stand
WEIGHTS = Path(__file__).parent / "weights"
