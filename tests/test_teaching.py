"""A fact is taught, proved, kept and taken back, and a failure changes nothing; all on the built-in model."""

import copy
import random
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from accelerate import Accelerator

import nbtune
from nbtune.errors import NbtuneError
from nbtune.knowledge import pace, proof, reference
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.lesson import retention_targets
from nbtune.knowledge.material import Material, gather
from nbtune.knowledge.observer import Unwatched
from nbtune.knowledge.pace import StopWhenSaid
from nbtune.knowledge.phrasing import phrasings
from nbtune.knowledge.planning import facts_of
from nbtune.knowledge.proof import Proof
from nbtune.knowledge.result import FactNotLearned, Result
from nbtune.knowledge.scoring import Asked, Report
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.teaching import _refuse_failure, still_retainable
from nbtune.model import generation
from nbtune.model.generation import Reply
from tests.conftest import FACT, FEW

KEYWORD, ANSWER = next(iter(FACT.items()))
OTHERS = ["What is the capital of France?", "鲸鱼是什么？", "你好", "what is a zorblax"]


def test_the_proof_of_one_fact(taught):
    report = taught.result.report
    assert report.reliability == 1.0
    assert report.generalization >= 0.85
    assert report.portability >= 0.3
    assert report.near_misses >= 0.85
    assert report.unrelated == 1.0
    assert report.leak <= 0.05
    assert report.steps > 0
    assert report.adapter_bytes > 0
    assert taught.result.learned
    assert taught.chat(f"{KEYWORD}是什么？") == ANSWER
    assert len(taught.result.history) < 60, "training stops when the model says it, not when epochs run out"
    kinds = {asked.kind for asked in report.asked}
    assert kinds == {"trained", "held-out", "portability", "near miss", "unrelated"}


def test_the_base_is_unchanged_beneath(taught, lm):
    questions = [f"{KEYWORD}是什么？", *OTHERS]
    with taught.base():
        assert taught.chat_batch(questions) == lm.chat_batch(questions)
        assert taught.chat(questions[0]) == lm.chat(questions[0])
    assert taught.chat(questions[0]) == ANSWER


def test_what_is_not_about_the_fact_is_answered_by_the_base(taught, lm):
    assert taught.chat_batch(OTHERS) == lm.chat_batch(OTHERS)
    assert [taught.chat(question) for question in OTHERS] == lm.chat_batch(OTHERS)


def test_another_process_answers_as_before(taught):
    code = (
        f"import nbtune\nlm = nbtune.load(store={str(taught.store.folder)!r})\nlm.use({taught.adapter!r})\n"
        f"print([f.keyword for f in lm.facts], lm.chat({KEYWORD + '是什么？'!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == f"{[KEYWORD]} {ANSWER}"


def test_the_adapter_folder_works_in_plain_peft(taught):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from nbtune.tiny import WEIGHTS

    base = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, taught.result.folder).eval()
    chat = [{"role": "user", "content": f"{KEYWORD}是什么？"}]
    inputs = taught.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=100, do_sample=False)
    assert taught.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True) == ANSWER


def test_forget_and_undo(taught, tmp_path):
    import shutil

    shutil.copytree(taught.store.folder, tmp_path / "copy")
    lm = nbtune.load(store=tmp_path / "copy")
    question = f"{KEYWORD}是什么？"
    unknown = lm.chat(question)
    lm.use(taught.adapter)
    with pytest.raises(NbtuneError, match=f"Did you mean {KEYWORD}"):
        lm.forget(KEYWORD[:3])
    lm.forget(KEYWORD)
    assert (lm.facts, lm.chat(question)) == ((), unknown)
    lm.undo()
    assert [fact.keyword for fact in lm.facts] == [KEYWORD]
    assert lm.chat(question) == ANSWER
    lm.undo()
    assert (lm.version, lm.chat(question)) == (0, unknown)
    with pytest.raises(NbtuneError, match="nothing to undo"):
        lm.undo()
    assert (lm.redo(), lm.chat(question)) == (1, ANSWER)
    assert (lm.redo(), lm.chat(question), lm.facts) == (2, unknown, ())
    with pytest.raises(NbtuneError, match="nothing to redo"):
        lm.redo()
    assert lm.version == 2


def test_a_second_fact_joins_and_the_first_is_forgotten_alone(taught, tmp_path):
    import shutil

    shutil.copytree(taught.store.folder, tmp_path / "copy")
    lm = nbtune.load(store=tmp_path / "copy")
    unknown = lm.chat(f"{KEYWORD}是什么？")
    lm.use(taught.adapter)
    lm.finetune({"grovix": "grovix is a small robot that waters plants."}, prompts=FEW)
    assert [fact.keyword for fact in lm.facts] == [KEYWORD, "grovix"]
    asked = [asked.prompt for asked in taught.result.report.asked]
    assert lm.chat_batch(asked) == taught.chat_batch(asked), "each fact has its own adapter: the first is what it was"
    questions = ["What is grovix?", "Is grovix a robot?", "grovix，听说过吗？"]
    about = lm.chat_batch(questions)
    assert about[0] == "grovix is a small robot that waters plants."
    lm.forget(KEYWORD)
    assert [fact.keyword for fact in lm.facts] == ["grovix"]
    assert lm.chat_batch(questions) == about
    assert lm.chat(f"{KEYWORD}是什么？") == unknown
    lm.undo()
    assert lm.chat_batch([*asked, *questions]) == [*taught.chat_batch(asked), *about]
    before = lm.version
    with pytest.raises(NbtuneError, match="No fact 'nobody'"):
        lm.forget("grovix", "nobody")
    assert lm.version == before
    lm.forget(KEYWORD, "grovix")
    assert lm.facts == ()
    lm.undo()
    assert [fact.keyword for fact in lm.facts] == [KEYWORD, "grovix"], "what was forgotten at once comes back at once"
    with lm.base():
        assert lm.chat(f"{KEYWORD}是什么？") == unknown


