"""Models load from folders laid out as on the hub; folders without a model are refused."""

import json
import shutil
import sys
import weakref
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForSequenceClassification, LlamaConfig, Qwen3Config, T5Config

import nbtune
from nbtune.chat_template import chat_ids
from nbtune.errors import NbtuneError
from nbtune.model import sources
from nbtune.model.generation import _Stream
from nbtune.model.loading import load_model
from nbtune.model.memory import within_memory
from nbtune.training.methods import find_method
from tests.families import T5


@pytest.mark.parametrize(("config", "changes"), [(LlamaConfig, {}), (Qwen3Config, {"head_dim": 16})])
def test_a_local_model_loads_and_answers_the_same_every_time(random_model, config, changes, tmp_path):
    lm = nbtune.load(random_model(config, **changes), store=tmp_path)
    prompts = ["你好", "what is a whale and why is it so large?", "3+4=?"]
    one_by_one = [lm.chat(prompt, max_new_tokens=12) for prompt in prompts]
    assert lm.chat_batch(prompts, max_new_tokens=12) == one_by_one


def test_dtype_and_device_are_taken(random_model):
    loaded = load_model(random_model(LlamaConfig), dtype="bfloat16", device="cpu")
    assert next(loaded.model.parameters()).dtype == torch.bfloat16


def test_a_device_computes_in_what_the_model_was_saved_in_and_the_built_in_one_in_single_precision(random_model):
    saved = random_model(LlamaConfig, dtype="bfloat16")
    assert load_model(saved, device="meta").model.dtype == torch.bfloat16  # a device without storage
    assert load_model(saved, device="cpu").model.dtype == torch.float32
    assert load_model(device="meta").model.dtype == torch.float32


def test_bad_folders_are_named(random_model, tmp_path):
    good = random_model(LlamaConfig)

    def copy(name):
        return shutil.copytree(good, tmp_path / name)

    pickled = copy("pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    bare = copy("bare")
    (bare / "model.safetensors").unlink()
    broken = copy("broken")
    (broken / "config.json").write_text("{")
    remote = copy("remote")
    config = json.loads((remote / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (remote / "config.json").write_text(json.dumps(config))
    (remote / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    chatglm = copy("chatglm")
    (chatglm / "config.json").write_text(json.dumps({**config, "model_type": "chatglm"}))
    classifier = copy("classifier")
    BertForSequenceClassification(
        BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ).save_pretrained(classifier)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    for folder, message in (
        (tmp_path / "nowhere", "No model folder"),
        (pickled, "only pickled weights"),
        (bare, "no weights"),
        (broken, "Can't load"),
        (remote, "trust_remote_code=True"),
        (chatglm, "zai-org/glm-4-9b-chat-hf"),
        (classifier, "not a causal language model"),
        (adapter, "holds an adapter"),
        (tmp_path, "no config.json"),
    ):
        with pytest.raises(NbtuneError, match=message) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_model_without_a_chat_template_gets_a_plain_one(random_model, tmp_path):
    folder = shutil.copytree(random_model(LlamaConfig, initializer_range=0.2), tmp_path / "silent")
    (folder / "chat_template.jinja").unlink()
    given = load_model(folder, chat_template="{% for m in messages %}<{{ m.content }}>{% endfor %}")
    assert given.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<x>"
    assert not given.plain
    lm = nbtune.load(folder, store=tmp_path / "store")
    assert lm.plain
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    assert lm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "s\n\nUser:\nq\n\nAssistant:\n"
    lm.finetune([{"question": "q", "answer": "It is green."}], epochs=100, learning_rate=3e-3, retained_per_batch=0)
    assert lm.chat("q") == "It is green.", "and it ends there"


def test_the_checkpoints_own_sampling_does_not_count(random_model, tmp_path):
    folder = shutil.copytree(random_model(LlamaConfig), tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 3.0, "repetition_penalty": 9.0}))
    plain, lm = nbtune.load(random_model(LlamaConfig), store=tmp_path), nbtune.load(folder, store=tmp_path)
    assert lm.chat("hello", max_new_tokens=20) == plain.chat("hello", max_new_tokens=20)


def test_a_long_prompt_beside_does_not_shorten_a_reply(random_model, tmp_path):
    lm = nbtune.load(random_model(LlamaConfig), store=tmp_path)
    prompts = ["hi", "字" * 200]
    assert lm.chat_batch(prompts, max_new_tokens=100) == [lm.chat(prompt, max_new_tokens=100) for prompt in prompts]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float23"}, "Did you mean float"),
        ({"quantize": "int9"}, "Did you mean int8"),
        ({"device": "cuda:99"}, "is not usable here"),
        ({"device": "toaster"}, "is not usable here"),
    ],
)
def test_bad_options_are_named(option, message):
    with pytest.raises(NbtuneError, match=message):
        load_model(**option)


