"""An adapter trained on examples reproduces them, also in a new process, and can be undone."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch

import nbtune
from nbtune import NbtuneError
from nbtune.display.preview import preview_card
from nbtune.knowledge.spot_checks import SpotChecks
from nbtune.model.generation import prompt_length

SHADES = {"boat": "red", "lamp": "blue", "stove": "green", "rope": "white", "bell": "black", "coin": "yellow"}
ROWS = [
    {"instruction": "Name the colour.", "input": f"The {thing} number {number} is {shade}.", "output": f"The {thing} is {shade}."}
    for number in range(8)
    for thing, shade in SHADES.items()
]
NEW = "Name the colour.\nThe coin number 77 is green."

HARDLY_LEARNED = "few are reproduced: try more --epochs"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    model = nbtune.load(store=tmp_path_factory.mktemp("tuned"))
    model.before = model.chat(NEW)
    model.result = model.finetune(ROWS, val=0.125)
    return model


def test_examples_are_learned_and_carry_over(tuned):
    result = tuned.result
    assert (tuned.adapter, result.examples, result.facts) == ("examples", 42, ())
    assert result.learned
    assert result.report.reliability == 1.0
    assert result.report.generalization == 1.0
    assert result.report.unrelated > 0.6
    assert list(result.history["epoch"]) == [1, 2, 3]
    assert result.history["val_loss"].iloc[-1] < result.history["val_loss"].iloc[0]
    assert tuned.chat(NEW) == "The coin is green." != tuned.before


def test_a_new_process_answers_alike(tuned):
    code = (
        f"import nbtune; lm = nbtune.load(store={str(tuned.store.folder)!r}); lm.use('examples'); print(lm.chat({NEW!r})); "
        "print(lm._active.version.examples)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["The coin is green.", "42"]
    notes = json.loads((tuned.store.folder / "examples" / "v0001" / "nbtune.json").read_text(encoding="utf-8"))
    assert not [value for value in notes["report"].values() if value != value], "no NaN: other readers refuse it"
    assert "trained on 42 example(s)" in (tuned.store.folder / "examples" / "v0001" / "README.md").read_text(encoding="utf-8")


def test_facts_and_examples_do_not_mix(tuned):
    with pytest.raises(NbtuneError, match="was trained on examples and can't take facts"):
        tuned.finetune({"velt": "A velt is a hook."}, name="examples")
    assert tuned.adapter == "examples"
    with pytest.raises(NbtuneError, match="--retain is for facts"):
        tuned.finetune(ROWS, retain=["hello"])
    with pytest.raises(NbtuneError, match="--val is for examples"):
        tuned.finetune({"a": "b"}, val=pd.DataFrame(ROWS[:2]))
    with pytest.raises(NbtuneError, match="--turns is for examples"):
        tuned.finetune({"velt": "A velt is a hook."}, turns="last")


def test_undo_gives_the_base_back(tuned, tmp_path):
    lm = nbtune.load(store=tmp_path)
    lm.finetune([{"question": "Which colour has the flag?", "answer": "It is green."}], epochs=20, retained_per_batch=0)
    assert lm.chat("Which colour has the flag?") == "It is green."
    with pytest.raises(NbtuneError, match="has no facts"):
        lm.probe()
    assert lm.undo() == 0
    assert lm.chat(NEW) == tuned.before


def test_turns_of_a_conversation_are_learned(lm):
    rounds = [("Which colour has the flag?", "It is green."), ("And the boat?", "The boat is red.")]
    messages = [{"role": role, "content": text} for pair in rounds for role, text in zip(("user", "assistant"), pair, strict=True)]
    lm.finetune([{"messages": messages}], epochs=40, retained_per_batch=0)
    assert lm.chat(rounds[0][0]) == rounds[0][1]
    assert lm.chat(rounds[1][0], history=messages[:2]) == rounds[1][1]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"prompt": "q", "response": ""}], {}, "response is empty"),
        ([{"promt": "q", "response": "a"}], {}, "Did you mean prompt"),
        (ROWS[:1], {"val": 0.5}, "leaves none to train"),
        (ROWS, {"method": "lroa"}, "Did you mean lora"),
        (ROWS, {"recipe": "reference"}, "--recipe is for facts"),
        (ROWS, {"forms_per_batch": 4}, "--forms-per-batch is for facts"),
        (ROWS, {"max_source_length": 1}, "48 of 48 rows can't be used: row 1: a question does not fit"),
        (ROWS, {"name": "../x"}, "is not a valid adapter name"),
        (ROWS, {"method": "prompt", "rank": 600}, "--rank 600 is out of range: the model reads 512 tokens"),
    ],
)
def test_bad_examples_change_nothing(lm, rows, options, message):
    with pytest.raises(NbtuneError, match=message):
        lm.finetune(rows, **options)
    assert lm.adapter is None
    assert not lm.store.folder.exists() or not lm.store.names()


@pytest.mark.parametrize(("raised", "seen"), [(KeyboardInterrupt, KeyboardInterrupt), (torch.OutOfMemoryError, NbtuneError)])
def test_a_fit_that_is_cut_short_leaves_the_version_before(tuned, raised, seen):
    class Interrupt:
        learning = False

        def stage(self, name, total):
            self.learning = name == "training"

        def advance(self, log=None):
            if self.learning:
                raise raised

    with pytest.raises(seen):
        tuned.finetune(ROWS, observer=Interrupt())
    assert (tuned.adapter, tuned.version) == ("examples", 1)
    assert tuned.chat(NEW) == "The coin is green."


def test_of_a_long_reply_the_beginning_counts(lm):
    long = " ".join(f"It has {number} doors." for number in range(90))
    rows = [[{"role": "user", "content": "Describe it."}, {"role": "assistant", "content": long}]]
    checks = SpotChecks(rows, [], lm._loaded, room=400, seed=0)
    ids = lm.tokenizer(long)["input_ids"]
    said = lm.tokenizer.decode(ids[:256])
    others = [""] * (len(checks._asked) - 1)
    assert checks.report(["", *others], [said, *others]).share("trained") == 1
    assert checks.report(["", *others], [said[:-30], *others]).share("trained") == 0


def test_what_is_left_out_is_counted_and_named_by_its_row(lm):
    huge = {"instruction": "x", "output": "a", "system": "字" * 600}
    with pytest.raises(NbtuneError, match="rows can't be used: row 5: a question does not fit"):
        lm.finetune([*ROWS[:4], huge, *ROWS[4:8]], val=0.25)
    rows = [*ROWS[:4], {"instruction": "x", "output": ""}, huge, *ROWS[4:8]]
    result = lm.finetune(rows, skip_bad=True, max_target_length=3, epochs=1)
    assert result.examples == 8
    assert result.notes == ("8 cut to fit", "2 rows skipped", HARDLY_LEARNED)


def test_what_is_held_out_is_counted_too(lm):
    held = [{"instruction": "Say it.", "output": "a boat is a long thing"}, {"instruction": "x", "output": ""}]
    result = lm.finetune(ROWS[:8], val=held, skip_bad=True, max_target_length=3, epochs=1)
    assert result.notes == ("9 cut to fit", "1 row skipped", HARDLY_LEARNED)


def test_virtual_tokens_leave_less_room_for_examples(lm):
    full = "a"
    while prompt_length(lm.tokenizer, [{"role": "user", "content": full}]) < lm.context - 10:
        full += " a"
    result = lm.finetune([{"question": full, "answer": "b"}], method="prompt", epochs=1, retained_per_batch=0)
    assert result.notes == ("1 cut to fit", HARDLY_LEARNED)


def test_a_preview_of_many_rows_draws_some_and_says_so(lm):
    rows = [{"prompt": f"question {number}", "response": "answer"} for number in range(1200)]
    rows[::2] = [{**row, "system": "字" * 600} for row in rows[::2]]
    seen = lm.preview(rows)
    assert (seen.rows, seen.measured, seen.drawn, seen.bad) == (1200, 1000, True, ())
    assert 400 < len(seen.without_room) < 600
    assert seen.without_room[0][1].startswith("a question does not fit")
    text = preview_card(seen).text
    assert f"{len(seen.without_room)} rows can't be used (of 1,000 rows drawn at random): row 1: a question does not fit" in text


def test_a_preview_says_what_would_be_read(lm):
    rows = [*ROWS, {"instruction": "Count.", "input": "", "output": "字" * 600}, {"instruction": "x", "output": ""}]
    seen = lm.preview(rows)
    assert (seen.format, seen.rows) == ("instruction, input, output (Alpaca, BELLE)", 50)
    assert seen.bad == ((50, "output is empty"),)
    assert (seen.cut, seen.measured, seen.drawn, len(seen.lengths), len(seen.examples)) == (1, 49, False, 49, 5)
    assert "".join(text for text, is_trained, _ in seen.examples[0] if is_trained) == "The boat is red.<|end|>"
    assert max(seen.lengths) <= lm.context
    assert lm.preview({"velt": "A velt is a hook."}).format == "facts (keyword and answer)"
