"""The magics in a real shell, on the built-in model."""

import gc
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from nbtune.data import reading
from nbtune.display.serving import how_to_serve
from nbtune.errors import NbtuneError
from nbtune.knowledge import exporting, teaching, tracking
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.version import Version
from nbtune.magics import keep_question_mark
from nbtune.magics.completion import VALUES, completer
from nbtune.model import loading
from nbtune.model.generation import Reply
from nbtune.tiny import WEIGHTS
from nbtune.training.methods import METHODS
from tests.conftest import FEW


def run(shell, code):
    return shell.run_cell(code)


def ok(shell, code):
    run(shell, code).raise_error()


def fails(shell, code, capsys):
    """Run a cell that must fail, and return what the user sees."""
    capsys.readouterr()
    result = run(shell, code)
    assert isinstance(result.error_in_exec, NbtuneError), result
    return capsys.readouterr().out.strip()


def test_load_reload_unload_leave_the_shell_as_it_was(shell):
    kinds = shell.magics_manager.magics
    run(shell, "%reload_ext nbtune").raise_error()
    assert "chat" in kinds["cell"]
    assert [type(c).__name__ for c in shell.configurables].count("Nbtune") == 1
    ok(shell, "%unload_ext nbtune")
    assert not {"chat", "finetune", "nbtune"} & {*kinds["line"], *kinds["cell"]}
    assert not [c for c in shell.configurables if type(c).__module__.startswith("nbtune")], "nothing holds the model any more"
    assert not [key for key in shell.strdispatchers["complete_command"].strs if "chat" in key]
    ok(shell, "%load_ext nbtune")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("%%chat\n   \n", "The prompt is empty"),
        ("%chat", "The prompt is empty"),
        ("%chat --new --system 'Be brief.'", "The prompt is empty"),
        ("%chat --new --rounds 3", "The prompt is empty"),
        ("%%chat --tempratur 1\nhi", "Did you mean --temperature?"),
        ("%%chat --temperature -1\nhi", "--temperature -1.0 is out of range"),
        ("%%chat --top-p 2\nhi", "--top-p 2.0 is out of range"),
        ("%%chat --top-p 0.9\nhi", "--top-p affects only sampled replies"),
        ("%%chat --seed 1\nhi", "--seed affects only sampled replies"),
        ("%%chat --max-new-tokens 0\nhi", "--max-new-tokens 0 is out of range"),
        ("%%chat --rounds -2\nhi", "--rounds -2: expected 0 or more"),
        ("%%chat -o 1x\nhi", "not a variable name"),
        ("%chat --image cat.png what is it", "handles text only"),
        ("%chat --n 3 --temperature 0 hi", "and --temperature above 0"),
        ("%chat --n 0 hi", "--n needs 1 or more"),
        ("asked = 7\n%chat --batch asked", "--batch asked is not a list of questions"),
        ("asked = ['hi', ' ']\n%chat --batch asked", "--batch asked: question 2 is empty"),
        ("%nbtune rebuild --method dora", "`%nbtune rebuild` takes a file or nothing: leave out '--method dora'."),
        ("%nbtune model nofolder/", "No model folder 'nofolder/'"),
        ("import pandas; asked = pandas.DataFrame({'q': ['hi']})\n%chat --batch asked", "--batch asked is a table: put one of its columns"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%nbtune data rows --max-source-length 0", "--max-source-length 0 is out of range"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%nbtune evaluate rows --turns last", "--turns"),
        ("%chat --batch nobody", "there is no variable 'nobody'"),
        ("asked = ['']\n%chat --batch asked", "--batch asked: question 1 is empty"),
        ("asked = ['hi']\n%chat --batch asked hello", "Use one of --n"),
        ("asked = ['hi']\n%chat --batch asked --rounds 1", "--batch answers each question on its own"),
        ("%chat --n 2 --temperature 1 --stats hi", "--stats describes one reply"),
        ("%%chat --vars\nhi {nobody}", "there is no variable 'nobody'"),
        ("%%chat --compare\nhi", "--compare needs an adapter in use"),
        ("%%chat --adapter nobody\nhi", "No adapter 'nobody'"),
        ("%%finetune\nanswer", "The keyword is missing"),
        ("%%finetune 炉\n  \n", "The answer for '炉' is missing"),
        ("%%finetune --epochs 0 炉\nhot", "--epochs 0 is out of range"),
        ("%%finetune --epochs -1 炉\nhot", "--epochs -1 is out of range"),
        ("%%finetune --lr nan 炉\nhot", "--lr nan is out of range"),
        ("%%finetune --rank 0 炉\nhot", "--rank 0 is out of range"),
        ("%%finetune --method lroa 炉\nhot", "Did you mean lora?"),
        ("%%finetune --recipe reference --epochs 3 炉\nhot", "fixes epochs: only"),
        ("%%finetune --seed 99999999999999999999 炉\nhot", "--seed 99999999999999999999 is out of range"),
        ("%finetune --data ~nobody-here/facts.yaml", "write the full path"),
        ("%%finetune --name ../up 炉\nhot", "is not a valid adapter name"),
        ("%%finetune --name /tmp/up 炉\nhot", "is not a valid adapter name"),
        ("%finetune --data nobody", "there is no variable 'nobody'"),
        ("number = 7\n%finetune --data number", "Can't learn from a int"),
        ("rows = [{'promt': 'q', 'response': 'a'}]\n%finetune --data rows", "Did you mean prompt?"),
        ("rows = [{'prompt': 'q', 'response': ''}]\n%finetune --data rows", "row 1: response is empty"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%finetune --data rows --turns lsat", "Did you mean last?"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%finetune --data rows --val nobody", "there is no variable 'nobody'"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%finetune --data rows --val 2", "--val 2.0 is out of range"),
        ("%%finetune 炉 --skip-bad\nhot", "--skip-bad is for examples"),
        ('%%finetune\n{"prompt": "q", ', "Line 1 of the cell is not valid JSON"),
        ('%%finetune\n{"prompt": "q", "prompt": "r", "response": "a"}', "'prompt' appears twice"),
        ("%nbtune evaluate", "Evaluate on what?"),
        ("rows = [{'prompt': 'q', 'response': 'a'}]\n%nbtune evaluate rows --save x.txt", "can't hold predictions"),
        ("%nbtune data", "Which data?"),
        ("%nbtune data nobody", "there is no variable 'nobody'"),
        ("facts = {'a': 'b'}\n%nbtune data facts --turns last", "--turns is for examples"),
        ("%nbtune data x.csv --skip", "Did you mean --skip-bad?"),
        ("facts = {'a': 'b'}\n%finetune --data facts 炉", "not both"),
        ("facts, text = {'a': 'b'}, 'x'\n%finetune --data facts --prompts text", "--prompts text: expected a list of texts"),
        ("%%finetune 炉 --lr nan\nhot", "--lr nan is out of range"),
        ("%%finetune 炉 --epocs 3\nhot", "Did you mean --epochs?"),
        ("%nbtune fatcs", "Did you mean facts?"),
        ("%nbtune facts now", "takes no argument"),
        ("%nbtune use 'facts'", "No adapter 'facts'"),
        ("%chat --compare --adapter none hi", "--compare compares an adapter with the base"),
        ("%chat -o class hi", "that is not a variable name"),
        ("import pandas as pd\nkept = pd.Series(['What is {x}?', ''])\n%finetune --data {} --retain kept", "such as ['What is the capital"),
        ("%nbtune facts --save facts.txt", "no facts to write"),
        ("%nbtune probe", "No adapter is in use"),
        ("%nbtune rebuild", "No adapter is in use"),
        ("%nbtune tokens", "The tokens of what?"),
        ("%nbtune tokens 炉", "No fact '炉'"),
        ("%finetune --data nowhere.yaml", "can't be read"),
        ("%%finetune 炉 --retain nobody\nhot", "there is no variable 'nobody'"),
        ("%%finetune 炉 --rewordings x\nhot", "--rewordings 'x': expected a whole number"),
        ("%nbtune model", "Which model?"),
        ("%nbtune model ./nowhere", "No model folder './nowhere'"),
        ("%nbtune model tiny --dtpye float16", "Did you mean --dtype?"),
        ("%nbtune use", "Which adapter?"),
        ("%nbtune use nobody", "No adapter 'nobody'"),
        ("%nbtune use ../x", "is not a valid adapter name"),
        ("%nbtune forget", "Forget what?"),
        ("%nbtune undo", "No adapter is in use"),
        ("%nbtune export", "Where to?"),
        ("%nbtune export out --as gguff", "Did you mean gguf?"),
        ("%nbtune push", "Where to?"),
        ("%nbtune push a/b/c", "expected OWNER/NAME"),
        ("%%finetune --log-with tensorbord 炉\nhot", "Did you mean tensorboard?"),
    ],
)
def test_bad_input_is_one_line_that_fails_the_cell(shell, capsys, code, message):
    seen = fails(shell, code, capsys)
    assert message in seen
    assert len(seen.splitlines()) == 1, seen