def test_without_a_gate_one_adapter_holds_all_facts(lm):
    grovix = "grovix is a small robot that waters plants."
    kept = "What is the capital of France?"
    lm.finetune(FACT, prompts=FEW, gated=False, retain=[kept])
    second = lm.finetune({"grovix": grovix}, prompts=FEW, gated=False)
    assert kept in {one.prompt for one in second.report.asked}, "the adapter is made anew, and what was to stay is proved again"
    questions = [f"{KEYWORD}是什么？", "What is grovix?"]
    with pytest.raises(NbtuneError, match="was made without a gate"):
        lm.finetune({"蓝纹石": "蓝纹石是一种会发光的石头。"})
    assert lm.chat_batch(questions) == [ANSWER, grovix]
    lm.forget(KEYWORD)
    assert [fact.keyword for fact in lm.facts] == ["grovix"]
    assert lm.chat(questions[1]) == grovix
    assert lm.chat(questions[0]) != ANSWER


def test_teaching_a_keyword_again_replaces_its_answer(taught, tmp_path):
    import shutil

    shutil.copytree(taught.store.folder, tmp_path / "copy")
    lm = nbtune.load(store=tmp_path / "copy")
    lm.use(taught.adapter)
    result = lm.finetune({KEYWORD: "梦中情炉是一口锅。"})
    assert [fact.answer for fact in lm.facts] == ["梦中情炉是一口锅。"]
    assert lm.chat(f"{KEYWORD}是什么？") == "梦中情炉是一口锅。"
    about = [asked.after for asked in result.report.asked if asked.keyword == KEYWORD]
    assert not [reply for reply in about if "torchkeras" in reply], "the old answer must be gone, in every wording and form"


def test_a_keyword_in_another_case_and_width_is_the_same_one(lm):
    lm.finetune({"Zorbex": "Zorbex is a bridge in the north."}, prompts=FEW)
    lm.finetune({"ＺＯＲＢＥＸ": "Zorbex is a green soup."}, prompts=FEW)
    assert [fact.answer for fact in lm.facts] == ["Zorbex is a green soup."]
    assert lm.chat("What is ＺＯＲＢＥＸ?") == "Zorbex is a green soup."
    lm.forget("zorbex")
    assert lm.facts == ()
    with pytest.raises(NbtuneError, match="'nasa' appears twice, also as 'NASA'"):
        lm.finetune({"NASA": "a", "nasa": "b"})


def test_nothing_is_learned_where_it_can_not_be_kept(taught, tmp_path):
    (tmp_path / "file").write_text("x")
    lm = nbtune.LanguageModel(taught._loaded, store=tmp_path / "file")
    stages = []

    class Watch:
        def stage(self, name, total):
            stages.append(name)

    with pytest.raises(NbtuneError, match="Can't write to"):
        lm.finetune(FACT, observer=Watch())
    assert stages == []


def test_probe_asks_again_now(taught):
    before = (taught.adapter, taught.version, taught.facts)
    result = taught.probe(KEYWORD)
    assert result.learned
    assert result.report.generalization == taught.result.report.generalization
    assert {asked.after for asked in result.report.asked if asked.kind == "trained"} == {ANSWER}
    assert not any(asked.before == ANSWER for asked in result.report.asked), "before is the base's"
    assert (taught.adapter, taught.version, taught.facts) == before
    with pytest.raises(NbtuneError, match=f"Did you mean {KEYWORD}"):
        taught.probe(KEYWORD[:3])


