"""Each method of the table teaches a fact, saves it, and leaves the base unchanged."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import transformers

import nbtune
from nbtune import NbtuneError
from nbtune.model.adapters import AdapterHost
from nbtune.model.fingerprint import fingerprint
from nbtune.model.loading import load_model
from nbtune.training.last_layer import last_layer_targets
from nbtune.training.methods import METHODS, find_method
from tests.conftest import FACT, FEW

((KEYWORD, ANSWER),) = FACT.items()
QUESTION = f"{KEYWORD}是什么？"
TOKENS = torch.tensor([[3, 5, 8, 13, 21]])


def quantized(method: str) -> str | None:
    """Return the quantization in which a method needs the base."""
    return "nf4" if METHODS[method].quantized else None


@pytest.mark.parametrize("method", METHODS)
def test_a_method_teaches_saves_and_undoes(tmp_path, method):
    lm = nbtune.load(store=tmp_path, quantize=quantized(method))
    before = (fingerprint(lm.model), lm.chat(QUESTION))
    assert lm.finetune(FACT, method=method, prompts=FEW).learned
    questions = [QUESTION, f"Please tell me, if you would be so kind, about {KEYWORD}.", "What is the capital of France?"]
    assert lm.chat_batch(questions) == [lm.chat(question) for question in questions]
    code = (
        f"import nbtune; lm = nbtune.load(store={str(tmp_path)!r}, quantize={quantized(method)!r}); lm.use('facts'); "
        f"print(lm.chat({QUESTION!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ANSWER
    lm.undo()
    assert (fingerprint(lm.model), lm.chat(QUESTION)) == before


@pytest.mark.parametrize("method", ["pissa", "freeze", "full"])
def test_a_method_begins_at_the_base_and_goes_without_a_trace(random_model, method):
    model = load_model(random_model(transformers.LlamaConfig, tie_word_embeddings=method == "pissa")).model
    host, before = AdapterHost(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        base = host.net(input_ids=TOKENS.to(host.base.device)).logits
        host.begin(find_method(method).configure(host.base, steps=10))
        find_method(method).hooks(host.net)
        torch.testing.assert_close(host.net(input_ids=TOKENS.to(host.base.device)).logits, base)
        for parameter in host.net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        assert not torch.allclose(host.net(input_ids=TOKENS.to(host.base.device)).logits, base)
    host.clear()
    assert {name: tensor.tolist() for name, tensor in host.base.state_dict().items()} == {k: v.tolist() for k, v in before.items()}


def test_the_ranks_of_adalora_are_those_of_the_weights_that_are_kept(random_model):
    host, method = AdapterHost(load_model(random_model(transformers.LlamaConfig)).model), find_method("adalora")
    host.begin(method.configure(host.base, steps=10))
    config, base = host.net.peft_config[host.net.active_adapter], host.net.get_base_model()
    with torch.no_grad():
        factors = {name: p for name, p in base.named_parameters() if "lora_E" in name}
        for factor in factors.values():
            factor.copy_(torch.arange(len(factor))[:, None] % 3)
    config.rank_pattern = {name: [place == 0 for place in range(len(factor))] for name, factor in factors.items()}  # of a later step
    method.after_restore(host.net)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, host.net.parameters()):
            parameter.copy_(parameter.half())  # rounded as when it is saved
        said = host.net(input_ids=TOKENS.to(host.base.device)).logits
        host.attach([host.extract()])
        torch.testing.assert_close(host.net(input_ids=TOKENS.to(host.base.device)).logits, said)


def test_freeze_trains_the_last_blocks_and_full_all_that_is_not_shared(random_model):
    def trained(method, rank=None, **config):
        host = AdapterHost(load_model(random_model(transformers.LlamaConfig, **config)).model)
        host.begin(find_method(method).configure(host.base, steps=10, rank=rank))
        return {name.split(".modules_to_save")[0].split("model.")[-1] for name, p in host.net.named_parameters() if p.requires_grad}

    assert trained("freeze") == {"layers.1"}
    assert trained("freeze", rank=2) == {"layers.0", "layers.1"}
    assert trained("full", tie_word_embeddings=True) == {"layers.0", "layers.1", "norm"}
    assert trained("full", tie_word_embeddings=False) == {"layers.0", "layers.1", "norm", "embed_tokens", "lm_head"}


def test_the_first_pair_of_pissa_holds_the_principal_part_and_the_second_stays(random_model):
    host = AdapterHost(load_model(random_model(transformers.LlamaConfig)).model)
    host.begin(find_method("pissa").configure(host.base, steps=10, rank=4))
    after_step = find_method("pissa").hooks(host.net)["after_step"]
    layer = host.net.base_model.model.model.layers[0].mlp.up_proj
    down, up = layer.lora_A["nbtune0"].weight, layer.lora_B["nbtune0"].weight
    left, strengths, right = torch.linalg.svd(layer.get_base_layer().weight)
    principal = left[:, :4] * strengths[:4] @ right[:4]
    torch.testing.assert_close((up[:, :4] @ down[:4]).detach(), principal)
    second = down[4:].clone()
    with torch.no_grad():
        down.add_(1.0)
    after_step()
    assert torch.equal(down[4:], second)
    assert not torch.allclose(down[:4], -second)


@pytest.mark.parametrize(
    ("method", "quantize", "message"),
    [
        ("qlora", None, "--quantize nf4"),
        ("full", "nf4", "--method full can't train quantised weights: use --method qlora"),
        ("pissa", "int8", "can't train quantised weights"),
        ("freeze", "float16", "--method freeze can't train float16 weights"),
    ],
)
def test_a_method_that_weights_cant_take_is_refused_before_any_work(tmp_path, method, quantize, message):
    how = {"dtype": quantize} if quantize == "float16" else {"quantize": quantize}
    lm = nbtune.load(store=tmp_path, **how)
    with pytest.raises(NbtuneError, match=message):
        lm.finetune(FACT, method=method)
    assert lm.store.names() == []


def test_virtual_tokens_are_not_merged_but_written_for_peft(tmp_path):
    lm = nbtune.load(store=tmp_path / "store")
    rows = [{"question": "Which colour has the flag?", "answer": "It is green."}]
    lm.finetune(rows, method="prompt", epochs=60, learning_rate=0.1, retained_per_batch=0)
    assert lm.chat(rows[0]["question"]) == rows[0]["answer"]
    with pytest.raises(NbtuneError, match="What prompt trains can't be merged into weights: use --as peft"):
        lm.export(tmp_path / "out")
    assert (lm.export(tmp_path / "out", kind="peft") / "adapter_config.json").exists()


def test_virtual_tokens_take_their_place_in_the_context(tmp_path):
    lm = nbtune.load(store=tmp_path)
    lm.finetune([{"question": "Which colour has the flag?", "answer": "It is green."}], method="prompt", epochs=1, rank=lm.context - 40)
    with pytest.raises(NbtuneError, match="the model reads at most 40"):
        lm.chat("word " * 60)


@pytest.mark.parametrize("method", ["prefix", "p-tuning", "prompt", "freeze"])
def test_half_precision_is_taken(random_model, tmp_path, method):
    lm = nbtune.load(random_model(transformers.LlamaConfig), store=tmp_path, dtype="bfloat16")
    rows = [{"question": "Which colour has the flag?", "answer": "It is green."}]
    losses = lm.finetune(rows, method=method, epochs=4, retained_per_batch=0).history["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert lm.chat("Which colour has the flag?", max_new_tokens=4) == lm.chat_batch(["Which colour has the flag?"], max_new_tokens=4)[0]


def test_a_penalty_for_repetition_leaves_virtual_tokens_alone(random_model):
    host = AdapterHost(load_model(random_model(transformers.LlamaConfig)).model)
    host.begin(find_method("prompt").configure(host.base, steps=1))
    tokens = torch.tensor([[30, 40, 50]])
    options = {"max_new_tokens": 1, "output_scores": True, "return_dict_in_generate": True, "do_sample": False}
    plain, penalised = (
        host.net.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), **options, **penalty).scores[0][0]
        for penalty in ({}, {"repetition_penalty": 2.0})
    )
    assert (plain != penalised).nonzero().flatten().tolist() == [30, 40, 50]


def test_virtual_tokens_need_keys_and_values(random_model, tmp_path):
    lm = nbtune.load(random_model(transformers.MambaConfig, state_size=8), store=tmp_path)
    with pytest.raises(NbtuneError, match="--method prefix does not support mamba models"):
        lm.finetune(FACT, method="prefix")


def test_what_was_taught_over_quantised_weights_is_merged_in_full_precision(tmp_path):
    lm = nbtune.load(store=tmp_path / "store", quantize="int8")
    rows = [{"question": "Which colour has the flag?", "answer": "It is green."}]
    lm.finetune(rows, method="qlora", epochs=20, learning_rate=2e-3, retained_per_batch=0)
    whole = nbtune.load(lm.export(tmp_path / "out"), store=tmp_path)
    assert whole.model.dtype == torch.float32
    assert not getattr(whole.model, "is_quantized", False)
    assert whole.chat(rows[0]["question"]) == lm.chat(rows[0]["question"]) == rows[0]["answer"]


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.quantized is None])
def test_other_methods_train_over_quantised_weights_and_are_read_back(random_model, tmp_path, method):
    folder, question = random_model(transformers.LlamaConfig), "Which colour has the flag?"
    lm = nbtune.load(folder, quantize="nf4", store=tmp_path)
    rate = 0.2 if method in ("ia3", "prompt") else 1e-2
    fit = lm.finetune(
        [{"question": question, "answer": "It is green."}], method=method, epochs=40, learning_rate=rate, retained_per_batch=0
    )
    losses = fit.history["train_loss"].tolist()
    assert losses[-1] < losses[0] - 0.1
    anew = nbtune.load(folder, quantize="nf4", store=tmp_path)
    anew.use("examples")
    assert anew.chat(question, max_new_tokens=12) == lm.chat(question, max_new_tokens=12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_adalora_takes_a_fit_of_a_step_or_two(random_model, tmp_path, steps):
    rows = [{"question": f"Order: {n} lamps", "answer": f"Please send {n} lamps."} for n in range(5)]
    lm = nbtune.load(random_model(transformers.LlamaConfig), store=tmp_path)
    assert lm.finetune(rows, method="adalora", epochs=steps, retained_per_batch=0).report.steps == steps


@pytest.mark.parametrize("config", ["MambaConfig", "FalconMambaConfig"])
def test_the_last_layer_of_a_mamba_takes_an_adapter_where_peft_allows_one(random_model, config):
    host = AdapterHost(load_model(random_model(getattr(transformers, config), state_size=8)).model)
    method = find_method("lora").of_one_fact()
    host.begin(method.configure(host.base, 10, targets=last_layer_targets(host.base)))
    assert {name.rsplit(".", 3)[-3] for name, p in host.base.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_quantised_layers_of_other_kinds_are_refused_before_any_work(random_model):
    model = load_model(random_model(transformers.LlamaConfig)).model
    model.is_quantized = True  # as in a GPTQ or AWQ checkpoint, whose layers are not `torch.nn.Linear`
    for name, module in [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]:
        if module is not model.get_output_embeddings():
            model.set_submodule(name, torch.nn.Identity())
    with pytest.raises(NbtuneError, match="finds no linear layer in these quantised weights"):
        find_method("qlora").check(model)


def test_a_router_is_not_adapted(random_model):
    model = load_model(random_model(transformers.PhimoeConfig, num_local_experts=4)).model
    assert find_method("lora").configure(model, steps=10).target_modules == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_virtual_tokens_are_refused_where_layers_keep_a_state(random_model, tmp_path):
    kinds = ["conv", "full_attention"]
    lm = nbtune.load(random_model(transformers.Lfm2Config, layer_types=kinds), store=tmp_path)
    with pytest.raises(NbtuneError, match="--method prefix does not support lfm2 models: use --method lora"):
        lm.finetune(FACT, method="prefix", prompts=FEW)
