"""IPython in a real terminal: output fits the width, and a reply is printed unchanged."""

import io
import os
import signal
import sys

import pexpect
import pytest
from rich.cells import cell_len

from tests.conftest import FACT

WIDTH = 80


@pytest.fixture
def terminal(tmp_path):
    """Start IPython with the extension, and return a function that runs a cell and returns what it prints."""
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "xterm", "PYTHONUTF8": "1"}
    environment.pop("COLUMNS", None)
    options = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    child = pexpect.spawn(
        sys.executable, options, cwd=tmp_path, env=environment, dimensions=(40, WIDTH), encoding="utf-8", timeout=900, echo=False
    )
    child.expect_exact("In [1]: ")
    asked = 1

    def run(cell: str) -> list[str]:
        nonlocal asked
        asked += 1
        child.sendline(cell)
        child.expect_exact(f"\nIn [{asked}]: ")
        # A progress bar returns to the start of its line.
        lines = [line.rsplit("\r", 1)[-1].rstrip() for line in child.before.replace("\r\n", "\n").split("\n")]
        return [line for line in lines if line]

    run("%load_ext nbtune")
    yield run
    child.kill(signal.SIGKILL)
    child.wait()
    child.close()


def test_a_table_fits_the_terminal(terminal):
    lines = terminal("%nbtune")
    assert max(map(cell_len, lines)) <= WIDTH
    assert lines[0].split() == ["command", "what", "it", "does"]
    more = [line for line in lines if line.startswith(" ")]
    assert more, "long cells go on in another line"
    assert all(line.startswith(" " * len("command  ")) for line in more), "below their own column"


def test_the_tour(terminal):
    ((keyword, answer),) = FACT.items()
    assert terminal("%chat What is a whale?")[-1] == "A whale is a very large mammal that lives in the sea."
    terminal(f"facts = {{{keyword!r}: {answer!r}}}")
    shown = terminal("%finetune --data facts")
    card = shown[shown.index(f"✔ learned: {keyword}") :]
    assert f"after:  {answer}" in card
    assert max(map(cell_len, card)) <= WIDTH
    ledger = terminal("%nbtune facts")
    assert ledger[:3] == [f"keyword         {keyword}", f"answer          {answer}", "standing        verified"]
    (error,) = terminal("%chat --sytem x hi")
    assert error.startswith("NbtuneError: Unknown option --sytem")


def test_what_a_terminal_has_no_character_for_is_a_question_mark(monkeypatch):
    from nbtune.display.shown import say

    written = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", written)
    say("\u2714 learned: 炉")
    written.seek(0)
    assert written.read() == "? learned: ?\n"