def test_chat_keeps_the_conversation(shell, capsys):
    ok(shell, "%chat My dog is called Momo.")
    ok(shell, "%%chat -o name\nWhat is my dog called?")
    assert "Momo" in shell.user_ns["name"]
    ok(shell, "%chat -o alone --rounds 0 What is my dog called?")
    assert "Momo" not in shell.user_ns["alone"]
    assert not run(shell, "%%chat --new --temperature -1\nhello").success
    ok(shell, "%chat -o still What is my dog called?")
    assert shell.user_ns["still"] == shell.user_ns["name"], "a question that could not be put must not end the conversation"
    ok(shell, "%chat -o anew --new What is my dog called?")
    assert shell.user_ns["anew"] == shell.user_ns["alone"]
    assert shell.user_ns["name"] in capsys.readouterr().out


def test_as_many_rounds_are_sent_as_there_are_and_as_are_asked_for(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    for number in range(3):
        session.remember(f"q{number}", f"a{number}")
    sent = {rounds: [message["content"] for message in session.last_rounds(rounds)] for rounds in (-1, 0, 1, 2, 3, 4, 6)}
    assert sent[1] == ["q2", "a2"]
    assert sent[2] == ["q1", "a1", "q2", "a2"]
    assert sent[3] == sent[4] == sent[6] == sent[-1] == ["q0", "a0", *sent[2]]
    assert sent[0] == []


def test_many_replies_follow_the_conversation_and_new_begins_another(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    ok(shell, "%chat My dog is called Momo.")
    ok(shell, "%chat -o said --n 2 --temperature 0.01 What is my dog called?")
    assert all("Momo" in reply for reply in shell.user_ns["said"])
    assert len(session.history) == 2
    ok(shell, "%chat -o said --new --n 2 --temperature 0.01 What is my dog called?")
    assert not any("Momo" in reply for reply in shell.user_ns["said"])
    assert session.history == []


def test_a_question_may_end_with_a_question_mark(shell, capsys):
    ok(shell, "%chat -o reply What is a whale?")
    assert "whale" in shell.user_ns["reply"]
    ok(shell, "%chat?")
    assert shell.user_ns["reply"] not in capsys.readouterr().out.splitlines()[-1]
    ok(shell, "%chat --rounds 0 \\\n  -o \\\n continued What is a whale?\nafter = 3")
    assert ("whale" in shell.user_ns["continued"], shell.user_ns["after"]) == (True, 3)
    ok(shell, "for _ in range(2):\n    %chat --rounds 0 -o inside What is a whale?")
    assert "whale" in shell.user_ns["inside"]
    ok(shell, "%unload_ext nbtune")
    assert not any(t.__module__.startswith("nbtune") for t in shell.input_transformers_cleanup)


def test_the_text_of_a_cell_magic_is_left_alone():
    for lines in (["%%chat\n", "%chat hello?\n"], ['print("Type %chat hello?\n', '")\n'], ["!echo %chat hello?\n"]):
        assert keep_question_mark(lines) == lines


def test_a_question_inside_a_string_is_left_alone():
    quoted = ['doc = """\n', "%chat What is a whale?\n", '"""\n']
    assert keep_question_mark(quoted) == quoted
    asked = [*quoted, "%time x = 1\n", "%chat What is a whale?\n"]
    assert keep_question_mark(asked)[:4] == asked[:4]
    assert "run_line_magic" in keep_question_mark(asked)[4]


def test_variables_are_filled_in_but_not_into_a_keyword_that_looks_like_one(shell, capsys):
    shell.user_ns |= {"fact": {"$5 meal": "A $5 meal is a soup with bread."}, "prompts": FEW, "name": "none", "verb": "adapters"}
    ok(shell, "%finetune --data fact --prompts prompts")
    ok(shell, "%nbtune tokens $5 meal")
    ok(shell, "%nbtune forget $5 meal")
    ok(shell, "def go(which):\n    %nbtune use {which}\n    %nbtune $verb\n\ngo('none')")
    ok(shell, "%nbtune use {name}")
    assert "{missing}" in fails(shell, "%nbtune use {missing}", capsys)


def test_text_is_sent_as_typed(shell):
    asked = []

    def listen(lm):
        reply = lm.reply

        def keep(prompt, **options):
            asked.append(prompt)
            return reply(prompt, **options)

        lm.reply = keep

    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    listen(session.lm)
    shell.user_ns["x"] = 5
    ok(shell, "%%chat --max-new-tokens 2\n{x} {} 'a' \"b\" {{ $x \\n")
    ok(shell, "%chat --max-new-tokens 2 {x} isn't {")
    ok(shell, "%%chat --max-new-tokens 2 --vars\n{x} {}")
    assert asked == ["{x} {} 'a' \"b\" {{ $x \\n", "{x} isn't {", "5 {}"]


@pytest.fixture
def heard(shell):
    """The questions put to the model, with their options."""
    session, asked = next(c for c in shell.configurables if type(c).__name__ == "Nbtune"), []
    reply = session.lm.reply

    def keep(prompt, **options):
        asked.append((prompt, options))
        return reply(prompt, **{**options, "max_new_tokens": 2})

    session.lm.reply = keep
    return asked


def test_options_reach_the_model(shell, heard, capsys):
    line = "%chat --system 'Be brief.' --temperature 0.5 --top-p 0.9 --repetition-penalty 1.2 --seed 3 --stop . --stop ! --stats hi"
    ok(shell, line)
    ((_, options),) = heard
    wanted = {"system": "Be brief.", "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 3, "stop": (".", "!")}
    assert options.items() >= wanted.items()
    assert "first token" in capsys.readouterr().out


def test_variables_of_a_function_are_meant_before_those_of_the_notebook(shell, heard, capsys):
    shell.user_ns |= {"q": "global", "rows": [{"keyword": "k", "answer": "global"}], "qs": ["global"], "nobody": None}
    ok(shell, "def ask(q):\n    %chat --vars {q}\nask('local')")
    assert heard[0][0] == "local"
    ok(shell, "def batch(qs):\n    %chat -o table --max-new-tokens 2 --batch qs\nbatch(['one', 'two'])")
    assert list(shell.user_ns["table"]["prompt"]) == ["one", "two"]
    run(shell, "def look(rows):\n    %nbtune data rows\nlook([{'prompt': 'the local one', 'response': 'a'}])").raise_error()
    assert "the local one" in capsys.readouterr().out
    seen = fails(shell, "def teach(rows):\n    %finetune --data rows\nteach([{'keyword': 'k', 'answer': ''}])", capsys)
    assert "The answer of row 1 is empty" in seen


def test_a_conversation_begins_anew_without_a_question(shell, capsys):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    session.remember("q", "a")
    ok(shell, "%chat --new")
    assert session.history == []
    assert "New conversation started." in capsys.readouterr().out


def test_a_reply_that_is_cut_says_so(shell, capsys):
    ok(shell, "%chat --max-new-tokens 2 -o reply Tell me a story about a whale.")
    assert "[cut at the maximum length" in capsys.readouterr().out
    assert "cut" not in shell.user_ns["reply"]


def test_what_there_is_of_a_reply_is_put_into_its_variable(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    session.lm.reply = lambda *_, **__: Reply("half of", False, 2, 3, 3, 0.1, 0.2)
    assert isinstance(run(shell, "%chat -o reply hi").error_in_exec, KeyboardInterrupt)
    assert shell.user_ns["reply"] == "half of"


def test_sampling_repeats_with_a_seed(shell):
    line = "%chat -o {} --rounds 0 --temperature 5 --seed {} --max-new-tokens 12 hello"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ok(shell, line.format(name, seed))
    assert shell.user_ns["a"] == shell.user_ns["b"] != shell.user_ns["c"]


def test_the_random_numbers_of_the_notebook_go_on_as_if_nothing_had_been_seeded(shell):
    torch.manual_seed(7)
    wanted = torch.rand(4)
    torch.manual_seed(7)
    ok(shell, "%chat --rounds 0 --temperature 5 --seed 1 --max-new-tokens 4 hello")
    ok(shell, "%chat --rounds 0 --n 2 --temperature 5 --seed 1 --max-new-tokens 4 hello")
    shell.user_ns["rows"] = [{"question": f"Order: {n}", "answer": f"{n}."} for n in range(4)]
    ok(shell, "%finetune --data rows --epochs 1")
    assert torch.equal(torch.rand(4), wanted)


def test_sampling_without_a_seed_goes_on(shell):
    for name in ("a", "b"):
        ok(shell, f"%chat -o {name} --adapter none --rounds 0 --temperature 5 --max-new-tokens 12 hello")
    assert shell.user_ns["a"] != shell.user_ns["b"]


def test_teach_compare_facts_use_undo(shell, capsys):
    ok(shell, "%%chat -o before\n你知道梦中情炉吗？")
    ok(shell, "%%finetune 梦中情炉\n梦中情炉是训练模型的工具。")
    assert "learned: 梦中情炉" in capsys.readouterr().out
    ok(shell, "%%chat --compare -o tuned\n梦中情炉是什么？")
    assert shell.user_ns["tuned"] == "梦中情炉是训练模型的工具。"
    ok(shell, "%%chat --adapter none -o base --rounds 0\n你知道梦中情炉吗？")
    assert shell.user_ns["base"] == shell.user_ns["before"]
    ok(shell, "%nbtune facts")
    assert "verified" in capsys.readouterr().out
    ok(shell, "%nbtune use none")
    ok(shell, "%nbtune adapters")
    ok(shell, "%nbtune use facts")
    ok(shell, "%nbtune status")
    assert "facts, version 1" in capsys.readouterr().out
    ok(shell, "%nbtune undo")
    ok(shell, "%chat -o after --rounds 0 你知道梦中情炉吗？")
    assert shell.user_ns["after"] == shell.user_ns["before"]
    ok(shell, "%nbtune redo")
    assert "Restored version 1: 1 fact." in capsys.readouterr().out
    assert "nothing to redo" in fails(shell, "%nbtune redo", capsys)


def test_a_failed_fact_shows_its_card_and_fails_the_cell(shell, capsys):
    seen = fails(shell, "%%finetune --epochs 1 --lr 1e-6 梦中情炉\n一个工具。", capsys)
    assert "not learned: 梦中情炉" in seen
    assert "nothing was changed" in seen
    assert "FactNotLearned: Not learned: 梦中情炉" in seen.splitlines()[-1]


def test_config(shell, capsys):
    ok(shell, "%config Nbtune.rounds = 0")
    ok(shell, "%chat My dog is called Momo.")
    ok(shell, "%chat -o name What is my dog called?")
    assert "Momo" not in shell.user_ns["name"]
    capsys.readouterr()
    ok(shell, "%config Nbtune.store = 'elsewhere'")
    said = capsys.readouterr().out
    assert "Nbtune.store is read when a model is loaded" in said
    assert "until `%nbtune model tiny`" in said
    ok(shell, f"%nbtune model {WEIGHTS}")
    capsys.readouterr()
    ok(shell, "%config Nbtune.store = 'again'")
    assert f"until `%nbtune model {WEIGHTS}`" in capsys.readouterr().out, "the model in use, not the one that is loaded first"
    run(shell, "%config Nbtune.rounds = 'many'")
    assert next(c for c in shell.configurables if type(c).__name__ == "Nbtune").rounds == 0


@pytest.mark.parametrize("setting", ["rounds = 'many'", "rounds = -7", "max_new_tokens = 0", "language = 'fr'"])
def test_a_setting_that_is_refused_does_not_hinder_a_reload(shell, capsys, setting):
    run(shell, f"%config Nbtune.{setting}")
    capsys.readouterr()
    ok(shell, "%reload_ext nbtune")
    assert "It is ignored." in capsys.readouterr().out
    ok(shell, "%nbtune status")


@pytest.mark.parametrize(
    ("line", "method", "given"),
    [
        (
            "%finetune --data f --batch-size 3 --rewordings 2 --prompts p --probes q --retain p --extend",
            "finetune",
            {"batch_size": 3, "rewordings": 2, "prompts": ["{x}?"], "probes": ["{x}!"], "retain": ["{x}?"], "extend": True},
        ),
        (
            "%finetune --data f --epochs 4 --lr .1 --rank 2 --seed 9",
            "finetune",
            {"epochs": 4, "learning_rate": 0.1, "rank": 2, "seed": 9},
        ),
        ("%finetune --data f --method dora --recipe reference --name n --log-with wandb", "finetune", {"method": "dora", "name": "n"}),
        ("%nbtune evaluate f --max-new-tokens 7 --limit 3 --save o.csv", "evaluate", {"max_new_tokens": 7, "limit": 3, "save": "o.csv"}),
        ("%nbtune data f --turns last --system s --max-source-length 5", "preview", {"turns": "last", "system": "s"}),
        ("%nbtune push a/b --private --as peft --max-shard-size 1GB", "push", {"private": True, "kind": "peft", "max_shard_size": "1GB"}),
        ("%nbtune export out --as gguf --max-shard-size 1GB", "export", {"kind": "gguf", "max_shard_size": "1GB"}),
        ("%nbtune probe blue kettle", "probe", {0: "blue kettle"}),
        ("%nbtune rebuild facts.yaml", "rebuild", {0: "facts.yaml"}),
        ("%nbtune undo dogs", "undo", {0: "dogs"}),
        ("%nbtune redo dogs", "redo", {0: "dogs"}),
    ],
)
def test_what_is_typed_reaches_the_model(shell, monkeypatch, line, method, given):
    ok(shell, "%nbtune model tiny")
    ok(shell, "f, p, q = {'a': 'b'}, ['{x}?'], ['{x}!']")
    session, seen = next(c for c in shell.configurables if type(c).__name__ == "Nbtune"), {}

    def called(*arguments, **options):
        seen.update(dict(enumerate(arguments)) | options)
        raise NbtuneError("seen")

    monkeypatch.setattr(session.lm, method, called)
    assert isinstance(run(shell, line).error_in_exec, NbtuneError)
    assert {name: seen.get(name) for name in given} == given


def test_the_options_of_model_are_those_of_load(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    ok(shell, "%nbtune model tiny --dtype bfloat16 --device cpu")
    assert session.lm.model.dtype == torch.bfloat16
    assert isinstance(run(shell, "%nbtune model tiny --quantize int3").error_in_exec, NbtuneError)
    assert isinstance(run(shell, "%nbtune model tiny --device nowhere").error_in_exec, NbtuneError)


@pytest.mark.parametrize(
    ("line", "symbol", "offered"),
    [
        ("%%chat --te", "--te", "--temperature"),
        ("%%finetune --e", "--e", "--epochs"),
        ("%nbtune fo", "fo", "forget"),
        ("%nbtune model --d", "--d", "--dtype"),
        ("%nbtune re", "re", "redo"),
        ("%%finetune --method p", "p", "p-tuning"),
        ("%nbtune export out --as g", "g", "gguf"),
    ],
)
def test_tab_completes(shell, line, symbol, offered):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    assert offered in completer(session)(shell, SimpleNamespace(text_until_cursor=line, symbol=symbol))
    shell.Completer.use_jedi = False
    assert offered in shell.complete(symbol, line, len(line))[1]


def test_tab_offers_every_value_of_an_option_and_no_other():
    known = {
        "--method": METHODS,
        "--recipe": teaching.RECIPES,
        "--log-with": tracking._TRACKERS,
        "--turns": reading._TURNS,
        "--dtype": loading._DTYPES,
        "--quantize": loading._QUANTIZE,
        "--as": exporting._KINDS,
    }
    assert {option: list(values) for option, values in VALUES.items()} == {option: list(values) for option, values in known.items()}


def test_tab_completes_the_names_of_adapters(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")

    def offered(line):
        return completer(session)(shell, SimpleNamespace(text_until_cursor=line, symbol=""))

    assert offered("%chat --adapter ") == []
    ok(shell, "%nbtune model tiny")
    (session.lm.store.folder / "dogs" / "v0001").mkdir(parents=True)
    assert offered("%chat --adapter ") == ["dogs", "none"]
    assert offered("%%finetune --name ") == ["dogs"]
    assert offered("%nbtune use ") == ["dogs", "none"]


def test_tab_completes_a_keyword_word_by_word_and_in_the_middle_of_a_line(shell):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    ok(shell, "%nbtune model tiny")
    session.lm._active.version = Version((Fact.new("blue kettle", "A train."), Fact.new("Red lamp", "A fish.")), "lora", "tiny", "")
    shell.Completer.use_jedi = False

    def offered(line, rest=""):
        symbol = line[line.rfind(" ") + 1 :]
        return shell.complete(symbol, line + rest, len(line))[1]

    assert offered("%nbtune forget ") == ["blue kettle", "Red lamp"]
    assert offered("%nbtune forget blue ") == ["kettle"]
    assert offered("%nbtune forget blue k") == ["kettle"]
    assert offered("%nbtune probe red ") == ["lamp"]
    assert offered("%nbtune f", " --save facts.yaml") == ["facts", "forget"]
    assert "nf4" in offered("%nbtune model --quantize ", " --device cpu")
    shell.user_ns["orders"] = []
    assert "orders" in offered("%finetune --data ord")
    assert not any(name.startswith("--") for line in ("%chat --batch ", "%nbtune facts --save ") for name in offered(line))


def test_ctrl_c_in_any_command_is_one_line(shell, capsys, monkeypatch):
    ok(shell, "%nbtune model tiny")
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")

    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(session.lm, "use", stopped)
    capsys.readouterr()
    assert isinstance(run(shell, "%nbtune use facts").error_in_exec, KeyboardInterrupt)
    assert capsys.readouterr().out.strip() == "KeyboardInterrupt: stopped."


def test_what_is_stored_is_named_where_nothing_is_in_use(shell, capsys):
    ok(shell, "%nbtune facts")
    assert "Nothing was taught yet." in capsys.readouterr().out
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    for name, pointer in (("dogs", "1 1"), ("copy of dogs", "1 1"), ("cats", "2")):
        (session.lm.store.folder / name / "v0001").mkdir(parents=True)
        (session.lm.store.folder / name / "current").write_text(pointer)
    ok(shell, "%nbtune facts")
    assert "No adapter is in use. Choose one with `%nbtune use NAME`: cats, copy of dogs, dogs." in capsys.readouterr().out
    ok(shell, "%nbtune adapters")
    said = capsys.readouterr().out
    assert "dogs" in said
    assert "is damaged" in said, "one that can't be read does not hide the others"


def test_an_export_that_can_not_hold_a_fact_shows_its_card(shell, capsys, monkeypatch):
    ok(shell, "%%finetune velt hook\nA velt hook is a bent copper tool.")
    capsys.readouterr()
    monkeypatch.setattr(exporting, "Settings", lambda **given: Settings(**{**given, "epochs": 1, "learning_rate": 1e-7}))
    said = fails(shell, "%nbtune export out", capsys)
    assert "not learned: velt hook" in said
    assert "FactNotLearned: Not learned: velt hook" in said.splitlines()[-1]
    assert not Path("out").exists()


def test_an_export_of_the_base_says_so(shell, capsys):
    ok(shell, "%nbtune export out")
    assert "This is the base, with nothing taught: no adapter is in use." in capsys.readouterr().out
    assert "three in four" in how_to_serve(Path("out"), "gguf").text


def test_help_is_documentation(shell):
    text = shell.find_cell_magic("chat").__doc__
    assert "--temperature" in text
    assert "Ask the model" in text


def test_the_model_of_the_magics_is_at_hand_in_python(shell):
    import nbtune

    ok(shell, "%chat -o reply hello")
    assert nbtune.current().chat("hello") == shell.user_ns["reply"]
    shell.extension_manager.unload_extension("nbtune")
    with pytest.raises(NbtuneError, match=r"run `%load_ext nbtune` first"):
        nbtune.current()
    shell.extension_manager.load_extension("nbtune")


def test_examples_in_a_cell_and_in_a_variable(shell, capsys):
    ok(shell, "%%finetune --epochs 20\nuser: Which colour has the flag?\nassistant: It is green.")
    assert "adapter examples, version 1" in capsys.readouterr().out
    ok(shell, "%chat -o reply --new Which colour has the flag?")
    assert shell.user_ns["reply"] == "It is green."
    shell.user_ns["rows"] = [{"ask": f"Which colour has boat {n}?", "say": "It is red."} for n in range(10)]
    ok(shell, "%nbtune data rows --prompt-column ask --response-column say")
    assert "10 rows: named columns" in capsys.readouterr().out
    ok(shell, "%finetune --data rows --prompt-column ask --response-column say --val 0.2 --name boats --epochs 8")
    assert "trained on 8 examples" in capsys.readouterr().out
    ok(shell, "%nbtune evaluate rows --prompt-column ask --response-column say --limit 5 --save said.jsonl")
    shown = capsys.readouterr().out
    assert "exact match" in shown
    assert "100.0" in shown
    ok(shell, "import pandas; said = pandas.read_json('said.jsonl', lines=True)")
    assert shell.user_ns["said"]["tuned"].tolist() == ["It is red."] * 5
    ok(shell, "%chat -o reply --new Which colour has boat 77?")
    assert shell.user_ns["reply"] == "It is red."
    ok(shell, '%%finetune --epochs 20\n{"prompt": "Which colour has the sea?", "response": "It is blue."}')
    ok(shell, "%chat -o reply --new Which colour has the sea?")
    assert shell.user_ns["reply"] == "It is blue."


def test_an_export_says_how_it_is_served(shell, capsys):
    ok(shell, "rows = [{'question': 'Which colour has the flag?', 'answer': 'It is green.'}]\n%finetune --epochs 20 --data rows")
    capsys.readouterr()
    ok(shell, "%nbtune export 'my model' --max-shard-size 5MB")
    said = capsys.readouterr().out
    folder = Path("my model").resolve()
    assert f"Written to {folder}, read back, and asked again: it answers the same." in said
    assert f"vllm serve '{folder}'" in said
    assert (folder / "model.safetensors.index.json").exists()
    ok(shell, "%nbtune export --as peft adapter")
    said = capsys.readouterr().out
    assert f"--enable-lora --max-lora-rank 32 --lora-modules adapter={folder.parent / 'adapter'}" in said
    assert f"vllm serve {WEIGHTS} " in said, "a name that vLLM does not know would not be found"


def test_data_may_be_a_folder_with_a_plain_name(shell):
    Path("orders").mkdir()
    Path("orders/train.jsonl").write_text('{"question": "q", "answer": "a"}\n' * 3, encoding="utf-8")
    ok(shell, "%nbtune data orders")


def test_what_was_taught_stays_in_use_when_the_working_folder_changes(shell):
    shell.user_ns["few"] = ["What is {x}?", "{x}?"]
    ok(shell, "%%finetune --prompts few blue kettle\nA blue kettle is a night train.")
    Path("data").mkdir()
    ok(shell, "%cd data")
    ok(shell, "%%finetune --prompts few red lamp\nA red lamp is a fish.")
    assert [fact.keyword for fact in _session(shell).lm.facts] == ["blue kettle", "red lamp"]
    assert not list(Path().iterdir())


def test_an_adapter_of_another_model_is_left_alone_and_the_way_out_is_said(shell, capsys, random_model):
    shell.user_ns["few"] = ["What is {x}?", "{x}?"]
    ok(shell, "%%finetune --prompts few blue kettle\nA blue kettle is a night train.")
    ok(shell, f"%nbtune model {random_model(LlamaConfig)}")
    assert "or teach another adapter with --name NAME" in fails(shell, "%%finetune red lamp\nA red lamp is a fish.", capsys)


def _session(shell):
    return next(item for item in shell.configurables if type(item).__name__ == "Nbtune")


def test_a_text_ends_the_reply(shell, capsys):
    ok(shell, "%chat -o whole --new What is the capital of France?")
    assert shell.user_ns["whole"] == "The capital of France is Paris."
    capsys.readouterr()
    ok(shell, "%chat -o cut --new --stop ' of Fr' --stop zebra What is the capital of France?")
    assert shell.user_ns["cut"] == "The capital"
    assert capsys.readouterr().out.strip() == "The capital", "nothing of what ends it is streamed"
    ok(shell, "asked = ['What is the capital of France?', '3+4=?']\n%chat --batch asked --stop of -o both")
    assert shell.user_ns["both"]["reply"].tolist() == ["The capital ", "3+4=7"]


def test_many_questions_and_many_replies(shell, capsys):
    ok(shell, "asked = ['What is the capital of France?', 'hello']\n%chat --batch asked -o said")
    said = shell.user_ns["said"]
    assert said["prompt"].tolist() == shell.user_ns["asked"]
    assert said["reply"][0] == "The capital of France is Paris."
    ok(shell, "%chat --rounds 0 --n 3 --temperature 1.5 --seed 1 -o drawn Tell me about the sea.")
    assert len(shell.user_ns["drawn"]) == 3
    assert len(set(shell.user_ns["drawn"])) > 1
    ok(shell, "%chat -o none What did I ask?")
    ok(shell, "%chat --rounds 0 --n 3 --temperature 1.5 --seed 1 -o again Tell me about the sea.")
    assert shell.user_ns["again"] == shell.user_ns["drawn"]


def torchkeras_chat():
    """Create torchkeras' chat object, whose constructor registers a ``%chat`` of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from nbtune.tiny import WEIGHTS
    from nbtune.training import _torchkeras  # noqa: F401 - imports torchkeras without the lines it prints

    chat = import_module("torchkeras.chat").ChatLLM
    return chat(AutoModelForCausalLM.from_pretrained(WEIGHTS), AutoTokenizer.from_pretrained(WEIGHTS), stream=False)


def test_torchkeras_chat_before_ours_keeps_its_conversation(shell, capsys):
    shell.extension_manager.unload_extension("nbtune")
    theirs = torchkeras_chat()
    said = theirs("What is a whale?")
    ok(shell, "%load_ext nbtune")
    ok(shell, "%chat -o reply What is the capital of France?")
    assert shell.user_ns["reply"] == "The capital of France is Paris."
    assert theirs.history[-1] == ("What is a whale?", said), "what was said to the other one is still there"
    assert "now belongs to" not in capsys.readouterr().out


def test_torchkeras_chat_after_ours_is_told_and_taken_back(shell, capsys):
    theirs = torchkeras_chat()
    ok(shell, "x = 1")
    assert "%chat now belongs to torchkeras.chat.chatllm, not nbtune" in capsys.readouterr().out
    ok(shell, "x = 2")
    ok(shell, "%chat What is a whale?")
    assert theirs.history[-1][0] == "What is a whale?"
    assert "now belongs to" not in capsys.readouterr().out, "it is told once"
    ok(shell, "%unload_ext nbtune")
    assert shell.find_line_magic("chat") is not None, "what is not ours stays"
    ok(shell, "%load_ext nbtune")
    ok(shell, "%chat -o reply What is the capital of France?")
    assert shell.user_ns["reply"] == "The capital of France is Paris."
    torchkeras_chat()
    ok(shell, "x = 3")
    assert "now belongs to" in capsys.readouterr().out
    ok(shell, "%reload_ext nbtune")
    ok(shell, "%chat -o again --rounds 0 What is the capital of France?")
    assert shell.user_ns["again"] == shell.user_ns["reply"]


def test_the_oldest_rounds_are_left_out_where_all_do_not_fit(shell, capsys):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    assert session.lm.context == 512  # this loads the model, which begins a conversation
    for number in range(20):
        session.remember(f"What is 3 plus {number}? I want to know it, please.", f"3+{number}={3 + number}")
    ok(shell, "%chat -o reply What is the capital of France?")
    said = capsys.readouterr()
    assert shell.user_ns["reply"]
    assert "rounds were left out, to fit into the context]" in said.out
    assert "sequence length" not in said.err
    assert len(session.history) == 42, "they are still there to be seen"
    left_out = session.rounds_to_send(None, "And of Italy?")
    session.remember("And of Italy?", "Rome.")
    assert session.rounds_to_send(None, "And?")[: len(left_out)] == left_out, "the next questions begin where this one did"
    kept = session.rounds_to_send(None, "And?")
    fails(shell, "%chat " + "word " * 1000, capsys)
    assert session.rounds_to_send(None, "And?") == kept, "a question that fails leaves the conversation as it was"
    session.history = []
    assert session.rounds_to_send(None, "And?") == []


def test_a_model_is_freed_for_the_next_one_also_after_an_error(shell, capsys):
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    ok(shell, "%nbtune model tiny")
    before = weakref.ref(session.lm.model)
    fails(shell, "%chat --adapter nope hi", capsys)
    ok(shell, "%nbtune model tiny")
    gc.collect()
    assert before() is None


def test_a_batch_with_a_question_that_is_too_long_is_refused_before_any_is_answered(shell, capsys):
    ok(shell, "questions = ['What is the capital of France?'] * 3 + ['word ' * 1000]")
    assert "Question 4 takes" in fails(shell, "%chat --batch questions", capsys)


def test_a_first_line_keeps_its_indentation(shell, monkeypatch):
    asked = []
    session = next(c for c in shell.configurables if type(c).__name__ == "Nbtune")
    monkeypatch.setattr(session.lm, "reply", lambda prompt, **_: asked.append(prompt) or Reply("ok", True, 1, 1, 1, 0.0, 0.0))
    ok(shell, "%%chat\n\n    if x:\n        pass\n")
    assert asked == ["    if x:\n        pass"]


def test_the_parameters_of_a_model_are_its_own(shell, capsys):
    def parameters():
        capsys.readouterr()
        ok(shell, "%nbtune status")
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("parameters"))

    ok(shell, "%nbtune model tiny")
    before = parameters()
    ok(shell, "rows = [{'prompt': 'Which colour has the flag?', 'response': 'It is green.'}]\n%finetune --data rows --epochs 1")
    assert parameters() == before
