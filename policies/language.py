"""In which language a text is, by its script and its small words; nothing where that is not clear.

Good enough to see that a model answers in another language than it was asked in. Languages that share a script without
being in the lists are unknown, as are short texts, tables and code: an unknown language is never a difference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Final

__all__ = ["language"]

_READ: Final = 4000
"""Characters that are looked at."""
_FEWEST_LETTERS: Final = 20
"""Of a script that has an alphabet; a few words of Chinese, Japanese or Korean are told by six."""
_FEWEST_SIGNS: Final = 6
_CLEAR: Final = 0.7
"""Share of the letters that are of one script."""
_FEWEST_WORDS: Final = 3
_AHEAD: Final = 1.5
"""Times as many small words as of the next language."""

_NO_PROSE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[^>\n]{1,80}>", re.DOTALL)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_ASCII_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)?")
_ASCII: Final = "".join(chr(code).lower() if chr(code).isalpha() else " " for code in range(128))
"""For `str.translate`: the same words, in lower case and with spaces between them, where there is no apostrophe."""
_SCRIPTS: Final = {
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+"),
    "cyrillic": re.compile(r"[\u0400-\u052f]+"),
    "greek": re.compile(r"[\u0370-\u03ff]+"),
    "arabic": re.compile(r"[\u0600-\u06ff]+"),
    "hebrew": re.compile(r"[\u0590-\u05ff]+"),
    "devanagari": re.compile(r"[\u0900-\u097f]+"),
    "bengali": re.compile(r"[\u0980-\u09ff]+"),
    "tamil": re.compile(r"[\u0b80-\u0bff]+"),
    "thai": re.compile(r"[\u0e00-\u0e7f]+"),
    "georgian": re.compile(r"[\u10a0-\u10ff]+"),
    "hangul": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]+"),
    "kana": re.compile(r"[\u3040-\u30ff]+"),
    "han": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+"),
}
_ONE_LANGUAGE: Final = {"greek": "el", "hebrew": "he", "devanagari": "hi", "bengali": "bn", "tamil": "ta",
                        "thai": "th", "georgian": "ka", "hangul": "ko"}  # fmt: skip
"""Of scripts in which nearly everybody writes one language."""
_EAST: Final = ("han", "kana", "hangul")
_KANA_IN_JAPANESE: Final = 0.1
_PERSIAN: Final = re.compile(r"[پچژگ]")
_UKRAINIAN: Final = re.compile(r"[іїєґІЇЄҐ]")
_SMALL_WORDS: Final = {
    "en": "the and of to is that it for you with are this be have not was on your can will or if which they there an",
    "de": "der die das und ist nicht ein eine zu den mit sie ich für auf dem wir es wie werden auch sich von oder",
    "fr": "le la les des et est une que pour dans vous ne pas je il ce qui sur avec sont plus du votre nous au ou être",
    "es": "el los las una y que es en por para con del se su no lo como más pero está son puede al este tu hay",
    "it": "il lo gli una e che di è per con non sono del della si questo come più ma anche nel puoi alla dei ha",
    "pt": "os as uma e que é em por para com do da não se você como mais mas está são pode ao seu isso um na no",
    "nl": "de het een en van is niet op je dat met zijn voor ik er aan ook maar wordt deze kan als bij uit naar",
    "sv": "och att det är som en på för inte av med den jag du kan har om ett till från eller vi så men din",
    "da": "og at det er som en på for ikke af med den jeg du kan har om et til fra eller vi så men din",
    "pl": "i w nie na to się że jest z do jak co tak ale dla czy od po przez są może który być tego ten",
    "tr": "ve bir bu için ile de da ne çok daha gibi olarak var olan kadar sonra ben sen değil mi en her",
    "id": "yang dan di untuk dengan ini itu dari tidak pada adalah akan atau anda ke dalam bisa juga saya karena",
    "vi": "và là của có không cho một các với được trong này bạn để những người tôi khi thì đã nếu",
    "ro": "și este nu în pe cu care o la de un să mai din pentru sunt ca dar se fi ce sau",
    "cs": "a je se na v že to s z do pro jsou jako ale není by co tak být nebo který po jak",
    "fi": "ja on ei se että ovat tai kun niin mutta voi olla ole tämä hän joka myös sen kuin mitä",
}  # fmt: skip
_LANGUAGES_OF: Final = {
    word: tuple(name for name, words in _SMALL_WORDS.items() if word in words.split())
    for word in " ".join(_SMALL_WORDS.values()).split()
}
"""By small word."""


def language(text: str) -> str | None:
    """ISO 639-1 code of the language that `text` is written in; None where it is short, mixed, or no known one."""
    prose = _NO_PROSE.sub(" ", text[:_READ])
    if prose.isascii():  # most texts: no other script can be there
        words = _ASCII_WORD.findall(prose.lower()) if "'" in prose else prose.translate(_ASCII).split()
        letters = "".join(words).replace("'", "")
        return None if len(letters) < _FEWEST_LETTERS else _latin(words)
    counts = {name: len("".join(letters.findall(prose))) for name, letters in _SCRIPTS.items()}
    total = sum(counts.values())
    if not total:
        return None
    if (eastern := _eastern(counts, total)) is not None:
        return eastern
    script = max(counts, key=lambda name: counts[name])
    if counts[script] < _FEWEST_LETTERS or counts[script] < _CLEAR * total:
        return None
    match script:
        case "latin":
            return _latin(map(str.lower, _WORD.findall(prose)))
        case "cyrillic":
            return "uk" if _UKRAINIAN.search(prose) else "ru"
        case "arabic":
            return "fa" if _PERSIAN.search(prose) else "ar"
        case _:
            return _ONE_LANGUAGE.get(script)


def _eastern(counts: dict[str, int], total: int) -> str | None:
    signs = sum(counts[name] for name in _EAST)
    if signs < _FEWEST_SIGNS or signs < 0.4 * total:  # words of the West stand among them, and are long
        return None
    if counts["hangul"] > signs / 2:
        return "ko"
    return "ja" if counts["kana"] > _KANA_IN_JAPANESE * signs else "zh"


def _latin(words: Iterable[str]) -> str | None:
    found = Counter(chain.from_iterable(filter(None, map(_LANGUAGES_OF.get, words)))).most_common()
    if not found:
        return None
    (name, first), second = found[0], found[1][1] if len(found) > 1 else 0
    return name if first >= _FEWEST_WORDS and first >= _AHEAD * second else None
