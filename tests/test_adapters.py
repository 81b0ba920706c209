"""Adapters share one copy of the base, which computes the right result to the bit with each, and without any."""

from __future__ import annotations

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig
from peft.import_utils import is_torchao_available
from peft.utils.constants import DUMMY_TARGET_MODULES
from transformers import LlamaConfig, Qwen3MoeConfig

from nbtune.errors import NbtuneError
from nbtune.model.adapter import Adapter
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import load_model
from nbtune.training.methods import find_method

TOKENS = torch.tensor([[3, 5, 8, 13, 21]])


def lora(rank: int = 4, **options) -> LoraConfig:
    return LoraConfig(r=rank, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM", **options)


@pytest.fixture
def host(random_model):
    return AdapterHost(load_model(random_model(LlamaConfig)).model)


def made(host: AdapterHost, config) -> Adapter:
    """Return a finished adapter with random weights."""
    host.begin(config)
    with torch.no_grad():
        for parameter in host.net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 10)
    adapter = host.extract()
    host.clear()
    return adapter


def logits(host: AdapterHost) -> torch.Tensor:
    with torch.inference_mode():
        return host.net(input_ids=TOKENS.to(host.base.device)).logits


def ia3() -> IA3Config:
    return IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False)


def copies() -> LoraConfig:
    return LoraConfig(target_modules=DUMMY_TARGET_MODULES, modules_to_save=["model.layers.1"], task_type="CAUSAL_LM")


def prefix() -> PrefixTuningConfig:
    return PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")


def prompt() -> PromptTuningConfig:
    return PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")


@pytest.mark.parametrize(
    "kinds",
    [(lora(), lora(), lora(rank=6)), (lora(use_dora=True),) * 3, (ia3(),) * 3, (copies(),) * 3, (prefix(),) * 3, (prompt(),) * 3],
    ids=["lora", "dora", "ia3", "copies", "prefix", "prompt"],
)
def test_each_side_says_to_the_bit_what_it_says_alone(host, kinds):
    base = logits(host)
    adapters = [made(host, config) for config in kinds]
    alone = []
    for adapter in adapters:
        host.attach([adapter])
        alone.append(logits(host))
        host.clear()
    host.attach(adapters, lambda _: None)
    for side in (0, 2, None, 1, None, 0, 2):
        with host.answering(side):
            assert torch.equal(logits(host), base if side is None else alone[side])
    assert not any(torch.equal(one, base) for one in alone)


def test_adapters_of_other_kinds_follow_each_other(host):
    base, kinds = logits(host), [copies(), lora(), prefix(), ia3(), lora(use_dora=True), prompt()]
    adapters, alone = [made(host, config) for config in kinds], []
    for adapter in adapters:
        host.attach([adapter])
        alone.append(logits(host))
        host.clear()
    for place in (0, 1, 2, 3, 4, 5, 0, 5, 4, 3, 2, 1, 0):
        host.attach([adapters[place]])
        assert torch.equal(logits(host), alone[place])
        host.disable()
        assert torch.equal(logits(host), base)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ImportError("no such package")])
def test_nothing_stays_of_an_adapter_that_was_interrupted_while_it_was_put_on(host, monkeypatch, raised):
    from peft.tuners.lora import LoraModel

    base, names, put, count = logits(host), dict(host.base.named_parameters()).keys(), LoraModel._create_and_replace, 0

    def interrupted(self, *arguments, **options):
        nonlocal count
        count += 1
        if count == 5:
            raise raised
        return put(self, *arguments, **options)

    monkeypatch.setattr(LoraModel, "_create_and_replace", interrupted)
    with pytest.raises((KeyboardInterrupt, NbtuneError)):
        host.begin(lora())
    monkeypatch.undo()
    assert dict(host.base.named_parameters()).keys() == names
    assert torch.equal(logits(host), base)
    host.attach([made(host, lora())])
    assert not torch.equal(logits(host), base)