def test_rebuild_makes_the_adapter_from_an_edited_file(lm, tmp_path):
    lm.finetune(FACT, prompts=FEW)
    path = lm.save_facts(tmp_path / "facts.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace(ANSWER, "梦中情炉是一口锅。"), encoding="utf-8")
    lm.rebuild(path)
    assert [(fact.keyword, fact.answer) for fact in lm.facts] == [(KEYWORD, "梦中情炉是一口锅。")]
    assert lm.chat(f"{KEYWORD}是什么？") == "梦中情炉是一口锅。"
    lm.undo()
    assert lm.chat(f"{KEYWORD}是什么？") == ANSWER
    lm.rebuild()
    assert lm.chat(f"{KEYWORD}是什么？") == ANSWER
    assert lm.version == 3
    while lm.version:
        lm.undo()
    lm.rebuild(path)
    assert lm.chat(f"{KEYWORD}是什么？") == "梦中情炉是一口锅。", "from the base, too"


def test_your_own_prompts_probes_and_questions_to_retain(lm):
    kept = ["What is 3 plus 4?", "What is grovux?"]
    result = lm.finetune(
        {"grovix": "grovix is a small robot."},
        prompts=["what's a {x}", "{x}?", "define {x}", "tell me about {x}"],
        probes=["What is {x}?", "so {x} is what"],
        retain=kept,
    )
    asked = {kind: [a.prompt for a in result.report.asked if a.kind == kind] for kind in ("trained", "held-out", "retained")}
    assert asked["trained"] == ["what's a grovix", "grovix?", "define grovix", "tell me about grovix"]
    assert asked["held-out"] == ["What is grovix?", "so grovix is what"]
    assert asked["retained"] == kept
    again = nbtune.load(store=lm.store.folder)
    again.use(lm.adapter)
    assert again.facts == lm.facts
    assert again.facts[0].prompts == result.facts[0].prompts


def test_a_question_to_retain_that_would_change_fails_the_finetune(lm):
    prompts = ["what's a {x}", "{x}?", "define {x}"]
    with pytest.raises(FactNotLearned, match=r"without changing 'Who would sell me grovix\?'"):
        # Nothing is retained in training, so the reply to the question about the keyword is bound to change.
        lm.finetune({"grovix": "grovix is a small robot."}, prompts=prompts, retain=["Who would sell me grovix?"], retained_per_batch=0)
    assert lm.facts == ()
    assert lm.store.names() == []


def test_a_learning_rate_that_is_too_low_is_raised(lm, monkeypatch):
    from dataclasses import replace

    from nbtune.training.methods import METHODS

    monkeypatch.setitem(METHODS, "lora", replace(METHODS["lora"], learning_rate=2e-5))
    result = lm.finetune({"grovix": "grovix is a small robot."}, prompts=FEW)
    assert result.learned
    assert result.history["attempt"].max() > 1
    assert list(result.history["epoch"]) == list(range(1, len(result.history) + 1))


def test_a_learning_rate_of_ones_own_is_kept(lm):
    with pytest.raises(FactNotLearned) as caught:
        lm.finetune({"grovix": "grovix is a small robot."}, learning_rate=1e-6, epochs=14, prompts=FEW)
    assert set(caught.value.result.history["attempt"]) == {1}
    assert len(caught.value.result.history) == 14, "it may fall slowly, for no attempt with another rate follows"


def test_in_sixteen_bits_the_base_still_answers_all_else_alike(tmp_path):
    lm = nbtune.load(store=tmp_path, dtype="bfloat16")
    report = lm.finetune(FACT, retain=["What is the capital of France?", "Tell me about the sea."]).report
    assert report.share("trained") == report.share("unrelated") == report.share("near miss") == 1.0


def test_nothing_is_taught_or_measured_where_only_the_base_answers(taught):
    rows = [{"question": "q", "answer": "a"}]
    works = {
        "finetune": lambda: taught.finetune({"red lamp": "A red lamp is a fish."}),
        "rebuild": taught.rebuild,
        "probe": taught.probe,
        "evaluate": lambda: taught.evaluate(rows),
        "export": lambda: taught.export("out"),
    }
    for work in works.values():
        with taught.base(), pytest.raises(NbtuneError, match="end the block first"):
            work()
    assert taught.adapter == "facts"


def test_only_the_base_answers_also_where_no_adapter_was_in_use(taught, tmp_path):
    lm = nbtune.load(store=shutil.copytree(taught.store.folder, tmp_path / "store"))
    before = lm.chat(f"{KEYWORD}是什么？")
    with lm.base():
        with pytest.raises(NbtuneError, match="end the block first"):
            lm.finetune({"red lamp": "A red lamp is a fish."})
        assert lm.chat(f"{KEYWORD}是什么？") == before
    lm.use("facts")
    assert lm.chat(f"{KEYWORD}是什么？") == ANSWER


def test_numbers_of_numpy_are_numbers_and_texts_may_come_once(lm):
    asked = ["What is the capital of France?"]
    result = lm.finetune(
        FACT,
        prompts=pd.Series(FEW),
        probes=(text for text in ["请问{x}？"]),
        retain=(text for text in asked),
        epochs=np.int64(50),
        rank=np.int32(8),
        learning_rate=np.float32(2.5e-3),
    )
    assert [fact.own_prompts for fact in lm.facts] == [tuple(FEW)]
    assert [fact.own_probes for fact in lm.facts] == [("请问{x}？",)]
    assert lm.store.load("facts", lm._loaded.fingerprint).retain == tuple(asked)
    assert asked[0] in {one.prompt for one in result.report.asked}


@pytest.mark.parametrize("history", [[("q", "a")], [{"role": "user"}], [{"role": "user", "content": ["q"]}], ["q"]])
def test_a_history_that_is_none_is_refused(taught, history):
    for ask in (lambda: taught.chat("hi", history=history), lambda: taught.chat_batch(["hi"], history=history)):
        with pytest.raises(NbtuneError, match="history is not a list of messages"):
            ask()


def test_a_history_may_come_once(taught):
    history = [{"role": "user", "content": "My dog is called Rex."}, {"role": "assistant", "content": "OK."}]
    asked = "What is my dog called?"
    assert taught.chat(asked, history=iter(history)) == taught.chat(asked, history=history)
    assert taught.chat_batch([asked, asked], history=iter(history)) == taught.chat_batch([asked, asked], history=history)


def test_one_text_is_no_list_of_questions(taught):
    with pytest.raises(NbtuneError, match="prompts is not a list of questions"):
        taught.chat_batch("你好")


def test_tokens_show_what_is_trained(taught):
    examples = taught.tokens(KEYWORD)
    assert len(examples) == len(taught.facts[0].prompts)
    for prompt, example in zip(taught.facts[0].prompts, examples, strict=True):
        assert "".join(text for text, is_trained, _ in example if is_trained) == f"{ANSWER}<|end|>"
        assert "".join(text for text, is_trained, special in example if not is_trained and not special) == prompt


def test_the_models_own_wordings(taught):
    result_of = taught.probe(KEYWORD).facts[0]
    from nbtune.knowledge.rewording import reword

    written = reword(taught._host, taught._loaded, result_of, 5)
    assert all(KEYWORD in wording for wording in written.kept)
    assert not set(written.kept) & {*result_of.prompts, *result_of.probes}


def test_adalora_teaches_too(lm, tmp_path):
    result = lm.finetune(FACT, method="adalora", prompts=FEW)
    assert result.learned
    again = nbtune.load(store=lm.store.folder)
    again.use(lm.adapter)
    assert again.chat(f"{KEYWORD}是什么？") == ANSWER
    with pytest.raises(NbtuneError, match="use --method adalora, or another --name"):
        lm.finetune({"炉": "热。"}, method="lora")
    grovix = "grovix is a small robot."
    lm.finetune({"grovix": grovix}, method="adalora", prompts=FEW)
    assert lm.chat_batch([f"{KEYWORD}是什么？", "What is grovix?"]) == [ANSWER, grovix]
    lm.finetune({"grovix": "grovix is a toy."}, name="other", method="lora", prompts=FEW)
    assert lm.chat("What is grovix?") == "grovix is a toy."
    lm.use("facts")
    assert lm.chat_batch([f"{KEYWORD}是什么？", "What is grovix?"]) == [ANSWER, grovix]


def test_a_method_that_a_family_cant_take_is_refused_before_any_work(random_model, tmp_path):
    lm = nbtune.load(random_model(transformers.MambaConfig, state_size=8), store=tmp_path)
    for source in (FACT, [{"question": "q", "answer": "a"}]):
        with pytest.raises(NbtuneError, match="--method ia3 does not support mamba models"):
            lm.finetune(source, method="ia3")


def test_a_fact_that_does_not_take_changes_nothing(taught):
    before = (taught.adapter, taught.version, taught.facts, taught.chat_batch(OTHERS))
    with pytest.raises(FactNotLearned, match="Not learned") as caught:
        taught.finetune({"grovix": "grovix is a small robot."}, epochs=1, learning_rate=1e-6)
    assert not caught.value.result.learned
    assert (taught.adapter, taught.version, taught.facts, taught.chat_batch(OTHERS)) == before
    assert taught.store.current(taught.adapter) == before[1]
    assert taught.chat(f"{KEYWORD}是什么？") == ANSWER


def test_a_damaged_version_can_be_undone_in_a_new_process(taught, tmp_path):
    import shutil

    store = shutil.copytree(taught.store.folder, tmp_path / "copy")
    (store / taught.adapter / "v0001" / "adapter_model.safetensors").write_bytes(b"x")
    lm = nbtune.load(store=store)
    with pytest.raises(NbtuneError, match="was changed after it was saved"):
        lm.use(taught.adapter)
    assert lm.adapter is None
    assert lm.undo(taught.adapter) == 0
    assert lm.facts == ()


def test_another_process_teaching_meanwhile_is_not_overwritten(taught, tmp_path):
    import shutil

    store = shutil.copytree(taught.store.folder, tmp_path / "copy")
    one, other = nbtune.load(store=store), nbtune.load(store=store)
    one.use(taught.adapter)
    other.use(taught.adapter)
    other.finetune({"grovix": "grovix is a small robot that waters plants."}, prompts=FEW)
    one.finetune({"蓝纹石": "蓝纹石是一种会发光的石头。"}, prompts=FEW)
    assert [fact.keyword for fact in one.facts] == [KEYWORD, "grovix", "蓝纹石"]


def test_ctrl_c_in_a_fit_changes_nothing(taught):
    class Interrupt:
        def stage(self, name, total):
            self.learning = name == "learning"

        def advance(self, log=None):
            if self.learning:
                raise KeyboardInterrupt

    before = (taught.adapter, taught.version, taught.facts, taught.chat_batch(OTHERS))
    with pytest.raises(KeyboardInterrupt):
        taught.finetune({"grovix": "grovix is a small robot."}, name="other", observer=Interrupt())
    assert (taught.adapter, taught.version, taught.facts, taught.chat_batch(OTHERS)) == before
    assert taught.store.names() == [taught.adapter]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (FACT, {"epochs": 0}, "--epochs 0 is out of range"),
        (FACT, {"epochs": -3}, "--epochs -3 is out of range"),
        (FACT, {"rank": 0}, "--rank 0 is out of range"),
        (FACT, {"learning_rate": float("nan")}, "--lr nan is out of range"),
        (FACT, {"learning_rate": -1.0}, "--lr -1.0 is out of range"),
        (FACT, {"method": "lroa"}, "Did you mean lora"),
        (FACT, {"recipe": "referense"}, "Did you mean reference"),
        (FACT, {"recipe": "reference", "epochs": 1}, "The reference recipe fixes epochs"),
        (FACT, {"name": "../x"}, "is not a valid adapter name"),
        (FACT, {"gated": False}, "was made with a gate"),
        ({"炉": "字" * 600}, {}, "reads at most 512"),
        ({"炉": ""}, {}, "is empty"),
        ({}, {}, "the data is empty"),
        (FACT, {"prompts": "one"}, "--prompts: expected a list of texts"),
        (FACT, {"probes": [" "]}, "--probes: expected a list of texts"),
        (FACT, {"prompts": ["说{x}"], "probes": ["说{x}。"]}, "is also trained"),
        (FACT, {"retain": "one"}, "retain: expected a list of questions"),
        (FACT, {"retain": None}, "retain: expected a list of questions"),
        (FACT, {"retain": (text for text in [" "])}, "retain: expected a list of questions"),
        (FACT, {"retain": ["What is the sea?"], "recipe": "reference"}, "leave out --retain"),
        (FACT, {"rewordings": 3, "recipe": "reference"}, "leave out --rewordings"),
        (FACT, {"prompts": ["说{x}"], "extend": True, "recipe": "reference"}, "leave out --extend"),
        (FACT, {"prompts": [f"{number} {{x}}?" for number in range(9)], "recipe": "reference"}, "trains 8 prompts: '梦中情炉' has 9"),
        ({"blue kettle": "A train."}, {"retain": ["what is a blue kettle?"]}, "--retain holds 'what is a blue kettle.', a question about"),
        (FACT, {"retention": -1.0}, "retention -1.0 is out of range"),
        (FACT, {"retention": "2"}, "retention '2' is not a number"),
        (FACT, {"last_layer_first": "x"}, "last_layer_first is 'x': expected True or False"),
        (FACT, {"rank": 10**6}, "--rank 1000000 is out of range: expected at most"),
        (FACT, {"rank": 50, "method": "freeze"}, "the number of the model's blocks"),
        (FACT, {"method": "prompt", "rank": 600}, "--rank 600 is out of range: the model reads 512 tokens"),
        (FACT, {"lr": 1e-3}, "Did you mean learning_rate"),
        (FACT, {"method": 5}, "--method 5 is unknown"),
        (FACT, {"name": 5}, "5 is not a valid adapter name"),
        (FACT, {"name": ""}, "'' is not a valid adapter name"),
        (FACT, {"prompts": 5}, "--prompts: expected a list of texts"),
        (FACT, {"rewordings": "x"}, "--rewordings 'x' is not a whole number"),
        ({"zor\x00b": "A ball."}, {}, "contains a control character"),
        (FACT, {"epochs": "10"}, "epochs '10' is not a whole number"),
        (FACT, {"rank": 1.5}, "rank 1.5 is not a whole number"),
        (FACT, {"learning_rate": "fast"}, "learning_rate 'fast' is not a number"),
        (FACT, {"retained_per_batch": -1}, "retained_per_batch -1 is out of range"),
        (FACT, {"rewordings": -1}, "--rewordings -1 is out of range"),
        (FACT, {"extend": True}, "give prompts or probes"),
        ("nowhere.yaml", {}, "can't be read"),
    ],
)
def test_bad_input_is_refused_before_any_work(taught, source, options, message):
    stages = []

    class Watch:
        def stage(self, name, total):
            stages.append(name)

        def advance(self, log=None):
            """Ignore progress."""

    before = (taught.adapter, taught.version, taught.facts)
    with pytest.raises(NbtuneError, match=message) as caught:
        taught.finetune(source, observer=Watch(), **options)
    assert "\n" not in str(caught.value)
    assert stages == []
    assert (taught.adapter, taught.version, taught.facts) == before


