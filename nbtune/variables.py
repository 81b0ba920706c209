"""Looks up the notebook's variables that options name."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["source_of", "variable"]


def source_of(given: str, namespace: Mapping[str, Any], option: str) -> Any:
    """Return what an option takes data from: a notebook variable, or the name of a file, a folder or a data set.

    Raises
    ------
    NbtuneError
        For the name of a variable that is not there, and of nothing else that is.
    """
    if given.isidentifier() and (given in namespace or not Path(given).exists()):
        return variable(given, namespace, option)
    return given


def variable(name: str, namespace: Mapping[str, Any], option: str) -> Any:
    """Return a notebook variable that an option names.

    Raises
    ------
    NbtuneError
        When there is none of that name.
    """
    if name not in namespace:
        own = [key for key in namespace if not key.startswith("_") and not hasattr(builtins, key)]
        raise NbtuneError(f"{option}: there is no variable {name!r} in the notebook.{did_you_mean(name, own)}")
    return namespace[name]