@pytest.mark.parametrize("leave", ["disable", "clear"])
def test_the_base_says_the_same_when_adapters_are_put_away(host, leave):
    base, adapter = logits(host), made(host, lora())
    host.attach([adapter])
    tuned, stamp = logits(host), host.stamp
    getattr(host, leave)()
    assert host.stamp != stamp, "what was cached with the adapter must not be used"
    assert host.group_by_side(["anything"]) == {None: [0]}
    assert torch.equal(logits(host), base)
    host.attach([adapter])
    assert torch.equal(logits(host), tuned)


def test_what_is_put_on_or_away_while_the_base_is_asked_holds_from_then_on(host):
    base, adapter, other = logits(host), made(host, lora()), made(host, lora())
    host.attach([other])
    tuned = logits(host)
    host.attach([adapter])
    with host.answering(None):
        host.attach([other])
        assert torch.equal(logits(host), base)
    assert torch.equal(logits(host), tuned)
    with host.answering(None):
        host.disable()
    assert torch.equal(logits(host), base)


def test_nothing_of_peft_is_left_when_taken_off(host):
    names = dict(host.base.named_parameters()).keys()
    host.attach([made(host, lora())])
    host.clear()
    assert dict(host.base.named_parameters()).keys() == names
    assert not hasattr(host.base, "peft_config")


def test_a_finished_adapter_takes_no_gradients_and_a_begun_one_keeps_its(host):
    host.attach([made(host, lora())])
    with host.answering(None):
        pass
    assert not any(p.requires_grad for p in host.net.parameters())
    host.begin(lora())
    with host.answering(None):
        pass
    assert any(p.requires_grad for p in host.net.parameters())


def test_an_adapter_that_is_trained_goes_when_the_base_is_to_answer(host):
    base = logits(host)
    host.begin(lora())
    host.disable()
    assert host.net is host.base
    assert torch.equal(logits(host), base)


@pytest.mark.parametrize("config", [lora(), lora(use_dora=True), ia3(), prefix(), prompt()], ids=lambda config: config.peft_type)
def test_what_is_settled_is_rounded_to_16_bits(host, config):
    adapter = made(host, config)
    assert {tensor.dtype for tensor in adapter.weights.values()} == {torch.float16}


def test_copies_of_the_base_and_what_16_bits_do_not_hold_are_settled_exactly(host):
    assert {tensor.dtype for tensor in made(host, copies()).weights.values()} == {torch.float32}
    host.begin(lora())
    largest = next(parameter for parameter in host.net.parameters() if parameter.requires_grad)
    with torch.no_grad():
        largest.fill_(1e5)
    settled = host.extract().weights.values()
    assert [tensor.unique().tolist() for tensor in settled if tensor.dtype == torch.float32] == [[1e5]]


def test_settled_ranks_are_put_back_as_they_were(host):
    config = AdaLoraConfig(
        init_r=6, target_r=4, total_step=10, tinit=1, tfinal=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    host.begin(config)
    for step in range(1, 9):
        tokens = TOKENS.to(host.base.device)
        host.net(input_ids=tokens, labels=tokens).loss.backward()
        host.net.base_model.update_and_allocate(step)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, host.net.parameters()):
            parameter.copy_(parameter.half())  # rounded as when it is saved
    trained, adapter = logits(host), host.extract()
    assert adapter.config.rank_pattern
    other = made(host, lora())
    for _ in range(2):
        host.attach([adapter])
        torch.testing.assert_close(logits(host), trained)
        host.attach([other])


def test_an_old_torchao_is_named_with_the_line_that_mends_it(host, tmp_path, monkeypatch):
    base = logits(host)
    for folder in ("torchao", "torchao-0.10.0.dist-info"):  # the version on Colab
        (tmp_path / folder).mkdir()
    (tmp_path / "torchao" / "__init__.py").touch()
    (tmp_path / "torchao-0.10.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torchao\nVersion: 0.10.0\n")
    with monkeypatch.context() as installed:
        installed.syspath_prepend(tmp_path)
        is_torchao_available.cache_clear()
        with pytest.raises(NbtuneError, match=r"torchao.*0\.10\.0.*Run `%pip uninstall -y torchao`"):
            host.begin(lora())
    assert torch.equal(logits(host), base)
    host.begin(lora())  # once it is gone, the same process can go on
    assert host.net is not host.base


