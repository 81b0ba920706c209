"""Teach a local language model a fact from inside a notebook, prove it, and take it back.

Heavy modules are imported only when they are used: ``import nbtune`` and ``%load_ext nbtune`` do not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbtune.errors import NbtuneError
from nbtune.imports import import_modules

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbtune.knowledge.facts import Fact
    from nbtune.knowledge.result import FactNotLearned, Result
    from nbtune.knowledge.scoring import Report
    from nbtune.knowledge.settings import Settings
    from nbtune.language_model import LanguageModel, load
    from nbtune.model.sampling import Sampling
    from nbtune.session import current
    from nbtune.vocabulary import prune_vocabulary

__version__ = "0.1.0"
__all__ = [
    "Fact",
    "FactNotLearned",
    "LanguageModel",
    "NbtuneError",
    "Report",
    "Result",
    "Sampling",
    "Settings",
    "current",
    "load",
    "prune_vocabulary",
]

_HOMES = {
    "Fact": "nbtune.knowledge.facts",
    "FactNotLearned": "nbtune.knowledge.result",
    "LanguageModel": "nbtune.language_model",
    "Report": "nbtune.knowledge.scoring",
    "Result": "nbtune.knowledge.result",
    "Sampling": "nbtune.model.sampling",
    "Settings": "nbtune.knowledge.settings",
    "current": "nbtune.session",
    "load": "nbtune.language_model",
    "prune_vocabulary": "nbtune.vocabulary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbtune' has no attribute {name!r}")
    import_modules([_HOMES[name]])
    return getattr(import_module(_HOMES[name]), name)  # waits if another thread is importing the module


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%chat``, ``%finetune`` and ``%nbtune``; called by ``%load_ext nbtune``."""
    from nbtune.magics import register

    register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics, the configuration and the loaded model; called by ``%unload_ext nbtune``."""
    from nbtune.magics import unregister

    unregister(shell)
