"""The line of a magic: options first, then the text exactly as typed."""

import pytest

from nbtune.errors import NbtuneError
from nbtune.magics.chat import ChatMagics
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.options import fill_variables, parse


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-o reply what {is} 'this'", "what {is} 'this'"),
        ("--rounds 0 --new a -- b", "a -- b"),
        ("-- --rounds is an option", "--rounds is an option"),
        ('{"a": [1, {}]} "quoted"', '{"a": [1, {}]} "quoted"'),
        ("-3+5=?", "-3+5=?"),
        ("", ""),
    ],
)
def test_text_is_kept_as_typed(line, text):
    assert parse(ChatMagics.chat, line)[1] == text


def test_options_may_stand_behind_a_keyword():
    options, keyword = parse(FinetuneMagics.finetune, "blue kettle --epochs 5 --name='my adapter'", anywhere=True)
    assert (options.epochs, options.name, keyword) == (5, "my adapter", "blue kettle")


@pytest.mark.parametrize(
    ("line", "keyword"),
    [
        ("rock 'n' roll", "rock 'n' roll"),
        ('the "Big Bend" rule --epochs 5', 'the "Big Bend" rule'),
        ('"blue  kettle" --epochs 5', "blue  kettle"),
        ("--epochs 5 'a'", "a"),
        ("-- '--epochs'", "'--epochs'"),
        ("'Abd al-Qadir al-Jaza'iri", "'Abd al-Qadir al-Jaza'iri"),
        ("'Allo 'Allo!", "'Allo 'Allo!"),
        ('"Big"-Bang theory', '"Big"-Bang theory'),
    ],
)
def test_quotes_around_a_keyword_go_and_those_inside_stay(line, keyword):
    assert parse(FinetuneMagics.finetune, line, anywhere=True)[1] == keyword


def test_values_lose_their_quotes():
    options, text = parse(ChatMagics.chat, "--system \"Be brief, please.\" --temperature=0.5 -o 'x' hi")
    assert parse(ChatMagics.chat, '--system="Be brief" hi')[0].system == "Be brief"
    assert (options.system, options.temperature, options.output, text) == ("Be brief, please.", 0.5, "x", "hi")


@pytest.mark.parametrize(
    ("magic", "line", "message"),
    [
        (ChatMagics.chat, "--sytem x", "Did you mean --system?"),
        (ChatMagics.chat, "--temp 1 hi", "Did you mean --temperature?"),
        (FinetuneMagics.finetune, "--epoch 3 x", "Did you mean --epochs?"),
        (ChatMagics.chat, "--rounds", "--rounds needs a value"),
        (ChatMagics.chat, "--rounds two", "--rounds 'two': expected a whole number"),
        (FinetuneMagics.finetune, "--lr high x", "--lr 'high': expected a number"),
        (FinetuneMagics.finetune, "--skip-bad=no x", "--skip-bad takes no value"),
        (ChatMagics.chat, "--adapter --compare hi", "--adapter needs a value"),
        (ChatMagics.chat, '--system "You are kind what is it?', "The quote that opens the value of --system"),
        (ChatMagics.chat, "--system 'It's fine' hello", "The quote that opens the value of --system"),
        (ChatMagics.chat, '--system "He said "hi" to me" what?', "The quote that opens the value of --system"),
        (FinetuneMagics.finetune, "--help", "put a question mark after the magic"),
    ],
)
def test_bad_options_get_one_line(magic, line, message):
    with pytest.raises(NbtuneError) as caught:
        parse(magic, line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variables_are_filled_and_other_braces_stay():
    assert fill_variables('{"a": {name}} {} { {0}', {"name": 7}) == '{"a": 7} {} { {0}'
    with pytest.raises(NbtuneError, match="Did you mean answer"):
        fill_variables("{anwser}", {"answer": 1})