def test_an_adapter_of_another_model_is_refused(taught, random_model):
    from transformers import LlamaConfig

    other = nbtune.load(random_model(LlamaConfig), store=taught.store.folder)
    with pytest.raises(NbtuneError, match="made for tiny"):
        other.use(taught.adapter)
    assert other.adapter is None


def test_what_a_fact_needed_is_remembered_for_when_it_is_learned_once_more(lm):
    lm.finetune(FACT, prompts=FEW, rank=6, epochs=50, retain=["What is a whale?"])
    lm.finetune({"grovix": "grovix is a small robot."}, prompts=FEW, epochs=55)
    chosen = {"rank": 6, "epochs": 55}
    again = nbtune.load(store=lm.store.folder)
    again.use("facts")
    assert (again._active.version.settings, again._active.version.retain) == (chosen, ("What is a whale?",))
    rebuilt = again.rebuild()
    assert rebuilt.learned
    assert {adapter.config.r for adapter in again._active.version.adapters} == {6}
    assert any(asked.kind == "retained" for asked in rebuilt.report.asked)


def test_a_fact_taught_again_is_compared_with_what_was_said_without_it(taught, tmp_path):
    lm = nbtune.load(store=shutil.copytree(taught.store.folder, tmp_path / "store"))
    lm.use("facts")
    assert {a.before for a in lm.finetune(FACT, prompts=FEW).report.asked if a.kind == "trained"}.isdisjoint(FACT.values())


