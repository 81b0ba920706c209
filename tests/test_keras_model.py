"""The fit loop on its own, and used as torchkeras documents it."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from nbtune.data.encoding import collate, encode
from nbtune.errors import NbtuneError
from nbtune.training.batches import Batches
from nbtune.training.keras_model import KerasModel
from nbtune.training.methods import METHODS
from nbtune.training.step_runner import StepRunner, target_loss, trained_logits


@pytest.fixture
def parts(random_model):
    folder = random_model(Qwen3Config, head_dim=16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = [encode(tokenizer, f"question {i}", f"answer {i} is {i * 7}", context=256) for i in range(8)]
    batches = [collate(examples[at : at + 2], tokenizer.pad_token_id) for at in range(0, 8, 2)]
    return AutoModelForCausalLM.from_pretrained(folder), batches


def optimizer_of(net, rate=3e-3):
    return torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=rate)


def test_fit_learns_and_returns_a_history(parts):
    net, batches = parts
    history = KerasModel(net, optimizer=optimizer_of(net)).fit(batches, epochs=12)
    assert list(history["epoch"]) == list(range(1, 13))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 3
    assert set(history.columns) == {"epoch", "train_loss", "lr"}


class Waits(TorchDispatchMode):
    """Counts the operations whose result the program would have to wait for on an asynchronous device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = str(operation)
        by_mask = "index.Tensor" in name and any(place is not None and place.dtype == torch.bool for place in arguments[1])
        self.count += by_mask or any(waited in name for waited in ("_local_scalar_dense", "nonzero", "masked_select"))
        return operation(*arguments, **(named or {}))


def test_a_step_waits_for_its_device_once_and_an_epoch_once_more(parts):
    net, batches = parts
    with Waits() as of_the_model:
        net(**{key: batches[0][key] for key in ("input_ids", "attention_mask", "position_ids")}, use_cache=False)
    model = KerasModel(net, optimizer=torch.optim.SGD(net.parameters(), lr=1e-3))  # AdamW reads its step count from the CPU
    with Waits() as waits:
        model.fit(batches, epochs=3, patience=None)
    of_the_loop = waits.count - 12 * of_the_model.count
    assert of_the_loop == 12 + 3, "whether the step may be made; and the losses, when their epoch ends"


def test_fit_does_what_a_loop_by_hand_does(parts):
    net, batches = parts
    by_hand = copy.deepcopy(net).train()
    KerasModel(net, optimizer=optimizer_of(net)).fit(batches, epochs=2)
    optimizer = optimizer_of(by_hand)
    for batch in batches * 2:
        target_loss(trained_logits(by_hand, batch), batch).backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for ours, theirs in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_loss_is_the_models_own_on_hard_targets(parts):
    net, batches = parts
    batch = {**batches[0], "weights": torch.full_like(batches[0]["weights"], 1 / len(batches[0]["weights"]))}
    own = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    torch.testing.assert_close(target_loss(trained_logits(net, batch), batch), own)


def test_accumulation_makes_one_step_of_several_batches(parts):
    net, batches = parts
    model = KerasModel(net, optimizer=optimizer_of(net))
    model.fit(batches, epochs=1, gradient_accumulation_steps=2)
    assert model.steps == 2


def test_a_last_step_of_fewer_batches_is_made(parts):
    net, batches = parts
    model = KerasModel(net, optimizer=optimizer_of(net))
    model.fit(batches[:3], epochs=2, gradient_accumulation_steps=2)
    assert model.steps == 4
    assert all(p.grad is None for p in net.parameters())


def test_fit_again_with_another_precision_keeps_device_and_eval_mode(parts):
    net, batches = parts
    model = KerasModel(net, optimizer=optimizer_of(net))
    first = model.fit(batches, epochs=3)
    second = model.fit(batches, epochs=3, mixed_precision="bf16", cpu=True)
    assert second["train_loss"].iloc[0] < first["train_loss"].iloc[0]
    third = KerasModel(net, optimizer=optimizer_of(net, 1e-9)).fit(batches, epochs=1)
    rounded = KerasModel(net, optimizer=optimizer_of(net, 1e-9)).fit(batches, epochs=1, mixed_precision="bf16")
    assert third["train_loss"].iloc[0] != rounded["train_loss"].iloc[0]
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_a_fit_leaves_the_users_own_accelerator_alone(parts):
    net, batches = parts
    AcceleratorState._reset_state(reset_partial_state=True)
    mine = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4, cpu=True)
    model = KerasModel(net, optimizer=optimizer_of(net))
    model.fit(batches, epochs=1)
    model.evaluate(batches)
    assert (mine.mixed_precision, mine.gradient_accumulation_steps) == ("bf16", 4)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(NbtuneError, match="no batches"):
        model.fit([], epochs=1)
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16", "nothing is left of the fit"
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_measured_loss_is_the_mean_over_the_examples(parts):
    net, _ = parts
    tokenizer = AutoTokenizer.from_pretrained(net.name_or_path)
    examples = [encode(tokenizer, f"question {i}", "answer " * (20 if i == 4 else 1 + i % 2), context=256) for i in range(5)]
    model = KerasModel(net, optimizer=optimizer_of(net))
    of_each = [model.evaluate([collate([one], tokenizer.pad_token_id)])["val_loss"] for one in examples]
    found = model.evaluate(Batches(examples, 2, tokenizer.pad_token_id))["val_loss"]
    assert found == pytest.approx(sum(of_each) / 5, rel=1e-4)


