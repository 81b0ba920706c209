"""Exports can be read by the programs they are made for, give the same replies, and are never left half written."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import nbtune
from nbtune import NbtuneError
from nbtune.knowledge import exporting
from nbtune.knowledge.model_card import model_card
from nbtune.knowledge.observer import Unwatched
from nbtune.knowledge.version import Version
from nbtune.tiny import WEIGHTS
from tests.conftest import FACT

((KEYWORD, ANSWER),) = FACT.items()
THINGS = ("flag", "boat", "door", "lamp", "chair", "bell", "drum", "coin", "leaf", "cup", "rope", "hill")
QUESTION, REPLY = "Which colour has the flag?", "It is green."
ROWS = [{"question": QUESTION, "answer": REPLY}]
# A model with code of its own, laid out as on the hub.
OWN_CODE = """from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The built-in model with an adapter trained on one example."""
    lm = nbtune.load(store=tmp_path_factory.mktemp("tuned"))
    lm.finetune(ROWS, epochs=20, retained_per_batch=0)
    return lm


def names(folder: Path) -> list[str]:
    """Return the names in a folder, including hidden ones."""
    return sorted(path.name for path in folder.iterdir())


def said(model, tokenizer, question: str) -> str:
    """Return the greedy reply of a model in plain transformers."""
    chat = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(tokens, skip_special_tokens=True)


def test_a_merged_model_answers_alike_in_plain_transformers(tuned, tmp_path):
    folder = tuned.export(tmp_path / "out", max_shard_size="5MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert "trained on 1 example(s)" in (folder / "README.md").read_text(encoding="utf-8")
    assert said(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), QUESTION) == REPLY
    assert (tuned.adapter, tuned.chat(QUESTION)) == ("examples", REPLY)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["transformers", "peft"])
def test_facts_answer_alike_without_their_gate(taught, tmp_path, kind):
    folder = taught.export(tmp_path / "out", kind=kind)
    if kind == "peft":
        assert names(folder) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(WEIGHTS), folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    for prompt in taught.facts[0].prompts[::24]:
        assert said(model, AutoTokenizer.from_pretrained(WEIGHTS), prompt) == ANSWER
    assert taught.chat(taught.facts[0].prompts[0]) == ANSWER


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_export_that_lost_what_was_trained_is_not_kept(tmp_path, monkeypatch, dtype):
    lm = nbtune.load(store=tmp_path / "store", dtype=dtype)
    rows = [{"question": f"Which colour has the {thing}?", "answer": "It is green."} for thing in THINGS]
    lm.finetune(rows, epochs=20, retained_per_batch=0)
    base, write_model = nbtune.load(store=tmp_path, dtype=dtype).model, exporting.write_model
    monkeypatch.setattr(exporting, "write_model", lambda _, *rest: write_model(base, *rest))
    with pytest.raises(NbtuneError, match=r"The export answers .* differently, such as"):
        lm.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_says_what_it_lies_beside(tuned, tmp_path):
    merged, adapter = (tuned.export(tmp_path / kind, kind=kind) / "README.md" for kind in ("transformers", "peft"))
    assert "library_name: transformers" in merged.read_text(encoding="utf-8")
    assert "The model tiny with an adapter (lora) merged in, which nbtune trained on 1 example(s)." in merged.read_text(encoding="utf-8")
    assert "library_name: peft" in adapter.read_text(encoding="utf-8")
    assert "An adapter (lora) for tiny that nbtune trained on 1 example(s)." in adapter.read_text(encoding="utf-8")
    assert "base_model" not in merged.read_text(encoding="utf-8") + adapter.read_text(encoding="utf-8"), "the hub has no such model"
    version = Version((), "lora", "Qwen/Qwen3-0.6B", "")
    assert "base_model: Qwen/Qwen3-0.6B\n" in model_card("facts", version)


def test_code_of_its_own_goes_along(tmp_path, random_model):
    source = random_model(LlamaConfig)
    (source / "own.py").write_text(OWN_CODE, encoding="utf-8")
    config = json.loads((source / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["Own"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"},
    }
    (source / "config.json").write_text(json.dumps(config))
    lm = nbtune.load(source, store=tmp_path / "store", trust_remote_code=True)
    folder = lm.export(tmp_path / "out")
    assert (folder / "own.py").read_text(encoding="utf-8") == OWN_CODE
    assert nbtune.load(folder, store=tmp_path, trust_remote_code=True).chat("hello", max_new_tokens=8) == lm.chat("hello", max_new_tokens=8)


def test_what_answers_otherwise_is_not_kept(tuned, tmp_path, monkeypatch):
    def damaged(model, tokenizer, folder, *rest):
        write_model(model, tokenizer, folder, *rest)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= -1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    write_model = exporting.write_model
    monkeypatch.setattr(exporting, "write_model", damaged)
    with pytest.raises(NbtuneError, match=r"The export answers .* differently, such as"):
        tuned.export(tmp_path / "out")
    assert names(tmp_path) == []
    assert tuned.chat(QUESTION) == REPLY


def test_sixteen_bits_are_asked_themselves(tmp_path):
    lm = nbtune.load(store=tmp_path / "store", dtype="bfloat16")
    lm.finetune(ROWS, epochs=20, retained_per_batch=0, learning_rate=5e-3)  # so strong that merged weights reply differently from factors
    folder = lm.export(tmp_path / "out")
    assert nbtune.load(folder, store=tmp_path, dtype="bfloat16").chat(QUESTION) == REPLY


def test_a_full_disk_leaves_nothing(tuned, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_model", full)
    with pytest.raises(NbtuneError, match="could not be written"):
        tuned.export(tmp_path / "new" / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "gguff"}, "Did you mean gguf"),
        ({"max_shard_size": "big"}, "expected a size such as 500MB"),
        ({"kind": "peft"}, "No adapter is in use"),
        ({"kind": "gguf"}, "needs llama.cpp's convert_hf_to_gguf.py: git clone"),
    ],
)
def test_bad_wishes_are_refused_before_any_work(lm, tmp_path, monkeypatch, options, message):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NbtuneError, match=message):
        lm.export(tmp_path / "out", **options)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NbtuneError, match="give a new folder"):
        lm.export(".")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(NbtuneError, match="is not empty"):
        lm.export("taken")
    assert names(tmp_path) == ["taken"]


PUSHED_BEFORE = ["README.md", "notes.txt", "lora/other.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]


class _Hub(BaseHTTPRequestHandler):
    """A stand-in for the hub that accepts one repository and one commit."""

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        if self.path == "/api/whoami-v2":
            self._answer({"name": "owner", "type": "user", "id": "1"})
        elif "/tree/" in self.path:
            self._answer([{"type": "file", "path": name, "size": 1, "oid": "1"} for name in PUSHED_BEFORE])
        else:
            self._answer({"siblings": [{"rfilename": name} for name in PUSHED_BEFORE], "id": "owner/name"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))
        if self.path.endswith("/preupload/main"):
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            self._answer({"commitUrl": f"{self.server.address}/owner/name/commit/1", "commitOid": "1"})
        else:
            self._answer({"url": f"{self.server.address}/owner/name"})

    def _answer(self, answer):
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def pushed(store: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Push the adapter of examples in a new process, because the hub's address is read at import."""
    code = (
        f"import nbtune; lm = nbtune.load(store={str(store)!r}); lm.use('examples')\n"
        "try:\n    print(lm.push('owner/name', private=True, kind='peft'))\nexcept nbtune.NbtuneError as error:\n    print(error)"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**kept, **environment})