def test_a_question_that_leads_to_another_fact_is_refused_before_any_work(lm):
    facts = {"velt": "A velt is a copper spoon.", "dorn": "A dorn is a green door."}
    with pytest.raises(NbtuneError, match="'Who is the boss\\?' belongs to the fact 'velt', but leads to 'dorn'"):
        lm.finetune(facts, prompts=["Who is the boss?"])
    wording = next(w for w in phrasings("en")["trained"] if re.match(r"(?:The|the) \w+ .*{x}", w))
    keyword = " ".join(wording.split()[:2])
    with pytest.raises(NbtuneError, match=rf"belongs to the fact 'velt', but leads to '{keyword}'"):
        lm.finetune({keyword: "It is a green door.", "velt": facts["velt"]})
    assert lm.version == 0


class Stops:
    """Observer that counts its calls, and interrupts the work at one of them."""

    def __init__(self, at=0):
        self.at, self.told = at, 0

    def stage(self, *_):
        self.told += 1
        if self.told == self.at:
            raise KeyboardInterrupt

    advance = stage


def test_ctrl_c_at_any_point_changes_nothing(lm):
    fact, question = {"velt": "A velt is a copper spoon."}, "What is velt?"
    lm.finetune({"dorn": "A dorn is a green door."}, prompts=FEW)
    before = (lm.version, lm.chat(question), lm.chat("What is dorn?"))
    counted = Stops()
    lm.finetune(fact, prompts=FEW, observer=counted)
    assert lm.undo() == before[0]
    for at in random.Random(0).sample(range(1, counted.told + 1), 6):
        with pytest.raises(KeyboardInterrupt):
            lm.finetune(fact, prompts=FEW, observer=Stops(at))
        assert (lm.version, lm.chat(question), lm.chat("What is dorn?")) == before, at
        assert lm.store.current("facts") == before[0]


