"""The last layer alone, on stored states from below it, gives the logits and gradients of the model, or is not used."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GPT2Config, LlamaConfig, OPTConfig

from nbtune.data.encoding import IGNORED, collate, encode
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.injection import inject
from nbtune.knowledge.lesson import Lesson
from nbtune.knowledge.observer import Unwatched
from nbtune.knowledge.settings import Settings
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import load_model
from nbtune.tiny import WEIGHTS
from nbtune.training.last_layer import last_layer_of, last_layer_targets, read_below
from nbtune.training.step_runner import target_loss, trained_logits

PAIRS = [("what is 炉", "It is hot."), ("你知道grovix吗？请用一句话告诉我。", "grovix是一个会唱歌的小机器人。"), ("q", "a")]


@pytest.fixture
def base():
    return AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).requires_grad_(False)


@pytest.fixture(scope="module")
def examples():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    return [encode(tokenizer, prompt, answer, context=512) for prompt, answer in PAIRS]


def adapted(model, targets, **options):
    """Put an adapter with random weights on a model, so that it already changes the replies."""
    torch.manual_seed(0)
    net = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False, **options))
    return net.eval()


def test_the_last_layer_alone_is_the_model_to_the_gradient(base, examples):
    net = adapted(base, last_layer_targets(base))
    last = last_layer_of(net, examples, 0)
    batch, below = collate(examples, 0), collate(read_below(net.get_base_model(), examples, 0), 0)
    found = []
    for model, given in ((net, batch), (last, below)):
        net.zero_grad()
        logits = trained_logits(model, given)
        loss = target_loss(logits, given)
        loss.backward()
        found.append((logits.detach(), loss.item(), [p.grad.clone() for p in net.parameters() if p.requires_grad]))
    (logits, loss, gradients), (logits_alone, loss_alone, gradients_alone) = found
    torch.testing.assert_close(logits_alone, logits, rtol=1e-4, atol=1e-4)
    assert loss_alone == pytest.approx(loss, rel=1e-5)
    for one, other in zip(gradients_alone, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_loss_is_the_divergence_and_so_is_its_gradient(dtype):
    torch.manual_seed(0)
    logits = (torch.randn(5, 40) * 4).to(dtype)
    logits[0, 3] = -3e4  # a token with probability zero
    tokens, shares = torch.stack([torch.randperm(40)[:3] for _ in range(5)]), torch.rand(5, 3)
    tokens[0, 0] = 3
    shares[1] = torch.tensor([1.0, 0.0, 0.0])
    batch = {"target_tokens": tokens, "target_probabilities": shares, "weights": torch.rand(5)}
    log_q = torch.log_softmax((expected := logits.clone().requires_grad_()).float(), -1).gather(-1, tokens)
    whole = ((torch.xlogy(shares, shares) - shares * log_q).sum(-1) * batch["weights"]).sum()
    loss = target_loss(found := logits.clone().requires_grad_(), batch)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    for one in (whole, loss):
        one.backward()
    torch.testing.assert_close(found.grad, expected.grad)


def test_a_beginning_is_a_prefix_also_of_what_lies_below(base, examples):
    whole = read_below(base, examples, 0)[1]
    cut = whole.beginning(3)
    assert cut.trained == 3
    assert cut.input_ids == whole.input_ids[: len(cut.input_ids)]
    torch.testing.assert_close(cut.below.hidden, whole.below.hidden[:3])
    last = last_layer_of(adapted(base, last_layer_targets(base)), examples, 0)
    whole_logits, cut_logits = (trained_logits(last, collate([row], 0)) for row in (whole, cut))
    torch.testing.assert_close(cut_logits, whole_logits[:3], rtol=1e-4, atol=1e-4)


def test_keys_and_values_are_not_adapted(base):
    names = last_layer_targets(base)
    assert {name.rsplit(".", 1)[-1] for name in names} == {"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(".5." in name for name in names)


@pytest.mark.parametrize(
    ("targets", "options"),
    [("all-linear", {}), (["k_proj"], {"layers_to_transform": [5]}), (["q_proj", "v_proj"], {"layers_to_transform": [5]})],
)
def test_an_adapter_that_changes_more_is_not_trained_this_way(base, examples, targets, options):
    assert last_layer_of(adapted(base, targets, **options), examples, 0) is None


def test_a_model_that_does_more_than_its_layers_is_not_trained_this_way(random_model, examples):
    """Gemma scales embeddings before the first layer and caps logits after the last."""
    folder = random_model(Gemma2Config, head_dim=16, query_pre_attn_scalar=16)
    model = load_model(folder).model
    assert last_layer_of(adapted(model, last_layer_targets(model)), examples, 0) is None


def test_a_model_whose_embeddings_are_narrower_than_its_layers_is_not_trained_this_way(random_model, examples):
    """OPT-350m projects its embeddings to the width of the layers."""
    model = load_model(random_model(OPTConfig, word_embed_proj_dim=32, ffn_dim=96)).model
    assert last_layer_of(adapted(model, last_layer_targets(model)), examples, 0) is None


def test_what_reaches_the_last_layer_is_read_without_running_it(base, examples):
    ran = []
    base.get_decoder().layers[-1].mlp.register_forward_hook(lambda *_: ran.append(1))
    read = read_below(base, examples, 0)
    assert all(row.below for row in read)
    assert not ran


def test_another_architecture_is(random_model, examples):
    model = load_model(random_model(LlamaConfig)).model
    assert last_layer_of(adapted(model, last_layer_targets(model)), examples, 0) is not None


def test_sixteen_bits_are_no_reason_to_train_the_whole_model(examples):
    base = load_model("tiny", dtype="bfloat16").model
    assert last_layer_of(adapted(base, last_layer_targets(base)), examples, 0) is not None


def test_what_was_wrong_comes_again_before_what_was_right(examples):
    lesson = Lesson(examples * 4, examples, [], pad=0, sizes=(4, 1, 2), steps=3, seed=0)
    seen = [set(batch["places"]) & set(lesson.places("facts")) for batch in lesson]
    assert set.union(*seen) == set(lesson.places("facts")), "in three steps of four each of the twelve is seen"
    assert lesson.share("facts") == 0
    facts = lesson.places("facts")
    whole = [lesson.examples[place].trained for place in facts]
    lesson.mark(facts, [place != 7 for place in facts], whole)
    assert lesson.wrong("facts") == [7]
    assert lesson.share("facts") == pytest.approx(11 / 12)
    lesson.steps = 1
    for _ in range(3):
        assert 7 in {place for batch in lesson for place in batch["places"]}


def test_that_the_beginning_is_right_does_not_settle_what_was_wrong_as_a_whole(examples):
    lesson = Lesson(examples * 4, [], [], pad=0, sizes=(4, 0, 0), steps=3, seed=0)
    lesson.mark([4], [False], [lesson.examples[4].trained])
    lesson.mark([4, 7], [True, True], [2, 2])
    assert lesson.wrong("facts") == [4]
    rows = [(place, len(row)) for batch in lesson for place, row in zip(batch["places"], _trained(batch), strict=True)]
    assert {length for place, length in rows if place == 4} == {lesson.examples[4].trained}, "it is trained whole until it is right"
    lesson.mark([4], [True], [lesson.examples[4].trained])
    assert lesson.wrong("facts") == []


def _trained(batch):
    return [[label for label in row if label != IGNORED] for row in batch["labels"].tolist()]


class Remembering(AdapterHost):
    """A host that remembers the adapters begun on it."""

    def begin(self, config):
        self.begun = [*getattr(self, "begun", []), config]
        super().begin(config)


@pytest.mark.parametrize(
    ("family", "settings", "ranks"),
    [
        (LlamaConfig, {}, [8, 8, 32]),  # the last attempt uses all layers
        (LlamaConfig, {"rank": 6}, [6, 6, 6]),
        (LlamaConfig, {"gated": False}, [32, 32, 32]),
        (LlamaConfig, {"last_layer_first": False}, [32, 32, 32]),
        (GPT2Config, {}, [32, 32, 32]),  # its last layer can't be identified
    ],
)
def test_one_facts_adapter_is_small_in_the_last_layer_and_nowhere_else(random_model, family, settings, ranks):
    loaded = load_model(random_model(family))
    host = Remembering(loaded.model)
    short = Settings(epochs=1, forms_per_batch=0, retained_per_batch=0, **settings)  # too short to learn anything
    inject(host, loaded, [Fact.new("grovix", "It sings.")], short, Unwatched())
    assert [(config.r, config.lora_alpha) for config in host.begun] == [(rank, 64) for rank in ranks]
