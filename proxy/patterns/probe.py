"""Is a pattern of Python's `re` linear? It is timed on hostile texts, made of what the pattern itself asks for.

In a process apart, which the kernel ends when it takes too long: a bad pattern would not come back. That a pattern
passes proves nothing, for nobody can try every text; that it fails is shown.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path
from time import process_time
from typing import Any, Final

from proxy.patterns.translate import parsed

__all__ = ["slow_patterns"]

_SHORT, _LONG = 1_000, 4_000
_RATIO: Final = 9.0
"""Four times the text takes a linear pattern four times as long, a quadratic one sixteen times."""
_NOTABLE_S: Final = 0.0005
_LIMIT_S: Final = 1.0
_MOST_TEXTS: Final = 40
_PACKAGES: Final = str(Path(__file__).resolve().parents[2])
_CODE: Final = "import sys; sys.path.insert(0, {root!r}); from proxy.patterns.probe import main; main()"


def slow_patterns(patterns: Iterable[str]) -> list[str]:
    """Those for whose search a text was found that takes more than linear time. Takes a second or two for each."""
    return [pattern for pattern in patterns if _is_slow(pattern)]


def _is_slow(pattern: str) -> bool:
    code = _CODE.format(root=_PACKAGES)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], input=json.dumps(pattern).encode(), capture_output=True, check=False
    )
    return done.returncode == -signal.SIGALRM or done.stdout.strip() == b"slow"


def main() -> None:
    """In the process: say `slow` or `fine`, or do not come back."""
    pattern = json.loads(sys.stdin.buffer.read())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    compiled = re.compile(pattern)
    for unit in islice(_units(pattern), _MOST_TEXTS):
        signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)
        if _grows(compiled, unit) and _grows(compiled, unit):  # once may be the machine
            sys.stdout.write("slow")
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write("fine")


def _grows(compiled: re.Pattern[str], unit: str) -> bool:
    """Whether searching a text four times as long takes more than twice four times as long. A text of repetitions ends
    with something that fits nowhere, so that all that was tried is tried again."""
    short, long = (_time_s(compiled, unit * (size // len(unit)) + "\0") for size in (_SHORT, _LONG))
    return long > _NOTABLE_S and long > _RATIO * short


def _time_s(compiled: re.Pattern[str], text: str) -> float:
    best = float("inf")
    for _ in range(3):
        started = process_time()
        for _ in compiled.finditer(text):
            pass
        best = min(best, process_time() - started)
    return best


def _units(pattern: str) -> Iterator[str]:
    """What hostile texts repeat: a text that matches without its end, characters that the pattern asks for, pairs."""
    items, _ = parsed(pattern)
    sample = _sample(items)
    alphabet = list(dict.fromkeys((*islice(_characters(items), 5), "a", "1", " ")))
    yield from alphabet
    if len(sample) > 1:
        yield from (sample[:-1], sample)
    yield from (first + second for first, second in product(alphabet, repeat=2) if first != second)


def _sample(items: Any) -> str:
    """A text that matches, about."""
    text = ""
    for code, value in items:
        match str(code):
            case "LITERAL":
                text += chr(value)
            case "ANY" | "NOT_LITERAL" | "IN":
                text += next(_characters([(code, value)]), "a")
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                text += _sample(value[2]) * min(max(value[0], 1), 20)
            case "SUBPATTERN":
                text += _sample(value[3])
            case "ATOMIC_GROUP":
                text += _sample(value)
            case "BRANCH":
                text += _sample(value[1][0])
    return text


_OF_CLASS: Final = {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}


def _characters(items: Any) -> Iterator[str]:
    """One character of each set and literal that the pattern asks for."""
    for code, value in items:
        match str(code):
            case "LITERAL":
                yield chr(value)
            case "IN":
                for what, member in value:
                    if str(what) == "LITERAL":
                        yield chr(member)
                    elif str(what) == "RANGE":
                        yield chr(member[0])
                    elif str(what) == "CATEGORY":
                        yield _OF_CLASS.get(str(member), "-")
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                yield from _characters(value[2])
            case "SUBPATTERN":
                yield from _characters(value[3])
            case "ATOMIC_GROUP":
                yield from _characters(value)
            case "BRANCH":
                for branch in value[1]:
                    yield from _characters(branch)
            case "ASSERT" | "ASSERT_NOT":
                yield from _characters(value[1])
