"""Whether what a user says next says that the answer before was no good: by rules, in several languages.

A rule that fires wrongly makes noise in both arms, one that does not fire costs power; so each is as narrow as it can
be without a model, looks at the beginning of a short text, and `tests/policies/test_complaints.py` measures its
precision on a table of cases.

* **complaint**: "that's wrong", "nein, ich meinte", "ce n'est pas ce que".
* **again**: "try again", "nochmal", "再试一次".
* **same**: the very text of the question before.
* **similar**: its words in another order, or with more of them. Where words are only exchanged for others ("a test for
  `read`", "a test for `write`"), or numbers differ, it is another question.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, Literal

__all__ = ["Rule", "complaint_in"]

Rule = Literal["complaint", "again", "same", "similar"]

_LONGEST: Final = 400
"""Characters of a complaint; longer texts are new work."""
_LONGEST_COMPARED: Final = 2000
_FEWEST_WORDS: Final = 4
_CONTAINED: Final = 0.8
"""Share of the shorter text's words that the longer one has."""
_ALIKE: Final = 0.5
"""Jaccard similarity of the words."""
_MOST_EXCHANGED: Final = 3

_COMPLAINTS: Final = r"""
(?:no|nope)[,.!]? (?:that|this|it)(?:'s| is| was)? (?:not|wrong)
(?:sorry,? |but |hmm,? )?(?:that|this|it)(?:'s| is| was)? (?:still )?(?:wrong|incorrect|not (?:right|correct|true))
(?:sorry,? |but |hmm,? )?(?:that|this|it)(?:'s| is| was) (?:still )?not (?:what i|working)
(?:sorry,? |but |hmm,? )?(?:that|this|it) (?:still )?(?:does|did)(?:n't| not) (?:work|help|answer|make sense)
(?:sorry,? |but |no,? )?you(?:'re| are) (?:wrong|mistaken|misunderstanding)
(?:sorry,? |but |no,? )?you (?:misunderstood|ignored|did(?:n't| not) (?:answer|read|understand)|missed the)
(?:no,? |sorry,? )?(?:that's |this is )?not what i (?:asked|meant|wanted|said)
(?:no,? |sorry,? )?i (?:meant|did(?:n't| not) ask|already told you|asked (?:you )?(?:for|about|to))\b
(?:no,? )i said\b
wrong(?:[.!,]| answer|$)
this is (?:useless|nonsense|rubbish|garbage)
nein[,.!]? (?:das|so|ich|du|sie|es)\b
(?:das|es) (?:ist|war|stimmt) (?:so |leider |immer noch |aber )?(?:falsch|nicht (?:richtig|korrekt|was))
(?:das|es) stimmt (?:so |leider |immer noch |aber )?nicht
(?:das|es) (?:funktioniert|geht|klappt|hilft) (?:so |leider |immer noch |mir )*nicht
falsch[.!,]?(?: |$)
(?:so |das )?(?:habe|hab) ich (?:das )?nicht (?:gemeint|gefragt|gesagt)
ich (?:meinte|habe (?:dich |sie )?nach)\b
du hast (?:mich |meine frage )?(?:falsch|nicht|die frage nicht)
non[,.!]? (?:ce|c'est|ça|je|tu|vous)\b
(?:ce n'est|c'est|ça n'est) (?:toujours )?(?:pas (?:ce que|ça|correct|juste|bon)|faux)
(?:ça|cela) ne (?:marche|fonctionne|répond|m'aide) (?:toujours )?pas
je (?:voulais dire|n'ai pas demandé)
tu (?:te trompes|n'as pas)
no[,.!] (?:eso|esto|no|yo|me)\b
(?:eso|esto|así) no (?:es|funciona|sirve|responde)
(?:eso |esto )?est[aá] mal\b
(?:es|eso es) (?:incorrecto|falso)
no (?:es lo que|te pedí|pregunté|me refería)
me refería a\b
quise decir\b
no[,.!] (?:non|intendevo|questo)\b
(?:questo |così )?non (?:è (?:corretto|giusto|quello che|vero)|funziona|era quello)
(?:è )?sbagliato\b
intendevo\b
não[,.!] (?:isso|eu|não)\b
(?:isso|isto) (?:não (?:é|está|funciona|responde)|está errado)
(?:está )?errado\b
eu quis dizer\b
não foi (?:isso|o que)
nee[,.!]? (?:dat|dit|ik|je)\b
(?:dat|dit) (?:is|klopt|werkt) (?:nog steeds |echt )?(?:niet|fout|onjuist)
ik bedoelde\b
нет[,.!]? (?:это|я|ты|вы|не)\b
(?:это )?(?:неправильно|неверно|не то|не работает|не помогло)\b
я (?:имела? в виду|не (?:это|об этом) (?:просил|спрашивал))
(?:不对|不是这个|不是这样|错了|你(?:理解)?错了|我(?:的意思)?是说|我不是(?:问|说)|还是不(?:行|对))
(?:違います|違う|いいえ、|そうじゃな|間違って|それは間違|そういう意味じゃ)
"""
_AGAIN: Final = r"""
(?:please,? |ok,? |can you |could you )?try (?:it |this |that )?(?:once )?(?:again|one more time)\b
(?:please,? |ok,? |can you |could you )?(?:regenerate|redo (?:it|this|that)|(?:do|rewrite) (?:it|that) again)\b
(?:bitte )?(?:versuche? es |mache? (?:das|es) )?(?:noch ?mal|noch einmal|erneut)(?: bitte)?[.!]?$
(?:bitte )?versuch(?:e|en sie)? es (?:noch ?mal|noch einmal|erneut)
(?:réessaie|réessayez|essaie encore|recommence|encore une fois)\b
(?:inténtalo|intenta|prueba|hazlo) (?:de nuevo|otra vez)
(?:riprova|prova di nuovo|rifallo)\b
(?:tente|tenta|faça) (?:de novo|novamente)
(?:probeer|doe) het (?:opnieuw|nog (?:een )?keer)
(?:попробуй(?:те)?|давай) (?:ещё|еще) раз
(?:再试一次|再来一次|重新(?:生成|回答)|重写)
(?:もう一度|やり直し)
"""
"""A rule a line: English, German, French, Spanish, Italian, Portuguese, Dutch, Russian, Chinese, Japanese."""


