"""Shows a progress bar while the model works, and the outcome afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbtune.errors import Interrupted
from nbtune.imports import import_modules

if TYPE_CHECKING:
    from nbtune.language_model import LanguageModel
    from nbtune.session import Nbtune

__all__ = ["run_with_progress"]


def run_with_progress(session: Nbtune, work: Callable[[LanguageModel, Any], Any], draw: Callable[[Any], Any]) -> Any:
    """Run some work under a progress bar, and replace the bar with its outcome.

    Parameters
    ----------
    session
        The session; its model is loaded if needed.
    work
        Function of the model and an observer that returns a result.
    draw
        Function that draws the result.

    Returns
    -------
    Any
        The result.

    Raises
    ------
    FactNotLearned
        When the work raises it, after its report card is shown.
    Interrupted
        At Ctrl-C.
    """
    session.imports.wait_for_import()
    import_modules(["nbtune.language_model"])
    from nbtune.display.live import LiveProgress
    from nbtune.display.report_card import report_card
    from nbtune.knowledge.result import FactNotLearned

    live = LiveProgress(growing=session.live)
    try:
        if not session.loaded:
            live.stage(f"loading {session.model}", 1)
        outcome = work(session.lm, live)
    except FactNotLearned as failure:
        live.finish(report_card(failure.result))  # may come from other work, too: an export trains the facts again
        raise
    except KeyboardInterrupt:
        live.clear()
        raise Interrupted("stopped; what was there before is unchanged.") from None
    except BaseException:
        live.clear()
        raise
    try:
        live.finish(draw(outcome))
    except KeyboardInterrupt:
        raise Interrupted("stopped while drawing the result; the work itself is done.") from None
    return outcome