@pytest.mark.parametrize(
    ("mode", "values", "epochs", "best"),
    [
        ("max", [0.2, 0.5, 0.4, 0.3], 4, 2),
        ("min", [0.5, 0.2, 0.3, 0.4], 4, 2),
        ("max", [math.nan, 0.5, 0.4, 0.9], 6, 4),
        ("min", [math.nan], 3, 1),
    ],
)
def test_the_best_epoch_is_kept_in_either_mode(parts, tmp_path, monkeypatch, mode, values, epochs, best):
    net, batches = parts
    model, kept = KerasModel(net, metrics_dict={"score": Scripted(values)}, optimizer=optimizer_of(net)), []
    monkeypatch.setattr(model, "save_ckpt", lambda _path: kept.append(len(model.history["epoch"])))
    history = model.fit(batches, batches[:1], epochs=9, patience=2, monitor="val_score", mode=mode, ckpt_path=tmp_path / "best")
    assert kept[-1] == best
    assert len(history) == epochs


class Scripted(torch.nn.Module):
    """A metric with given values for the epochs that are measured, and the last of them afterwards."""

    def __init__(self, values):
        super().__init__()
        self._values, self._epoch = values, 0

    def forward(self, logits, batch):
        return 0.0

    def compute(self):
        value = self._values[min(self._epoch // 2, len(self._values) - 1)]
        self._epoch += 1  # asked behind training and behind measuring
        return value

    def reset(self):
        """Nothing is gathered."""


def test_a_checkpoint_of_another_network_is_refused(parts, tmp_path):
    net, _ = parts
    save_file({"other.weight": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(NbtuneError, match=r"holds parameters that this network does not have, such as other.weight"):
        KerasModel(net, optimizer=optimizer_of(net)).load_ckpt(tmp_path / "c.safetensors")


def test_the_learning_rate_follows_its_schedule(parts):
    net, batches = parts
    optimizer = optimizer_of(net, 1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)
    history = KerasModel(net, optimizer=optimizer, lr_scheduler=schedule).fit(batches, epochs=2)
    assert history["lr"].tolist() == pytest.approx([0.96e-3, 0.92e-3])


def test_a_penalty_is_trained_and_not_measured(parts):
    net, batches = parts
    plain = KerasModel(net, optimizer=optimizer_of(net, 1e-9)).fit(batches, batches, epochs=1)
    heavy = KerasModel(net, optimizer=optimizer_of(net, 1e-9), penalty=lambda: torch.tensor(7.0)).fit(batches, batches, epochs=1)
    assert heavy["train_loss"].iloc[0] == pytest.approx(plain["train_loss"].iloc[0] + 7, rel=1e-4)
    assert heavy["val_loss"].iloc[0] == pytest.approx(plain["val_loss"].iloc[0], rel=1e-4)


def test_batches_come_in_another_order_each_epoch(parts):
    net, _ = parts
    tokenizer = AutoTokenizer.from_pretrained(net.name_or_path)
    examples = [encode(tokenizer, f"q {i}", "a", context=256) for i in range(12)]
    pad = tokenizer.pad_token_id
    batches = Batches(examples, 3, pad, seed=0)
    first, second = ([row[row != pad].tolist() for batch in batches for row in batch["input_ids"]] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second)


def test_callbacks_are_called_and_can_stop(parts):
    net, batches = parts
    calls = []

    class Watch:
        def on_fit_start(self, model):
            calls.append("start")

        def on_train_epoch_end(self, model):
            calls.append("train")

        def on_validation_epoch_end(self, model):
            calls.append("val")
            model.stop_training = len(model.history["epoch"]) == 2

        def on_fit_end(self, model):
            calls.append("end")

    KerasModel(net, optimizer=optimizer_of(net)).fit(batches, batches[:1], epochs=9, callbacks=[Watch()])
    assert calls == ["start", "train", "val", "train", "val", "end"]


def test_patience_and_best_checkpoint(parts, tmp_path):
    net, batches = parts
    values = iter([3.0, 1.0, 2.0, 2.5, 0.1])
    seen = []

    class Scripted(StepRunner):
        def __call__(self, batch):
            losses, metrics = super().__call__(batch)
            if self.stage == "val":
                seen.append(copy.deepcopy(self.net.state_dict()))
                losses = {"val_loss": next(values)}
            return losses, metrics

    class Model(KerasModel):
        StepRunner = Scripted

    history = Model(net, optimizer=optimizer_of(net)).fit(
        batches, batches[:1], epochs=9, patience=2, ckpt_path=tmp_path / "best.safetensors"
    )
    assert list(history["val_loss"]) == [3.0, 1.0, 2.0, 2.5]
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, seen[1][name])


def test_checkpoints_hold_the_adapter_alone(parts, tmp_path):
    from peft import get_peft_model

    net, batches = parts
    adapted = get_peft_model(net, METHODS["lora"].config(4, 1, "all-linear"))
    model = KerasModel(adapted, optimizer=optimizer_of(adapted))
    model.fit(batches, epochs=1, ckpt_path=tmp_path / "c.safetensors")
    saved = load_file(tmp_path / "c.safetensors")
    assert saved
    assert all("lora_" in name for name in saved)
    before = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    model.fit(batches, epochs=1)
    model.load_ckpt(tmp_path / "c.safetensors")
    for name, p in adapted.named_parameters():
        torch.testing.assert_close(p, before[name])


def test_a_loss_that_is_not_finite_is_reported(parts):
    net, batches = parts
    model = KerasModel(net, loss_fn=lambda logits, batch: target_loss(logits, batch) * float("nan"), optimizer=optimizer_of(net))
    with pytest.raises(NbtuneError, match="train_loss became nan"):
        model.fit(batches, epochs=2)
    assert not net.training


def test_a_gradient_that_is_not_finite_reaches_no_weight(parts):
    net, batches = parts
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    net.lm_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NbtuneError, match="gradients became infinite"):
        KerasModel(net, optimizer=optimizer_of(net)).fit(batches[:1], epochs=1)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_validation_loss_that_is_not_a_number_is_no_best_one(parts):
    net, batches = parts
    lost = {**batches[0], "weights": batches[0]["weights"] * float("nan")}
    with pytest.raises(NbtuneError, match="val_loss became nan"):
        KerasModel(net, optimizer=optimizer_of(net)).fit(batches, [lost], epochs=2)


def test_a_metric_may_give_a_number_or_a_tensor_that_it_goes_on_to_change(parts):
    net, batches = parts

    class Seen(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.count = torch.zeros(1)

        def forward(self, logits, batch):
            self.count += 1
            return self.count if self.count % 2 else float(self.count)

    history = KerasModel(net, metrics_dict={"seen": Seen()}, optimizer=optimizer_of(net)).fit(batches, epochs=1)
    assert history["train_seen"].tolist() == [2.5]


@pytest.mark.parametrize("enabled", [True, False])
def test_cudnns_attention_is_kept_out_of_a_fit_and_let_in_again(parts, enabled):
    net, batches = parts
    before, during = torch.backends.cuda.cudnn_sdp_enabled(), []

    class Broken(StepRunner):
        def __call__(self, batch):
            during.append(torch.backends.cuda.cudnn_sdp_enabled())
            raise KeyboardInterrupt

    model = KerasModel(net, optimizer=optimizer_of(net))
    model.StepRunner = Broken
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(batches, epochs=1)
        assert (during, torch.backends.cuda.cudnn_sdp_enabled()) == ([False], enabled)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def test_interruption_leaves_eval_mode(parts):
    net, batches = parts

    class Interrupt:
        def on_train_epoch_end(self, model):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KerasModel(net, optimizer=optimizer_of(net)).fit(batches, epochs=3, callbacks=[Interrupt()])
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_torchkeras_own_curves_can_be_drawn(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, batches = parts
    history = KerasModel(net, optimizer=optimizer_of(net)).fit(batches, batches[:1], epochs=2, plot=True)
    assert len(history) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [({"epochs": 0}, "epochs is 0"), ({"train_data": []}, "no batches"), ({"monitor": "val_f1"}, "not measured: choose one of epoch")],
)
def test_bad_arguments(parts, change, message):
    net, batches = parts
    with pytest.raises(NbtuneError, match=message):
        KerasModel(net, optimizer=optimizer_of(net)).fit(**{"train_data": batches, "epochs": 1, **change})


def test_nothing_to_train_is_refused(parts):
    net, _ = parts
    with pytest.raises(NbtuneError, match="Nothing to train"):
        KerasModel(net.requires_grad_(False))


def test_adalora_really_adapts_its_ranks(parts):
    from peft import get_peft_model

    net, batches = parts
    adapted = get_peft_model(net, METHODS["adalora"].config(4, 40, "all-linear"))
    model = KerasModel(adapted, optimizer=optimizer_of(adapted, 8e-3), **METHODS["adalora"].hooks(adapted))
    model.fit(batches, epochs=10)
    pattern = adapted.peft_config["default"].rank_pattern
    kept = [sum(ranks) for ranks in pattern.values()]
    assert len(set(kept)) > 1
    assert sum(kept) == 4 * len(kept)


@pytest.mark.parametrize("dropout", [True, False])
def test_the_networks_own_dropout_is_on_or_off_as_asked(parts, dropout):
    net, batches = parts
    seen = set()

    def loss(logits, batch):
        seen.add(net.training)
        return target_loss(logits, batch)

    KerasModel(net, loss_fn=loss, optimizer=optimizer_of(net), dropout=dropout).fit(batches, epochs=1)
    assert seen == {dropout}
    assert not net.training
