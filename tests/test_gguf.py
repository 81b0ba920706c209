"""llama.cpp itself reads the GGUF exports and says what was taught; models that it can't read are refused at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer, LlamaConfig, Qwen3Config

import nbtune
from nbtune import NbtuneError
from nbtune.knowledge.observer import Unwatched
from tests.test_modelfile import rendered

QUESTION, REPLY = "Which colour has the flag?", "It is green."


@pytest.fixture
def embedded(tmp_path):
    return nbtune.load(store=tmp_path / "store")


def test_the_last_line_of_a_converter_that_refuses_is_told(embedded, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise SystemExit('this tokenizer was not recognized')")
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(NbtuneError, match="converter failed: this tokenizer was not recognized"):
        embedded.export(tmp_path / "out", kind="gguf")
    assert not (tmp_path / "out").exists()


with_llama_cpp = pytest.mark.skipif("LLAMA_CPP" not in os.environ, reason="llama.cpp's converter is not here: make test gets it")


def train_pieces(text, prefix, tmp_path):
    """Train a SentencePiece tokenizer."""
    import sentencepiece

    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=3,
        minloglevel=1,
    )


@pytest.fixture
def llama(random_model, tmp_path):
    """A small Llama with a SentencePiece tokenizer, as the first ones had, and some unused rows of embeddings."""
    from transformers import LlamaTokenizer

    train_pieces(f"{QUESTION} {REPLY}\n" * 50 + "User: Assistant:\n" * 20, tmp_path / "tokenizer", tmp_path)
    source = random_model(LlamaConfig, initializer_range=0.2, vocab_size=304, pad_token_id=3, bos_token_id=1, eos_token_id=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (source / name).unlink()
    LlamaTokenizer.from_pretrained(str(tmp_path), legacy=False).save_pretrained(source)
    (tmp_path / "tokenizer.model").rename(source / "tokenizer.model")
    return source


class Stages(Unwatched):
    """Observer that records the names of the stages."""

    def __init__(self):
        self.names = []

    def stage(self, name, total):
        self.names.append(name)


@with_llama_cpp
def test_llama_cpp_itself_says_what_was_taught(llama, tmp_path):
    lm = nbtune.load(llama, store=tmp_path / "store")
    lm.finetune([{"question": QUESTION, "answer": REPLY}], epochs=100, learning_rate=3e-3, retained_per_batch=0)
    assert lm.chat(QUESTION) == REPLY
    folder = lm.export(tmp_path / "out", kind="gguf")
    assert sorted(path.name for path in folder.iterdir()) == ["Modelfile", "README.md", "model.gguf"]
    assert said_by_llama_cpp(folder, QUESTION) == REPLY


def said_by_llama_cpp(folder, question):
    """Ask a GGUF in llama.cpp itself, with the prompt written by the Modelfile."""
    prompt = rendered((folder / "Modelfile").read_text(encoding="utf-8"), [{"role": "user", "content": question}])
    asked = f"""
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = {str(folder / "model.gguf")!r}
reply = xllamacpp.Server(params).handle_completions({{"prompt": {prompt!r}, "temperature": 0, "n_predict": 32}})
print("said:", reply["choices"][0]["text"])
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split("said:")[1].strip()


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Tell llama.cpp's converter which byte-pair tokenizer this is: it recognises only published ones, by how they split a text."""
    here = os.environ["LLAMA_CPP"]
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "convert_hf_to_gguf.py").write_text(f"""
import runpy, sys
sys.path[:0] = [{here!r}, {here + "/gguf-py"!r}]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
runpy.run_path({here + "/convert_hf_to_gguf.py"!r}, run_name="__main__")
""")
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path / "told"))


@with_llama_cpp
def test_byte_pair_encoding_goes_the_same_way(told, random_model, tmp_path):
    lm = nbtune.load(random_model(Qwen3Config, initializer_range=0.2, head_dim=128), store=tmp_path / "store")
    lm.finetune([{"question": QUESTION, "answer": REPLY}], epochs=100, learning_rate=3e-3, retained_per_batch=0)
    assert said_by_llama_cpp(lm.export(tmp_path / "out", kind="gguf"), QUESTION) == REPLY


@with_llama_cpp
def test_a_file_that_transformers_takes_for_another_model_is_not_kept(told, embedded, tmp_path):
    with pytest.raises(NbtuneError, match="transformers can't read the GGUF back") as caught:
        embedded.export(tmp_path / "out", kind="gguf")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@with_llama_cpp
def test_tokens_that_were_added_are_in_the_file(llama, tmp_path):
    from gguf import GGUFReader

    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.save_pretrained(llama)
    folder = nbtune.load(llama, store=tmp_path / "store").export(tmp_path / "out", kind="gguf")
    field = GGUFReader(folder / "model.gguf").fields["tokenizer.ggml.tokens"]
    assert bytes(field.parts[field.data[len(tokenizer) - 1]]) == b"<|turn|>"


@with_llama_cpp
def test_the_file_of_another_tokenizer_is_refused(llama, tmp_path):
    train_pieces("Nothing of this was said before.\n" * 50, llama / "tokenizer", tmp_path)
    with pytest.raises(NbtuneError, match=r"llama\.cpp would read token \d+, .* as .*: is the tokenizer\.model from another model\?"):
        nbtune.load(llama, store=tmp_path / "store").export(tmp_path / "out", kind="gguf")


@with_llama_cpp
def test_pieces_that_llama_cpp_would_cut_otherwise_are_refused_before_anything_is_learned(llama, tmp_path):
    (llama / "tokenizer.model").unlink()
    watched = Stages()
    with pytest.raises(NbtuneError, match=r"The model lacks the tokenizer\.model of its SentencePiece tokenizer"):
        nbtune.load(llama, store=tmp_path / "store").export(tmp_path / "out", kind="gguf", observer=watched)
    assert watched.names == ["llama.cpp reads the tokenizer"]
    assert not (tmp_path / "out").exists()


@with_llama_cpp
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused_before_anything_is_learned(embedded, tmp_path):
    watched = Stages()
    with pytest.raises(NbtuneError, match=r"converter failed: .*pre-tokenizer was not recognized"):
        embedded.export(tmp_path / "out", kind="gguf", observer=watched)
    assert watched.names == ["llama.cpp reads the tokenizer"]
    assert not (tmp_path / "out").exists()