def _any_of(rules: str) -> re.Pattern[str]:
    return re.compile("|".join(rules.split("\n")[1:-1]))


_COMPLAINT: Final = _any_of(_COMPLAINTS)
_RETRY: Final = _any_of(_AGAIN)
_BUT_NO: Final = re.compile(
    r"(?:wrong|sorry|falsch)[^.!?]{0,12}(?:never mind|my (?:bad|mistake)|mein fehler)|nothing wrong"
)
"""What takes back what it begins with."""
_WORD: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_]+")
"""Scripts written without spaces: every character is a word."""
_ASCII: Final = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))
"""For `str.translate`: the same words, in lower case and with spaces between them, three times as fast."""


def complaint_in(said: str, question: str | None) -> Rule | None:
    """The rule by which `said` complains about the answer to `question`, or asks the same again; None where it does
    not. `question` is None where only what is said now is known."""
    text = said.strip()
    if len(text) <= _LONGEST:
        folded = text.casefold().replace("’", "'")
        if _RETRY.match(folded):
            return "again"
        if _COMPLAINT.match(folded) and not _BUT_NO.search(folded):
            return "complaint"
    if question is None or len(text) > _LONGEST_COMPARED or len(question) > _LONGEST_COMPARED:
        return None
    if text == question.strip():
        return "same"
    return "similar" if _similar(text, question) else None


def _similar(text: str, question: str) -> bool:
    here, there = _words(text), _words(question)
    fewer, more = sorted((len(here), len(there)))
    if fewer < _FEWEST_WORDS or fewer < _ALIKE * more:
        return False
    known = sum(map(frozenset(there).__contains__, here))
    if known < _CONTAINED * fewer or known < _ALIKE * (fewer + more - known):
        return False  # nearly all are told by this, without counting how often each word occurs
    one, other = Counter(here), Counter(there)
    common = (one & other).total()
    if common < _CONTAINED * fewer or common < _ALIKE * (fewer + more - common):
        return False
    only_here, only_there = one - other, other - one
    if not all(word.isalpha() for word in only_here + only_there):
        return False  # 17 is no wording of 18, and `read2` none of `read3`
    return not (only_here and only_here.total() == only_there.total() <= _MOST_EXCHANGED)


def _words(text: str) -> list[str]:
    return text.translate(_ASCII).split() if text.isascii() else _WORD.findall(text.casefold())
