"""Tells the user when another package registers a magic of the same name, which then runs instead of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Takeover"]


class Takeover:
    """A check of the magics after each cell; torchkeras, for example, registers its own ``%%chat`` with each chat object.

    Parameters
    ----------
    shell
        The IPython shell.
    own
        Our magics classes, by name of the magic.
    """

    def __init__(self, shell: Any, own: Mapping[str, type]) -> None:
        self._shell, self._own = shell, own
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin to check, from the end of the current cell on."""
        self._shell.events.register("post_run_cell", self._after)

    def stop(self) -> None:
        """Stop checking."""
        self._shell.events.unregister("post_run_cell", self._after)

    def _after(self, _result: Any) -> None:
        for name, magics in self._own.items():
            bound = self._shell.magics_manager.magics["line"].get(name)
            owner = getattr(bound, "__self__", None)
            if bound is None or isinstance(owner, magics):
                self._told.discard(name)
            elif name not in self._told:
                self._told.add(name)
                module = type(owner).__module__ if owner is not None else bound.__module__
                print(
                    f"%{name} now belongs to {module}, not nbtune. `%reload_ext nbtune` takes it back: adapters stay, "
                    "model and conversation start over."
                )
