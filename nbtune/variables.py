"""Looks up notebook variables that are named by options."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["source_of", "variable"]


def source_of(given: str, namespace: Mapping[str, Any], option: str) -> Any:
    """Return the data source that an option names: the value of a notebook variable, or the name of a file, folder or data set.

    Raises
    ------
    NbtuneError
        When the name could be that of a variable, but there is neither such a variable nor such a file or folder.
    """
    if given.isidentifier() and (given in namespace or not Path(given).exists()):
        return variable(given, namespace, option)
    return given


def variable(name: str, namespace: Mapping[str, Any], option: str) -> Any:
    """Return the value of the notebook variable that an option names.

    Raises
    ------
    NbtuneError
        When there is no variable of that name.
    """
    if name not in namespace:
        own = [key for key in namespace if not key.startswith("_") and not hasattr(builtins, key)]
        raise NbtuneError(f"{option}: there is no variable {name!r} in the notebook.{did_you_mean(name, own)}")
    return namespace[name]