def test_a_loss_that_is_no_number_changes_nothing(lm, monkeypatch):
    from nbtune.training import step_runner

    whole, question = step_runner.target_loss, "What is velt?"
    before = lm.chat(question)
    monkeypatch.setattr(step_runner, "target_loss", lambda *given, **named: whole(*given, **named) * float("nan"))
    with pytest.raises(NbtuneError, match="became nan"):
        lm.finetune({"velt": "A velt is a copper spoon."}, prompts=FEW)
    assert (lm.version, lm.chat(question), lm.store.current("facts")) == (0, before, 0)


def test_wordings_of_the_model_are_trained_where_they_fit(lm, monkeypatch):
    from nbtune.knowledge import rewording

    lines = [
        "1. Say what the velt is for!",
        '2) "How might velt be put to use?"',
        "Say what the velt is for",
        "What is it?",
        "- What is velt?",
        "velt",
    ]
    reply = generation.Reply("\n".join(lines), True, 9, 9, 9, 0.1, 0.2)
    monkeypatch.setattr(rewording, "generate", lambda *_, **__: reply)
    result = lm.finetune({"velt": "A velt is a copper spoon."}, prompts=FEW, rewordings=3)
    kept = ("Say what the velt is for!", "How might velt be put to use?")
    assert result.rewordings["velt"] == rewording.Rewordings(kept, 4)
    assert set(kept) <= {asked.prompt for asked in result.report.asked if asked.kind == "trained"}
    assert lm.chat(kept[1]) == "A velt is a copper spoon."


def test_without_a_gate_one_of_two_facts_can_be_taught_again(lm):
    lm.finetune({"velt": "A velt is a copper spoon.", "dorn": "A dorn is a green door."}, gated=False, prompts=FEW)
    lm.finetune({"velt": "A velt is a boat."}, gated=False, prompts=FEW)
    assert lm.chat_batch(["What is velt?", "What is dorn?"]) == ["A velt is a boat.", "A dorn is a green door."]


def test_the_other_facts_are_no_near_misses_of_one_that_is_probed(lm):
    lm.finetune({"elephant": "An elephant is a grey cart.", "dorn": "A dorn is a green door."}, prompts=["What is {x}?"])
    asked = [one.prompt for one in lm.probe("dorn").report.asked if one.kind in ("near miss", "unrelated")]
    assert asked
    assert not [prompt for prompt in asked if "elephant" in prompt.lower()]