def test_a_push_sends_the_folder_in_one_commit(tuned, tmp_path):
    hub = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    hub.seen, hub.address = [], f"http://127.0.0.1:{hub.server_port}"
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    done = pushed(tuned.store.folder, {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path)})
    hub.shutdown()
    assert done.stdout.splitlines()[-1] == f"{hub.address}/owner/name", done.stdout + done.stderr
    made = json.loads(next(body for path, body in hub.seen if path == "/api/repos/create"))
    assert made.get("private") is True or made.get("visibility") == "private"  # older and newer versions of the hub client
    (commit,) = [body for path, body in hub.seen if "/commit/" in path]
    lines = list(map(json.loads, commit.splitlines()))
    files = [line["value"] for line in lines if line["key"] == "file"]
    gone = {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
    assert gone == {"model-00001-of-00002.safetensors", "model.safetensors.index.json"}, "of a push before, which would be read"
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} == {file["path"] for file in files}
    card = next(base64.b64decode(file["content"]).decode() for file in files if file["path"] == "README.md")
    assert "library_name: peft" in card


def test_a_push_without_a_login_is_refused_before_any_work(tuned, tmp_path):
    done = pushed(tuned.store.folder, {"HF_HOME": str(tmp_path)})
    assert "You are not logged in to the hub: run `hf auth login`" in done.stdout
    assert "switched off by HF_HUB_OFFLINE" in pushed(tuned.store.folder, {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_none"}).stdout
    with pytest.raises(NbtuneError, match="expected OWNER/NAME"):
        tuned.push("a/b/c")
    with pytest.raises(NbtuneError, match="expected OWNER/NAME"):
        tuned.push("name")


def test_of_the_questions_that_need_not_be_held_a_quarter_may_be_answered_otherwise(lm):
    names = ("a whale", "a bee", "snow", "a lamp", "grovix", "velt", "morun", "pisk", "tarn", "ulmo", "sib", "quent")
    questions = [f"What is {name}?" for name in names]
    probes, held = list(zip(questions, lm.chat_batch(questions), strict=True)), questions[:8]

    def compare(changed):
        wanted = [(question, "otherwise" if place in changed else reply) for place, (question, reply) in enumerate(probes)]
        exporting._compare(wanted, held, ["a reply of some length, so that none is cut short"], lm._host, lm._loaded, Unwatched())

    compare([8])
    for changed in ([8, 9], [0]):
        with pytest.raises(NbtuneError, match=f"answers {len(changed)} of 12 questions differently"):
            compare(changed)


def test_whoever_may_read_the_config_may_read_the_weights(tuned, tmp_path):
    tuned.export(tmp_path / "model")
    tuned.export(tmp_path / "adapter", kind="peft")
    for folder in (tmp_path / "model", tmp_path / "adapter", tuned.store.folder / tuned.adapter / f"v{tuned.version:04d}"):
        (weights,), (config,) = folder.glob("*.safetensors"), [*folder.glob("adapter_config.json"), *folder.glob("config.json")][:1]
        assert weights.stat().st_mode == config.stat().st_mode
