"""A longer conversation is tokenized only where it is new, with the same tokens as the whole."""

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nbtune.chat_template import chat_ids
from nbtune.errors import NbtuneError
from nbtune.model.prompt_tokens import PromptTokens
from nbtune.tiny import WEIGHTS
from tests.test_chat_template import THINKING

PIECES = [
    "What is it?",
    " two  spaces ",
    "",
    "\n",
    "a cup",
    "梦中情炉",
    "🙂",
    "<|end|>",
    "<|im_end|> ",
    "<s>",
    "x<|user|>y",
    "don't",
    "<|im_start|>",
]
TEXTS = [*PIECES, "the quick brown fox jumps over the lazy dog", "A velt hook is a bent copper tool."] * 20
MARKS = ["<s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
PLAIN = "{% for m in messages %}{{ m.content }}{{ eos_token if loop.last else '\n' }}{% endfor %}"
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)


def trained(template, *, pre=None, normalizer=None, **marks):
    """Train a tokenizer of another kind than the built-in model's."""
    kind = Tokenizer(models.BPE(byte_fallback=False))
    kind.pre_tokenizer, kind.normalizer = pre, normalizer
    kind.decoder = decoders.ByteLevel()
    kind.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    kind.add_special_tokens([AddedToken(mark, **{"normalized": False, **marks}) for mark in MARKS])
    special = {"bos_token": "<s>", "eos_token": "<|im_end|>", "extra_special_tokens": MARKS[1:]}
    return PreTrainedTokenizerFast(tokenizer_object=kind, chat_template=template, **special)


KINDS = {
    "embedded": lambda: AutoTokenizer.from_pretrained(WEIGHTS),
    "byte level": lambda: trained(THINKING, pre=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "byte level behind a space": lambda: trained(THINKING, pre=pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "a mark where the text begins": lambda: trained(INST, pre=pre_tokenizers.Metaspace(prepend_scheme="first")),
    "a mark before every piece": lambda: trained(INST, pre=pre_tokenizers.Metaspace(prepend_scheme="always")),
    "as Llama 2": lambda: trained(INST, normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
    "marks that take the spaces around": lambda: trained(THINKING, pre=pre_tokenizers.ByteLevel(), lstrip=True, rstrip=True),
    "marks that are normalized": lambda: trained(
        THINKING, pre=pre_tokenizers.ByteLevel(), normalizer=normalizers.Lowercase(), normalized=True
    ),
    "marks that are normalized with what is before them": lambda: trained(INST, normalizer=normalizers.Prepend("▁"), normalized=True),
}


def unigram():
    """Train a tokenizer like T5's, which reads an unknown character as an added token."""
    kind = Tokenizer(models.Unigram())
    kind.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    kind.train_from_iterator(TEXTS, trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False))  # noqa: S106
    return PreTrainedTokenizerFast(
        tokenizer_object=kind, chat_template=PLAIN, **dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=True))
    )


KINDS["characters that are unknown"] = unigram


def grown(draw, chat):
    """Return the next prompt of a chat: with one more round, or with an earlier message changed."""
    if len(chat) > 1 and draw.random() < 0.3:
        at = draw.randrange(len(chat))
        return [{**message, "content": draw.choice(PIECES)} if place == at else message for place, message in enumerate(chat)]
    text = "".join(draw.choices(PIECES, k=3))
    return [*chat, {"role": "assistant", "content": text}, {"role": "user", "content": "".join(draw.choices(PIECES, k=2))}]


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_are_those_of_the_whole(kind):
    tokenizer, draw = KINDS[kind](), random.Random(0)
    for _ in range(20):
        known, chat = PromptTokens(), [{"role": "user", "content": draw.choice(PIECES)}]
        for _ in range(8):
            assert known.tokenize(tokenizer, chat) == chat_ids(tokenizer, chat), chat
            chat = grown(draw, chat)


class Counted(PreTrainedTokenizerFast):
    """A tokenizer that remembers the text it was given."""

    def __call__(self, text, **options):
        self.given = text
        return super().__call__(text, **options)


@pytest.mark.parametrize("last", ["And then?", "What else?"])
def test_only_what_is_new_is_tokenized(last):
    tokenizer, known = Counted.from_pretrained(WEIGHTS), PromptTokens()
    chat = [{"role": "user", "content": "Tell me more."}, {"role": "assistant", "content": "A velt hook."}] * 4
    known.tokenize(tokenizer, [*chat, {"role": "user", "content": "And then?"}])
    assert "Tell me more." in tokenizer.given
    again = [*chat, {"role": "user", "content": last}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Why?"}]
    assert known.tokenize(tokenizer, again) == chat_ids(Counted.from_pretrained(WEIGHTS), again)
    assert "Why?" in tokenizer.given
    assert "Tell me more." not in tokenizer.given


def test_what_can_not_be_tokenized_is_said_in_a_line():
    known, tokenizer = PromptTokens(), AutoTokenizer.from_pretrained(WEIGHTS)
    with pytest.raises(NbtuneError, match="rejects this conversation"):
        known.tokenize(tokenizer, [{"role": "user", "content": "half \ud83d of it"}])


def test_a_prompt_that_is_kept_is_not_changed_by_the_next():
    tokenizer, known = AutoTokenizer.from_pretrained(WEIGHTS), PromptTokens()
    chat = [{"role": "user", "content": "Tell me more."}]
    first = known.tokenize(tokenizer, chat)
    before = list(first)
    known.tokenize(tokenizer, [*chat, {"role": "assistant", "content": "No."}, *chat])
    assert first == before