@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize("leave", [True, False], ids=["to the base", "back"])
def test_an_interrupt_between_base_and_adapter_leaves_neither_half_on(host, monkeypatch, at, leave):
    from peft.tuners.tuners_utils import BaseTunerLayer

    base, adapter = logits(host), made(host, lora())
    host.attach([adapter])
    tuned, switch, count = logits(host), BaseTunerLayer.enable_adapters, 0

    def interrupted(self, enabled):
        nonlocal count
        count += enabled is not leave
        if count == at and enabled is not leave:
            raise KeyboardInterrupt
        switch(self, enabled)

    monkeypatch.setattr(BaseTunerLayer, "enable_adapters", interrupted)
    with pytest.raises(KeyboardInterrupt), host.answering(None):
        assert torch.equal(logits(host), base)
    monkeypatch.undo()
    with host.answering(0):
        assert torch.equal(logits(host), tuned)
    with host.answering(None):
        assert torch.equal(logits(host), base)
    host.attach([adapter])
    assert torch.equal(logits(host), tuned)


def test_no_hub_is_asked_when_an_adapter_is_kept(host, monkeypatch):
    from peft.utils import save_and_load

    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", lambda *_: pytest.fail("the hub was asked"))
    host.base.name_or_path = "owner/name"
    adapter = made(host, lora())
    host.attach([adapter])
    assert adapter.weights


@pytest.mark.parametrize("at", ["attach", "disable"])
def test_nothing_answers_in_the_name_of_the_base_when_a_switch_is_interrupted(host, monkeypatch, at):
    from nbtune.model.places import AdapterPlace

    base, (first, second) = logits(host), [made(host, lora()) for _ in range(2)]
    host.attach([first])

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"attach": (AdapterPlace, "fill"), "disable": (AdapterHost, "_switch")}[at], interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.attach([second]) if at == "attach" else host.disable()
    monkeypatch.undo()
    assert torch.equal(logits(host), base)
    with host.answering(None):
        assert torch.equal(logits(host), base)
    host.attach([first])
    assert not torch.equal(logits(host), base)


def test_taking_off_that_is_interrupted_leaves_the_base_alone(host, monkeypatch):
    base, adapter = logits(host), made(host, lora())
    host.attach([adapter])
    tuned, put = logits(host), torch.nn.Module.set_submodule

    def interrupted(self, name, *given):
        monkeypatch.setattr(torch.nn.Module, "set_submodule", put)
        put(self, name, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.nn.Module, "set_submodule", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.clear()
    assert torch.equal(logits(host), base)
    host.attach([adapter])
    assert torch.equal(logits(host), tuned)


@pytest.mark.parametrize("shape", [{"mlp_only_layers": [0]}, {}])
def test_experts_beside_ordinary_layers_are_left_alone_and_come_back(random_model, shape):
    experts = {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, **shape}
    host, method = AdapterHost(load_model(random_model(Qwen3MoeConfig, **experts)).model), find_method("lora")
    base, names = logits(host), [name for name, _ in host.base.named_modules()]
    for _ in range(2):
        host.begin(method.configure(host.base, steps=10))
        adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, p in host.net.named_parameters() if p.requires_grad}
        assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"}
        host.clear()
        assert [name for name, _ in host.base.named_modules()] == names
        assert torch.equal(logits(host), base)


def test_wrappers_around_one_another_come_off_whole(random_model):
    """PEFT nests two wrappers around the experts of a layer, one for each of their parameters."""
    experts = {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    host = AdapterHost(load_model(random_model(Qwen3MoeConfig, **experts)).model)
    base, names = logits(host), [name for name, _ in host.base.named_modules()]
    for _ in range(2):
        host.begin(
            LoraConfig(r=4, target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"], task_type="CAUSAL_LM")
        )
        host.clear()
        assert [name for name, _ in host.base.named_modules()] == names
        assert torch.equal(logits(host), base)