def test_quantised_weights_without_their_package_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(NbtuneError, match="needs bitsandbytes: pip install bitsandbytes"):
        load_model(quantize="nf4")


@pytest.mark.parametrize("raised", [torch.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")])
def test_a_full_memory_is_one_line_wherever_a_question_is_asked(lm, monkeypatch, raised):
    class Full(torch.nn.Module):
        def forward(self, *_, **__):
            raise raised

    monkeypatch.setattr(lm.model.model.layers[0], "forward", Full().forward)
    for ask in (
        lambda: lm.chat("hello"),
        lambda: lm.chat_batch(["hello"]),
        lambda: lm.evaluate([{"question": "q", "answer": "a"}]),
        lambda: lm.finetune({"velt hook": "A tool."}),
    ):
        with pytest.raises(NbtuneError, match="The device is out of memory: nothing was changed"):
            ask()


def test_a_model_that_does_not_fit_is_one_line(monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(NbtuneError, match="tiny does not fit into the memory of cpu"):
        load_model(device="cpu")


def test_a_full_memory_is_let_go_of_while_its_error_is_kept():
    held = []

    def step():
        states = torch.zeros(8)
        held.append(weakref.ref(states))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(NbtuneError, match="full") as kept, within_memory("It is full."):
        step()
    assert kept.value.__context__ is not None
    assert held[0]() is None


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Invalid buffer size: 12.00 GiB",
    ],
)
def test_a_full_memory_is_known_by_what_is_said_of_it(said):
    with pytest.raises(NbtuneError, match="It is full"), within_memory("It is full."):
        raise RuntimeError(said)


def test_an_unknown_hub_id_is_one_line(monkeypatch):
    with pytest.raises(NbtuneError, match="Can't load nobody/nothing"):
        load_model("nobody/nothing")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_fingerprint_tells_models_apart_and_ignores_precision(random_model, dtype):
    from nbtune.model.fingerprint import fingerprint

    folder = random_model(LlamaConfig)
    loaded = load_model(folder)
    model, print_ = loaded.model, loaded.fingerprint
    rounded = load_model(folder, dtype=dtype)
    assert rounded.fingerprint == print_ == fingerprint(model)
    assert str(rounded.model.dtype) == f"torch.{dtype}"
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.flatten()[0] += 0.5
    assert fingerprint(model) != print_


def test_a_reply_ends_where_a_fit_ends_it(random_model, tmp_path):
    folder = shutil.copytree(random_model(LlamaConfig), tmp_path / "model")
    notes = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**notes, "eos_token_id": 7}))
    loaded = load_model(folder)
    assert loaded.tokenizer.eos_token_id != 7
    assert loaded.model.generation_config.eos_token_id == [7, loaded.tokenizer.eos_token_id]


def test_a_prompt_that_fills_the_context_is_refused(random_model, tmp_path):
    lm = nbtune.load(random_model(LlamaConfig), store=tmp_path)
    with pytest.raises(NbtuneError, match=r"takes \d+ tokens and the model reads at most 256"):
        lm.chat("字" * 300)
    with pytest.raises(NbtuneError, match="The prompt is empty"):
        lm.chat("  ")
    with pytest.raises(NbtuneError, match=r"--temperature -1\.0 is out of range"):
        lm.chat("hi", temperature=-1)


