"""The magics package: registers ``%chat``, ``%finetune`` and ``%nbtune``, with their completion and configuration."""

from __future__ import annotations

import re
import tokenize
from itertools import takewhile
from typing import Any

from traitlets import TraitError
from traitlets.config import Config

from nbtune.display.shown import say
from nbtune.errors import first_line
from nbtune.magics.chat import ChatMagics
from nbtune.magics.completion import completer
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.nbtune import NbtuneMagics
from nbtune.magics.takeover import Takeover
from nbtune.magics.warming import WarmUp
from nbtune.session import Nbtune

__all__ = ["register", "unregister"]

_MAGICS = {"chat": ChatMagics, "finetune": FinetuneMagics, "nbtune": NbtuneMagics}
_ASKS = re.compile(r"^(\s*)%chat\s+(\S.*\?)\s*$")
_CONTINUED = re.compile(r"\\\n?$")
_KEYS = [f"{mark}{name}" for name in _MAGICS for mark in ("%", "%%")]


def register(shell: Any) -> None:
    """Add the magics to an IPython shell, unless they are already there."""
    if any(isinstance(item, Nbtune) for item in shell.configurables):
        return
    _drop_refused(shell)
    session = Nbtune(parent=shell)
    shell.configurables.append(session)
    for magics in _MAGICS.values():
        shell.register_magics(magics(shell, session))
    for key in _KEYS:
        shell.set_hook("complete_command", completer(session), str_key=key)
    shell.input_transformers_cleanup.append(keep_question_mark)
    Takeover(shell, _MAGICS).start()
    WarmUp(shell, session).start()


def _drop_refused(shell: Any) -> None:
    """Drop settings that ``%config`` refused, which IPython keeps nonetheless."""
    settings = shell.config.get(Nbtune.__name__, {})
    for name, value in list(settings.items()):
        try:
            Nbtune(config=Config({Nbtune.__name__: {name: value}}))
        except TraitError as error:
            del settings[name]
            say(f"{first_line(error).rstrip('.')}. It is ignored.")


def unregister(shell: Any) -> None:
    """Remove the magics, their completion and the session, with the loaded model, from a shell."""
    for event in ("pre_run_cell", "post_run_cell"):
        for callback in list(shell.events.callbacks[event]):
            if isinstance(watching := getattr(callback, "__self__", None), (WarmUp, Takeover)):
                watching.stop()
    shell.magics_manager.registry[NbtuneMagics.__name__].close()
    for name, magics in _MAGICS.items():
        for kind in ("line", "cell"):
            bound = shell.magics_manager.magics[kind].get(name)
            if isinstance(getattr(bound, "__self__", None), magics):
                del shell.magics_manager.magics[kind][name]
        if isinstance(shell.magics_manager.registry.get(magics.__name__), magics):
            del shell.magics_manager.registry[magics.__name__]
    for key in _KEYS:
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    shell.input_transformers_cleanup[:] = [t for t in shell.input_transformers_cleanup if t is not keep_question_mark]
    shell.configurables[:] = [item for item in shell.configurables if not isinstance(item, (Nbtune, *_MAGICS.values()))]


def keep_question_mark(lines: list[str]) -> list[str]:
    """Let a ``%chat`` line end with a question mark, which IPython would take for a help request.

    Parameters
    ----------
    lines
        The lines of a cell, as IPython passes them to its input transformers.

    Returns
    -------
    list of str
        The lines, with calls of the magic in place of these ``%chat`` lines.
    """
    if lines and lines[0].startswith("%%"):
        return lines
    kept: list[str] = []
    rest = lines
    while rest:
        goes_on = takewhile(lambda line: _CONTINUED.search(line), rest) if rest[0].lstrip().startswith("%chat") else ()
        length = min(sum(1 for _ in goes_on) + 1, len(rest))
        parts, rest = rest[:length], rest[length:]
        asks = _ASKS.match(" ".join(_CONTINUED.sub("", part) for part in parts))
        asks = None if asks and _ends_in_a_string(kept) else asks
        kept += [f"{asks[1]}get_ipython().run_line_magic('chat', {asks[2]!r})\n"] if asks else parts
    return kept


def _ends_in_a_string(lines: list[str]) -> bool:
    """Return whether lines end inside a string that continues after them."""
    try:
        for _ in tokenize.generate_tokens(iter(lines).__next__):
            pass
    except tokenize.TokenError as error:  # the second is the message from Python 3.12 on
        return "multi-line string" in str(error) or "triple-quoted" in str(error)
    except SyntaxError:  # syntax that only IPython understands
        pass
    return False
