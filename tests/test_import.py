"""No heavy module is imported before it is used."""

import builtins
import gc
import json
import subprocess
import sys
import threading
import weakref

import pytest

import nbtune
from nbtune import NbtuneError
from nbtune.imports import import_modules, without_gc

HEAVY = {"torch", "transformers", "peft", "torchkeras", "accelerate", "matplotlib", "pandas"}


def modules_after(code):
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_touches_no_torch():
    assert not modules_after("import nbtune") & HEAVY


def test_load_ext_touches_no_torch():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('%load_ext nbtune\\n%nbtune').raise_error()\n"  # a single cell: between two, the warm-up might start
        "assert shell.find_cell_magic('chat') and shell.find_cell_magic('finetune') and shell.find_line_magic('nbtune')"
    )
    assert not modules_after(code) & HEAVY


def test_public_names_resolve():
    for name in nbtune.__all__:
        assert getattr(nbtune, name) is not None
    assert set(nbtune.__all__) <= set(dir(nbtune))


def test_the_first_reply_needs_nothing_that_only_training_needs():
    theirs = modules_after("import transformers.generation.utils")  # with an older scikit-learn installed, this imports pandas
    assert not (modules_after("import nbtune\nnbtune.load().chat('hello')") - theirs) & {"pandas", "peft", "torchkeras", "matplotlib"}


def test_loading_a_model_imports_no_other_models():
    found = modules_after("import nbtune\nnbtune.load()")
    assert {name.split(".")[2] for name in found if name.startswith("transformers.models.") and ".modeling_" in name} <= {"auto", "qwen3"}


def test_modules_are_imported_without_garbage_collections_and_never_twice(tmp_path, monkeypatch):
    (tmp_path / "seen_by_gc.py").write_text("import gc\ncollected = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert gc.isenabled()
    import_modules(["seen_by_gc"])
    first = sys.modules.pop("seen_by_gc")
    assert first.collected is False
    assert gc.isenabled()
    sys.modules["seen_by_gc"] = first
    import_modules(["seen_by_gc"])
    assert sys.modules["seen_by_gc"] is first


def test_a_name_waits_for_the_thread_that_imports_it(tmp_path, monkeypatch):
    (tmp_path / "slow_home.py").write_text("begun.set()\ngoes_on.wait(60)\nload = 'loaded'\n")
    monkeypatch.syspath_prepend(tmp_path)
    begun, goes_on, got = threading.Event(), threading.Event(), []
    monkeypatch.setattr(builtins, "begun", begun, raising=False)
    monkeypatch.setattr(builtins, "goes_on", goes_on, raising=False)
    monkeypatch.setitem(nbtune._HOMES, "load", "slow_home")
    first = threading.Thread(target=import_modules, args=(["slow_home"],))
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=lambda: got.append(nbtune.__getattr__("load")))
    second.start()
    second.join(0.3)
    goes_on.set()
    first.join(60)
    second.join(60)
    assert got == ["loaded"]


def test_a_load_that_fails_leaves_collections_on():
    with pytest.raises(NbtuneError):
        nbtune.load("no/such/folder/anywhere")
    assert gc.isenabled()


def test_collections_that_a_user_switched_off_stay_off():
    gc.disable()
    try:
        with without_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_made_meanwhile_is_still_found_and_what_was_frozen_stays_so():
    class Ring:
        pass

    def garbage():
        ring = Ring()
        ring.itself = ring
        return weakref.ref(ring)

    with without_gc():
        left = garbage()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert left() is None
    kept = Ring()
    assert any(one is kept for one in gc.get_objects())
    gc.freeze()
    try:
        with without_gc():
            pass
        assert gc.get_freeze_count() > 0
        assert not any(one is kept for one in gc.get_objects()), "what is frozen is not looked through"
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("first", ["%chat --max-new-tokens 1 hello", "%finetune --data rows --epochs 1"])
def test_the_heavy_imports_of_cells_go_without_collections(tmp_path, first):
    script = f"""
import gc, json, sys
class Watch:
    seen = dict()
    def find_spec(self, name, *_):
        self.seen.setdefault(name, gc.isenabled())
sys.meta_path.insert(0, Watch())
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns["rows"] = [dict(question="Order: " + str(n), answer=str(n) + ".") for n in range(4)]
shell.run_cell("%load_ext nbtune\\n%config Nbtune.warm_up = False\\n{first}").raise_error()
shell.run_cell("%finetune --data rows --epochs 1").raise_error()
assert gc.isenabled()
print(json.dumps(Watch.seen))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    seen = json.loads(done.stdout.splitlines()[-1])
    heavy = ("torch", "transformers.modeling_utils", "transformers.models.qwen3.modeling_qwen3", "peft", "torchkeras.kerasmodel")
    assert {name: seen[name] for name in heavy} == dict.fromkeys(heavy, False)
