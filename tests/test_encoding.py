"""Only the answer is trained, including its end of turn."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nbtune.data.encoding import IGNORED, Encoded, Targets, collate, encode, pieces
from nbtune.errors import NbtuneError
from nbtune.tiny import WEIGHTS
from nbtune.tiny.tokenizer import CONTEXT


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS)


def test_labels_are_the_answer_and_the_end(tokenizer):
    encoded = encode(tokenizer, "what is 炉?", "It is hot.", context=CONTEXT)
    trained = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(trained) == "It is hot." + tokenizer.eos_token
    assert encoded.trained == len(trained)


def test_labels_agree_with_the_generation_marks_of_the_template(tokenizer):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}]
    marked = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    encoded = encode(tokenizer, "q", "an answer", context=CONTEXT)
    assert encoded.input_ids == marked["input_ids"]
    assert [label != IGNORED for label in encoded.labels] == [bool(m) for m in marked["assistant_masks"]]


def test_what_follows_the_end_of_turn_is_not_trained(tokenizer):
    other = AutoTokenizer.from_pretrained(WEIGHTS)
    other.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoded = encode(other, "q", "yes", context=CONTEXT)
    assert other.decode([label for label in encoded.labels if label != IGNORED]) == "yes<|end|>"


def test_a_block_of_thoughts_that_is_only_written_down_is_not_trained(tokenizer):
    other = AutoTokenizer.from_pretrained(WEIGHTS)
    other.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    encoded = encode(other, "q", "yes", context=CONTEXT)
    assert other.decode([label for label in encoded.labels if label != IGNORED]) == "yes<|end|>"


def test_too_long_is_refused_with_its_length(tokenizer):
    with pytest.raises(NbtuneError, match=r"take 6\d\d tokens and the model reads at most 512"):
        encode(tokenizer, "q", "字" * 600, context=CONTEXT)


def test_batches_are_padded_on_the_left_with_targets_in_order(tokenizer):
    short, long = (encode(tokenizer, "q", text, context=CONTEXT) for text in ("a", "a longer answer"))
    kept = Targets(torch.tensor([[5, 6]] * short.trained), torch.tensor([[0.75, 0.25]] * short.trained))
    batch = collate([type(short)(short.input_ids, short.labels, kept, 2.0), long], tokenizer.pad_token_id)
    assert batch["attention_mask"][0, 0] == 0
    assert batch["position_ids"][0].max() == len(short.input_ids) - 1
    assert batch["target_tokens"][: short.trained].tolist() == [[5, 6]] * short.trained
    assert batch["target_tokens"][short.trained :, 0].tolist() == [label for label in long.labels if label != IGNORED]
    assert batch["weights"].sum() == pytest.approx(1.0)
    assert batch["weights"][: short.trained].sum() == pytest.approx(2 / 3)


def test_pieces_keep_their_spaces_where_a_text_begins_without_one():
    words = ["", "▁The", "▁capital", "▁of", "▁France"]
    inner = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}))
    inner.pre_tokenizer, inner.decoder = Metaspace(), MetaspaceDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    assert tokenizer.decode([2]) == "capital", "as of Llama 2: alone it begins without a space"
    shown = pieces(tokenizer, Encoded([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4]))
    assert [text for text, _, _ in shown] == ["The", " capital", " of", " France"]