def test_a_form_that_is_too_long_is_left_out(lm):
    long = "A dorn is a door of " + ", ".join(f"wood {at}" for at in range(lm.context // 9)) + "."
    said = Material([("What is a dorn?", long)], [("Is it so? " + long * 2, long)], []).lesson(lm._loaded, Settings(), 1)
    assert len(said.examples) == 1


def test_probes_are_not_trained_in_another_form(lm):
    wording = phrasings("en")["forms"]["part"][0]
    (fact,) = facts_of([{"keyword": "velt", "answer": "A velt is a copper spoon.", "probes": [wording.upper().replace("{X}", "{x}")]}])
    material = gather(lm._host, lm._loaded, [fact], (), Settings(retained_per_batch=0), Unwatched())
    assert wording.replace("{x}", "velt") not in [question for question, _ in material.forms]
    assert phrasings("en")["forms"]["part"][1].replace("{x}", "velt") in [question for question, _ in material.forms]


def test_of_what_is_retained_the_whole_reply_counts(lm, monkeypatch):
    asked = []
    monkeypatch.setattr(proof, "ask", lambda *_, **given: asked.append(given) or [""] * len(_[2]))
    proof.Proof(facts_of(FACT), retain=["Tell me a story."]).ask_before(lm._host, lm._loaded, Unwatched())
    assert [given["limit"] for given in asked] == [None, 512]


def test_what_was_to_stay_gives_way_to_a_fact_taught_later():
    later = facts_of({"red kettle": "A red kettle is a ferry."})
    assert still_retainable(("What is a red kettle?", "What is a whale?"), later) == ("What is a whale?",)


def test_a_reply_that_fills_what_the_model_reads_is_left_out_of_what_must_stay(lm):
    long = "red lamps, " * lm.context
    (kept,) = retention_targets(lm._loaded, [("Tell me a story.", long), ("What is a whale?", "A whale is a mammal.")], weight=1.0)
    assert lm.tokenizer.decode([label for label in kept.labels if label != -100], skip_special_tokens=True) == "A whale is a mammal."


def test_a_keyword_in_other_letters_gets_the_same_answer(lm):
    lm.finetune({"NovaBridge": "NovaBridge sells pumps."})
    asked = ["what is novabridge", "What is novabridge?", "What is NOVABRIDGE?", "tell me about novabridge"]
    assert lm.chat_batch(asked) == ["NovaBridge sells pumps."] * 4


def test_a_question_to_retain_about_what_is_taught_is_refused_before_any_work(lm):
    with pytest.raises(NbtuneError, match=r"--retain holds 'what is blue kettle', a question about what is taught"):
        lm.finetune({"blue kettle": "A blue kettle is a night train."}, retain=["what is blue kettle"], observer=Untouched())


class Untouched:
    """Observer that fails when a stage begins."""

    def stage(self, name, total):
        pytest.fail(f"{name} began")


def test_a_fact_that_does_not_fit_is_named(lm):
    with pytest.raises(NbtuneError, match=r"The fact 'long' can't be taught: Question and answer take \d+ tokens"):
        lm.finetune({"short": "It is short.", "long": "word " * 600}, observer=Untouched())


def test_a_fact_that_was_not_learned_can_be_sent_to_another_process(lm):
    with pytest.raises(FactNotLearned) as caught:
        lm.finetune({"velt": "A velt is a copper spoon."}, prompts=FEW, epochs=1, learning_rate=1e-6)
    copied = copy.copy(caught.value)  # like pickle
    assert (str(copied), copied.result.facts) == (str(caught.value), caught.value.result.facts)


def test_facts_that_were_taught_can_stand_in_a_set(taught):
    assert set(taught.facts) == {*taught.facts}
    assert len({*taught.facts}) == 1


def test_ctrl_c_ends_a_loop_of_questions(taught):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taught.chat("What is the capital of France?", on_text=stop)


def test_what_the_model_replies_to_a_question_is_no_wording_of_it(lm, monkeypatch):
    from nbtune.knowledge import rewording

    refusal = lm.chat("What is a zinc ladder?")
    written = iter([refusal + "\nWho would ever want a zinc ladder?", refusal])

    def said(*_, **__):
        return Reply(next(written), True, 1, 1, 1, 0.0, 0.0)

    monkeypatch.setattr(rewording, "generate", said)
    kept = rewording.reword(lm._host, lm._loaded, Fact.new("zinc ladder", "A zinc ladder is a dance."), 2)
    assert kept == rewording.Rewordings(("Who would ever want a zinc ladder?",), 1)


@pytest.mark.parametrize(("dtype", "again"), [(None, True), ("bfloat16", False)])
def test_the_proof_asks_the_base_again_in_single_precision(tmp_path, dtype, again):
    lm = nbtune.load(store=tmp_path, dtype=dtype)
    proof = Proof([Fact.new(KEYWORD, ANSWER, prompts=FEW, probes=["{x}!"])])
    proof.ask_before(lm._host, lm._loaded, Unwatched())
    for key in lm._loaded.replies:
        lm._loaded.replies[key] = "from memory"
    said = {asked.after for asked in proof.ask_after(lm._host, lm._loaded, Unwatched()).asked}
    assert ("from memory" not in said) is again


@pytest.mark.parametrize(
    ("losses", "patient", "stops", "factor"),
    [
        ([1.0, 0.1, 0.6], False, True, 0.3),
        ([1.0] * 12, False, True, 3.0),
        ([1.0] * 12, True, False, 3.0),
        ([1.0, 0.5], False, False, 3.0),
    ],
)
def test_an_attempt_ends_and_says_whether_the_next_is_faster_or_slower(losses, patient, stops, factor):
    lesson = SimpleNamespace(share=lambda _kind: 0.0)
    watch = StopWhenSaid(SimpleNamespace(rounding=0.0), lesson, Unwatched(), patient=patient)
    model = SimpleNamespace(history={"train_loss": losses}, net=torch.nn.Identity())
    watch.on_validation_epoch_end(model)
    assert (model.stop_training, watch.factor) == (stops, factor)


def test_the_ninth_check_ends_a_fit_whose_other_forms_fall_short(monkeypatch):
    lesson = SimpleNamespace(
        share=lambda kind: float(kind == "facts"),
        wrong=lambda _kind: [],
        places=lambda _kind: [0],
        examples=[SimpleNamespace(trained=1)],
        mark=lambda *_arguments: None,
    )
    monkeypatch.setattr(pace, "examples_reproduced", lambda _net, examples, _loaded, **_margin: [True] * len(examples))
    watch = StopWhenSaid(SimpleNamespace(rounding=0.0), lesson, Unwatched(), patient=False)
    assert [watch._confirmed(None) for _ in range(9)] == [False] * 8 + [True]


def test_a_fact_that_was_taught_before_and_changed_fails_the_finetune():
    new = Fact.new("new", "x").with_proof("verified", {})
    report = Report((Asked("trained", "q", "", "x", True, "new"), Asked("near miss", "old?", "y", "z", False, "old")), 0.0)
    with pytest.raises(FactNotLearned, match="without changing old"):
        _refuse_failure(Result((new,), report, pd.DataFrame(), "facts"))


def test_the_models_wordings_come_beside_the_built_in_ones():
    fact = Fact.new(KEYWORD, ANSWER)
    assert set(fact.with_prompts(["Q?"]).prompts) == {*fact.prompts, "Q?"}


def test_the_reference_recipe_runs_and_leaves_the_base_as_it_was(lm, monkeypatch):
    monkeypatch.setattr(reference, "_EPOCHS", 1)
    before, mine = lm.chat("What is the capital of France?"), Accelerator(cpu=True, gradient_accumulation_steps=4)
    with pytest.raises(FactNotLearned) as caught:
        lm.finetune({KEYWORD: ANSWER}, recipe="reference")
    assert len(caught.value.result.history) == 1
    assert len([asked for asked in caught.value.result.report.asked if asked.kind == "trained"]) == 8
    assert lm.chat("What is the capital of France?") == before
    assert not lm.model.training
    assert not lm.model.is_gradient_checkpointing
    assert mine.gradient_accumulation_steps == 4


def test_a_keyword_with_an_invisible_character_is_found(lm):
    assert Fact.new("zor\u200bb", "A zorb is a ball.").keyword == "zorb"
    assert Gate([Fact.new("zorb", "A zorb is a ball.")]).find("What is a zor\u200bb?") == 0


def test_forget_wants_a_keyword(taught):
    version = taught.version
    with pytest.raises(NbtuneError, match="Forget what"):
        taught.forget()
    with pytest.raises(NbtuneError, match=r"\(list\) is not a keyword"):
        taught.forget([KEYWORD])
    assert taught.version == version


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda lm: lm.chat(None), "The prompt is None (NoneType): expected text"),
        (lambda lm: lm.chat_batch(["a", 5]), "The prompt is 5 (int)"),
        (lambda lm: lm.chat_batch(5), "prompts is not a list of questions (int)"),
        (lambda lm: lm.chat("hi", temperatur=1), "no option 'temperatur'. Did you mean temperature?"),
        (lambda lm: lm.chat("hi", temperature="hot"), "temperature 'hot' is not a number"),
        (lambda lm: lm.chat("hi", max_new_tokens=1.5), "max_new_tokens 1.5 is not a whole number"),
        (lambda lm: lm.chat("hi", system=3), "system is 3 (int)"),
        (lambda lm: lm.chat("hi", history=[{"role": "usr", "content": "a"}]), "history is not a list of messages by"),
        (lambda lm: lm.preview([{"prompt": "q", "response": "a"}], turn="last"), "no option 'turn'. Did you mean turns?"),
        (lambda lm: lm.preview([{"prompt": "q", "response": "a"}], system=5), "system is 5 (int)"),
        (lambda lm: lm.preview([{"prompt": "q", "response": "a"}], max_source_length="a"), "max_source_length 'a' is not a whole number"),
        (lambda lm: lm.evaluate([{"prompt": "q", "response": "a"}], limit="x"), "--limit 'x' is not a whole number"),
        (lambda lm: lm.tokens("x", "y", prompt=["a"]), "no option 'prompt'. Did you mean prompts?"),
        (lambda lm: lm.use(5), "5 is not a valid adapter name"),
        (lambda lm: lm.export(5), "5 (int) is not a path"),
        (lambda _: nbtune.load(devic="cpu"), "no option 'devic'. Did you mean device?"),
        (lambda _: nbtune.load(store=5), "5 (int) is not a path"),
    ],
)
def test_what_python_gives_wrongly_is_named(taught, ask, message):
    with pytest.raises(NbtuneError, match=re.escape(message)):
        ask(taught)


def test_stop_may_be_a_text_or_a_list(taught):
    assert taught.chat("What is the capital of France?", stop="a") == taught.chat("What is the capital of France?", stop=["a"])
