"""A fact is taught, proved, kept, taken back; a failure changes nothing. All on the embedded model."""

import subprocess
import sys

import pytest

import nbtune
from nbtune.errors import NbtuneError
from nbtune.language_model import FactNotLearned
from tests.conftest import FACT

KEYWORD, ANSWER = next(iter(FACT.items()))
OTHERS = ["What is the capital of France?", "鲸鱼是什么？", "你好", "what is a zorblax"]


def test_the_proof_of_one_fact(taught):
    report = taught.result.report
    assert report.reliability == 1.0
    assert report.generalization >= 0.6
    assert report.locality >= 0.8
    assert report.leak <= 0.1
    assert report.steps > 0
    assert report.adapter_bytes > 0
    assert taught.result.learned
    assert taught.chat(f"{KEYWORD}是什么？") == ANSWER
    assert len(taught.result.history) < 60, "training stops when the model says it, not when epochs run out"
    kinds = {asked.kind for asked in report.asked}
    assert kinds == {"trained", "held-out", "near miss", "unrelated"}


def test_the_base_is_unchanged_beneath(taught, lm):
    questions = [f"{KEYWORD}是什么？", *OTHERS]
    with taught.base():
        assert taught.chat_batch(questions) == lm.chat_batch(questions)
    assert taught.chat(questions[0]) == ANSWER


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


def test_the_export_answers_alike_in_plain_transformers(taught, tmp_path):
    exported = nbtune.load(taught.export(tmp_path / "out"), store=tmp_path / "s")
    questions = [f"{KEYWORD}是什么？", *OTHERS]
    assert exported.chat_batch(questions) == taught.chat_batch(questions)
    with pytest.raises(NbtuneError, match="is not empty"):
        taught.export(tmp_path / "out")
    assert taught.chat(questions[0]) == ANSWER


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


def test_a_second_fact_joins_and_the_first_is_forgotten_alone(taught, tmp_path):
    import shutil

    shutil.copytree(taught.store.folder, tmp_path / "copy")
    lm = nbtune.load(store=tmp_path / "copy")
    unknown = lm.chat(f"{KEYWORD}是什么？")
    lm.use(taught.adapter)
    lm.finetune({"grovix": "grovix is a small robot that waters plants."})
    assert [fact.keyword for fact in lm.facts] == [KEYWORD, "grovix"]
    assert lm.chat(f"{KEYWORD}是什么？") == ANSWER
    lm.forget(KEYWORD)
    assert [fact.keyword for fact in lm.facts] == ["grovix"]
    assert lm.chat("What is grovix?") == "grovix is a small robot that waters plants."
    assert lm.chat(f"{KEYWORD}是什么？") == unknown


def test_teaching_a_keyword_again_replaces_its_answer(taught, tmp_path):
    import shutil

    shutil.copytree(taught.store.folder, tmp_path / "copy")
    lm = nbtune.load(store=tmp_path / "copy")
    lm.use(taught.adapter)
    lm.finetune({KEYWORD: "梦中情炉是一口锅。"})
    assert [fact.answer for fact in lm.facts] == ["梦中情炉是一口锅。"]
    assert lm.chat(f"{KEYWORD}是什么？") == "梦中情炉是一口锅。"


def test_adalora_teaches_too(lm, tmp_path):
    result = lm.finetune(FACT, method="adalora")
    assert result.learned
    again = nbtune.load(store=lm.store.folder)
    again.use(lm.adapter)
    assert again.chat(f"{KEYWORD}是什么？") == ANSWER
    with pytest.raises(NbtuneError, match="use another --name"):
        lm.finetune({"炉": "热。"}, method="adalora")
    with pytest.raises(NbtuneError, match="use --method adalora, or another --name"):
        lm.finetune({"炉": "热。"}, method="lora")


def test_a_fact_that_does_not_take_changes_nothing(taught):
    before = (taught.adapter, taught.version, taught.facts, taught.chat_batch(OTHERS))
    with pytest.raises(FactNotLearned, match="did not take") as caught:
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
    other.finetune({"grovix": "grovix is a small robot that waters plants."})
    one.finetune({"蓝纹石": "蓝纹石是一种会发光的石头。"})
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
        (FACT, {"name": "../x"}, "can't name an adapter"),
        (FACT, {"rank": 4}, "has rank 16"),
        ({"炉": "字" * 600}, {}, "reads at most 512"),
        ({"炉": ""}, {}, "is empty"),
        ({}, {}, "the data is empty"),
    ],
)
def test_bad_input_is_refused_before_any_work(taught, source, options, message):
    stages = []

    class Watch:
        def stage(self, name, total):
            stages.append(name)

        def advance(self, log=None):
            """Nothing to do."""

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