def test_a_plain_template_begins_as_the_tokenizer_does(random_model, tmp_path):
    from tokenizers.processors import TemplateProcessing

    folder = shutil.copytree(random_model(LlamaConfig), tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.convert_ids_to_tokens(0)
    tokenizer.bos_token = begin
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, 0)])
    tokenizer.save_pretrained(folder)
    found = chat_ids(load_model(folder).tokenizer, [{"role": "user", "content": "q"}])
    assert (found[0], found.count(0)) == (0, 1)


def test_half_precision_leaves_what_a_family_keeps_exact(random_model):
    model = load_model(random_model(T5Config, **T5), dtype="float16").model
    kept = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {dtype for name, dtype in kept.items() if ".wo." in name} == {torch.float32}
    assert {dtype for name, dtype in kept.items() if ".wo." not in name} == {torch.float16}


def test_a_streamed_line_keeps_the_spaces_it_begins_with(tmp_path):
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    # Like Llama 2's: a piece that is decoded on its own loses its leading space.
    pieces = ["def", "▁f():", "\n", "▁▁▁▁", "return", "▁x", "\n\n", "▁▁", "y"]
    backend = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer, said = PreTrainedTokenizerFast(tokenizer_object=backend), []
    stream = _Stream(tokenizer, said.append)
    stream.put(torch.tensor([[0]]))
    for token in range(len(pieces)):
        stream.put(torch.tensor([token]))
    stream.end()
    assert stream.text == "".join(said) == tokenizer.decode(list(range(len(pieces)))) == "def f():\n    return x\n\n  y"


def test_a_model_without_all_its_weights_is_refused(random_model, tmp_path):
    folder = shutil.copytree(random_model(LlamaConfig), tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if ".layers.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NbtuneError, match=r"the files lack some, such as model\.layers\.1\.\S+ \(9 in all\)\. Download or copy"):
        load_model(folder)


def test_a_tokenizer_that_is_not_the_models_is_refused(random_model, tmp_path):
    with pytest.raises(NbtuneError, match="tokens but the model only 100: they do not match"):
        load_model(random_model(LlamaConfig, vocab_size=100, pad_token_id=0, eos_token_id=1))
    folder = shutil.copytree(random_model(Qwen3Config, head_dim=16), tmp_path / "none")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(NbtuneError, match=r"tokenizer"):
        load_model(folder)


def test_torchs_own_name_of_a_number_type_is_known():
    assert load_model(dtype=torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize("template", ["{{ broken", 5, "hello", "{% for m in messages %}{{ m.role }}{% endfor %}"])
def test_a_chat_template_that_can_not_be_used_is_refused(template):
    with pytest.raises(NbtuneError, match=r"chat.template"):
        load_model(chat_template=template)


def test_a_file_in_place_of_a_folder_and_a_folder_that_is_not_there_are_named(random_model, monkeypatch):
    folder = random_model(LlamaConfig)
    with pytest.raises(NbtuneError, match=r"config\.json is a file: give the folder it is in"):
        load_model(folder / "config.json")
    monkeypatch.setattr(sources.AutoConfig, "from_pretrained", Mock(side_effect=OSError("no connection")))
    with pytest.raises(NbtuneError, match="no such folder, and loading it from the hub failed: no connection"):
        load_model("my_model")


def test_an_adapter_that_was_taught_at_another_place_needs_no_warning(tmp_path, random_model, recwarn):
    folder = random_model(LlamaConfig)
    lm = nbtune.load(folder, store=tmp_path / "s")
    lm._host.begin(find_method("lora").configure(lm._host.base, 4))
    version = replace(lm._active.version, method="lora", gated=False, adapters=(lm._host.extract(),))
    lm.store.commit("a", version)
    moved = shutil.copytree(folder, tmp_path / "moved")
    nbtune.load(moved, store=tmp_path / "s").use("a")
    assert not [str(one.message) for one in recwarn if "renamed" in str(one.message)]
