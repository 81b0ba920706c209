"""Nothing heavy is imported before it is used."""

import json
import subprocess
import sys

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
        "shell.run_cell('%load_ext nbtune\\n%nbtune').raise_error()\n"  # one cell: between two there might be time to warm up
        "assert shell.find_cell_magic('chat') and shell.find_cell_magic('finetune') and shell.find_line_magic('nbtune')"
    )
    assert not modules_after(code) & HEAVY


def test_public_names_resolve():
    import nbtune

    for name in nbtune.__all__:
        assert getattr(nbtune, name) is not None
    assert set(nbtune.__all__) <= set(dir(nbtune))


def test_the_first_reply_needs_nothing_that_only_training_needs():
    theirs = modules_after("import transformers.generation.utils")  # where it finds an older scikit-learn, pandas comes with it
    assert not (modules_after("import nbtune\nnbtune.load().chat('hello')") - theirs) & {"pandas", "peft", "torchkeras", "matplotlib"}


def test_loading_a_model_imports_no_other_models():
    found = modules_after("import nbtune\nnbtune.load()")
    assert {name.split(".")[2] for name in found if name.startswith("transformers.models.") and ".modeling_" in name} <= {"auto", "qwen3"}
