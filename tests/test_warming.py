"""The warm-up imports what is needed next between cells, never while a cell runs, and can be switched off."""

import contextlib
import io
import json
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from nbtune.imports import Imports
from nbtune.magics.warming import imports_the_same

SHELL = """
import json, sys, threading, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def run(cell):
    shell.run_cell(cell).raise_error()
def warming():
    return any(thread.name == "nbtune warm-up" for thread in threading.enumerate())
def wait(condition):
    until = time.monotonic() + 600
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
seen = {}
run("%load_ext nbtune")
"""


def seen_in(script):
    done = subprocess.run([sys.executable, "-c", f"{SHELL}{script}\nprint(json.dumps(seen))"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_between_cells_all_is_imported_and_while_one_runs_nothing():
    seen = seen_in("""
run("import time; time.sleep(3)")
seen["while it runs"] = "torch" in sys.modules
wait(lambda: not warming())
seen["then"] = [name in sys.modules for name in ("torch", "nbtune.language_model", "peft", "torchkeras")]
run("%chat --max-new-tokens 1 hello")
""")
    assert seen == {"while it runs": False, "then": [True] * 4}


def test_a_cell_that_imports_the_same_meanwhile_waits_for_it():
    seen = seen_in("""
wait(lambda: "torch" in sys.modules)
run("import transformers.models.llama.modeling_llama, peft; done = peft.LoraConfig")
seen["done"] = "done" in shell.user_ns
""")
    assert seen == {"done": True}


@pytest.mark.parametrize("off", ["%config Nbtune.warm_up = False", "%unload_ext nbtune"])
def test_it_can_be_switched_off(off):
    seen = seen_in(f"""
run({off!r})
wait(lambda: not warming())
seen["torch"], seen["thread"] = "torch" in sys.modules, warming()
""")
    assert seen == {"torch": False, "thread": False}


@pytest.mark.parametrize(
    ("cell", "same"),
    [
        ("import transformers", True),
        ("x = 1\nfrom some_project import train", True),
        ("%run train.py", True),
        ("%load_ext other", True),
        ("import json, some_project.part", True),
        ("x = 1; import some_project as p", True),
        ("import json, time as t", False),
        ("import pytest", False),  # imported already
        ("print('hello')", False),
    ],
)
def test_which_cells_wait_for_an_import(cell, same):
    assert imports_the_same(cell) is same


def test_a_wait_for_a_turn_can_be_stopped():
    imports, stopped, raised = Imports(), threading.Event(), threading.Event()  # a cell counts as running at first

    def load():
        with suppress(KeyboardInterrupt), imports.turn(stopped.is_set):
            return
        raised.set()

    thread = threading.Thread(target=load)
    thread.start()
    stopped.set()
    imports.wake()
    assert raised.wait(60)


def test_threads_take_turns_with_cells():
    imports, order = Imports(), []  # the cell that loads the extension still runs
    begun, goes_on = threading.Event(), threading.Event()

    def load():
        with imports.turn():
            order.append("thread")
            begun.set()
            goes_on.wait(60)

    thread = threading.Thread(target=load)
    thread.start()
    assert not begun.wait(0.3), "a cell that runs is waited for"
    order.append("first cell")
    imports.cell_ends()
    assert begun.wait(60)
    imports.cell_begins(imports=False)  # a cell that imports none of the same modules need not wait
    imports.cell_ends()
    cell = threading.Thread(target=lambda: (imports.cell_begins(imports=True), order.append("second cell")))
    cell.start()
    cell.join(0.3)
    assert cell.is_alive(), "one that does waits until the thread is done"
    goes_on.set()
    thread.join(60)
    cell.join(60)
    assert order == ["first cell", "thread", "second cell"]


def test_what_is_imported_when_nothing_runs_goes_on_without_a_pause():
    imports = Imports()
    imports.cell_ends()
    imports._last_cell -= 3600  # long ago
    done = threading.Event()

    def all_of_it():
        for _ in range(3):
            with imports.idle_turn(3000, lambda: True):
                pass
        done.set()

    threading.Thread(target=all_of_it, daemon=True).start()
    assert done.wait(60)


def test_a_cell_that_names_nothing_of_it_waits_where_it_comes_to_import():
    imports, begun, goes_on, settled = Imports(), threading.Event(), threading.Event(), threading.Event()
    imports.cell_ends()

    def load():
        with imports.turn():
            begun.set()
            goes_on.wait(60)

    def calls_a_function():
        imports.cell_begins(imports=False)
        imports.wait_for_import()
        settled.set()

    threading.Thread(target=load, daemon=True).start()
    assert begun.wait(60)
    threading.Thread(target=calls_a_function, daemon=True).start()
    assert not settled.wait(0.3)
    goes_on.set()
    assert settled.wait(60)


def test_who_waits_for_idleness_waits_for_a_turn_that_began_meanwhile():
    imports, order = Imports(), []
    imports.cell_ends()

    def idle():
        with imports.idle_turn(1, lambda: True):
            order.append("idle")

    thread = threading.Thread(target=idle)
    with imports.turn():
        thread.start()
        thread.join(2)  # idle by now, except for this turn
        order.append("turn")
    thread.join(60)
    assert order == ["turn", "idle"]


def test_what_a_cell_prints_while_a_thread_imports_is_heard(capsys):
    from nbtune.imports import without_output

    begun, goes_on = threading.Event(), threading.Event()

    def load():
        with without_output():
            print("torchkeras misses something")
            begun.set()
            goes_on.wait(60)
            print("and something else")
        print("done")

    thread = threading.Thread(target=load)
    thread.start()
    assert begun.wait(60)
    print("before")
    goes_on.set()
    thread.join(60)
    print("after")
    assert capsys.readouterr().out == "before\ndone\nafter\n"


def test_a_capture_that_begins_meanwhile_catches_all_of_its_cell(capsys):
    from nbtune.imports import without_output

    caught = io.StringIO()
    silence = without_output()
    silence.__enter__()
    with contextlib.redirect_stdout(caught):
        silence.__exit__(None, None, None)
        print("captured")
    print("shown")
    assert (caught.getvalue(), capsys.readouterr().out) == ("captured\n", "shown\n")


INTERRUPTED = """
import pathlib, signal, sys, threading, time
from nbtune.imports import import_modules

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the process that started this one does
begun = pathlib.Path("begun")

def interrupt():
    while not begun.exists():
        time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    import_modules(["nbtune_slow"])
except KeyboardInterrupt:
    print("interrupted", hasattr(sys.modules["nbtune_slow"], "whole"))
import_modules(["nbtune_slow"])
print("imported", sys.modules["nbtune_slow"].whole)
"""


def test_an_import_goes_on_behind_ctrl_c_and_is_waited_for(tmp_path):
    slow = "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(2)\nwhole = True\n"
    (tmp_path / "nbtune_slow.py").write_text(slow, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["interrupted False", "imported True"]
