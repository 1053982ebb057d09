"""Facts of how an answer behaves: one bit each, and words that a person reads."""

from hypothesis import given
from hypothesis import strategies as st

from policies.behaviour import Behaviour, behaviour_words, of_defects


def test_defects_of_the_format_check_that_are_behaviour() -> None:
    assert of_defects(()) == of_defects(("repetition", "empty")) == 0
    assert of_defects(("refusal", "invalid_json", "malformed")) == Behaviour.DECLINED | Behaviour.MALFORMED
    assert behaviour_words(of_defects(("truncated",)) | Behaviour.LANGUAGES) == ["truncated"]


@given(st.integers(0, 2 * max(Behaviour) - 1))
def test_every_bit_but_one_has_a_word_of_its_own(bits: int) -> None:
    words = behaviour_words(bits)
    assert len(words) == (bits & ~Behaviour.LANGUAGES).bit_count()
    assert all(bits & Behaviour[word.upper()] for word in words)
