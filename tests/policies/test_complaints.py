"""What users say next, and whether it complains: a table of cases, and the precision of each rule on it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.complaints import _WORD, _similar, _words, complaint_in

ASKED = "How do I read a large file in Python?"
COMPLAINS = {
    "complaint": (
        "That's wrong, it loads everything at once.",
        "no, that is not what I asked",
        "This doesn't work: NameError",
        "It still does not work",
        "You misunderstood my question",
        "You didn't answer the question.",
        "I meant line by line",
        "i asked for Python, not Ruby",
        "Wrong.",
        "Sorry, that’s incorrect",
        "Nein, das meinte ich nicht",
        "Das ist leider falsch",
        "Das funktioniert so nicht",
        "Ich meinte zeilenweise",
        "Das stimmt nicht",
        "Non, ce n'est pas ça",
        "Ça ne marche pas",
        "Je voulais dire ligne par ligne",
        "No, eso no es correcto",
        "Eso no funciona",
        "Me refería a líneas",
        "Non è corretto",
        "Non funziona",
        "Não, isso está errado",
        "Isso não funciona",
        "Dat klopt niet",
        "Nee, dat bedoel ik niet",
        "Нет, это не то",
        "Не работает",
        "不对,我是说逐行读取",
        "错了",
        "違います。一行ずつです",
    ),
    "again": (
        "Try again",
        "please try that once again",
        "Regenerate",
        "Can you redo this?",
        "nochmal",
        "Versuch es noch einmal",
        "Réessaie",
        "Inténtalo de nuevo",
        "Riprova",
        "Tente novamente",
        "Probeer het opnieuw",
        "Попробуй ещё раз",
        "再试一次",
        "もう一度お願いします",
    ),
    "same": (ASKED, f"  {ASKED} "),
    "similar": (
        "In Python, how do I read a large file?",
        "How do I read a large file in Python, line by line?",
        "How do I read a very large file in Python without loading it",
        "how do i read a large text file in python",
    ),
}
DOES_NOT = (
    "Thanks!",
    "That works, thank you",
    "No, thanks",
    "No problem, that's all",
    "That's right",
    "This is not urgent, but can you add logging?",
    "What is wrong with my code below?",
    "There is nothing wrong with that. Next: how do I write one?",
    "Sorry, my mistake, it works",
    "You are right",
    "Is it wrong to use readlines()?",
    "I said hello to the new colleague, write her a welcome mail",
    "How do I write a large file in Python?",
    "How do I read a small file in Python?",
    "How do I read a large file in Ruby?",
    "Now explain generators.",
    "And for binary files?",
    "Nein danke",
    "Ich habe noch eine Frage",
    "Das ist nicht schlimm. Wie schreibe ich eine Datei?",
    "Noch einmal vielen Dank für die Hilfe mit der Datei",
    "Non merci",
    "C'est parfait",
    "No sé cómo abrir el archivo",
    "No tengo más preguntas",
    "Non lo so, dimmi tu",
    "Não sei, explique mais",
    "Nee hoor, dank je",
    "Нет, спасибо",
    "好的,谢谢",
    "对,继续",
    "ありがとうございます",
    "Translate 'that is wrong' to French",
    "Write a letter that says: this doesn't work.",
    "Does it work on Windows?",
    "I tried again and it works now",
)


@pytest.mark.parametrize(("rule", "said"), [(rule, said) for rule, texts in COMPLAINS.items() for said in texts])
def test_a_complaint_is_heard(rule: str, said: str) -> None:
    assert complaint_in(said, ASKED) == rule


@pytest.mark.parametrize("said", DOES_NOT)
def test_what_is_none_is_not(said: str) -> None:
    assert complaint_in(said, ASKED) is None


def test_each_rule_is_right_in_most_of_the_cases_that_it_takes() -> None:
    """Precision on the table: of the texts that a rule takes, the share that complain."""
    cases = [(said, True) for texts in COMPLAINS.values() for said in texts] + [(said, False) for said in DOES_NOT]
    taken: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for said, complains in cases:
        if (rule := complaint_in(said, ASKED)) is not None:
            taken[rule] += 1
            right[rule] += complains
    assert {rule: right[rule] / taken[rule] for rule in taken} == dict.fromkeys(COMPLAINS, 1.0)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What is 17 + 4 in hexadecimal notation?", "What is 18 + 4 in hexadecimal notation?"),
        ("Write a unit test for the function read", "Write a unit test for the function write"),
        ("Translate good morning to French please", "Translate good morning to German please"),
        ("Yes", "Yes please do"),
    ],
)
def test_the_same_words_with_another_item_are_another_question(question: str, said: str) -> None:
    assert complaint_in(said, question) is None


def test_without_the_question_only_what_is_said_counts() -> None:
    assert complaint_in("That's wrong", None) == "complaint"
    assert complaint_in(ASKED, None) is None


def test_a_long_text_is_new_work() -> None:
    assert complaint_in("That's wrong. " + "More to do. " * 50, None) is None


WORDS = st.sampled_from(
    [*"abcdef-☃", "read", "Read", "READ2", "17", "18", "don't", "x_y", "Straße", "STRASSE", "İ", "漢字"]
)
TURNS = st.lists(WORDS, max_size=14)


def plainly_similar(text: str, question: str) -> bool:
    """The definition, over all words of both."""
    one, other = (Counter(_WORD.findall(said.casefold())) for said in (text, question))
    fewer, common = min(one.total(), other.total()), (one & other).total()
    if fewer < 4 or common < 0.8 * fewer or common < 0.5 * (one | other).total():
        return False
    only_here, only_there = one - other, other - one
    exchanged = only_here.total() == only_there.total()
    return all(word.isalpha() for word in only_here + only_there) and not (0 < only_here.total() <= 3 and exchanged)


@given(TURNS, TURNS, TURNS)
def test_what_is_told_without_counting_words_is_what_counting_them_tells(
    both: list[str], here: list[str], there: list[str]
) -> None:
    text, question = " ".join([*both, *here]), " ".join([*there, *both])
    assert _similar(text, question) == plainly_similar(text, question)
    assert _similar(text, text) == plainly_similar(text, text)


@given(st.text() | st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_the_same_as_any(text: str) -> None:
    assert _words(text) == _WORD.findall(text.casefold())
