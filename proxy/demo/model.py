"""The demo's model: TF-IDF over word parts, logistic regression over topics.

It really learns: what it knows is what stood in its training file. Below `CONFIDENT` it declines to answer, as a
careful assistant would. scikit-learn trains; a trained model is plain arrays, so that its server needs neither
scikit-learn's import (seconds) nor its checks (milliseconds a question).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, hypot, log
from pathlib import Path
from typing import Any

import numpy as np

from proxy.demo.world import REFUSAL, TOPICS, topic_of

__all__ = ["CONFIDENT", "Assistant", "fit", "read_chatml", "terms"]

CONFIDENT = 0.2


def terms(text: str) -> list[str]:
    """The 3- and 4-letter parts of each word, edges marked by a space: robust against typing errors."""
    words = [f" {word} " for word in text.lower().split()]
    return [word[at : at + n] for word in words for n in (3, 4) for at in range(max(1, len(word) - n + 1))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A trained model over V terms and T topics."""

    vocabulary: dict[str, int]
    """Term → column."""
    idf: Any
    """Inverse document frequency of each term, shape (V,)."""
    coefficients: Any
    """Shape (T, V)."""
    intercepts: Any
    """Shape (T,)."""
    titles: list[str]
    """The topics, in the order of the rows."""

    def answer(self, question: str) -> str:
        """The answer whose topic is most likely, or a refusal when no topic is likely enough."""
        title, probability = self.classify(question)
        return TOPICS[title].answer if probability >= CONFIDENT else REFUSAL

    def classify(self, question: str) -> tuple[str, float]:
        """The most likely topic's title and its probability."""
        counts = Counter(self.vocabulary[term] for term in terms(question) if term in self.vocabulary)
        scores = self.intercepts.copy()
        if counts:
            columns = list(counts)
            weights = [(1 + log(n)) * self.idf[column] for column, n in counts.items()]
            scores += self.coefficients[:, columns] @ np.divide(weights, hypot(*weights))
        best = int(scores.argmax())
        return self.titles[best], 1 / sum(exp(score - scores[best]) for score in scores)

    def save(self, path: Path) -> None:
        """Write the model to `path` (a .npz file) in one step: a reader never sees half of it."""
        scratch = path.with_name(f"{path.stem}.tmp.npz")
        np.savez_compressed(
            scratch,
            vocabulary=np.array(sorted(self.vocabulary, key=self.vocabulary.__getitem__)),
            idf=self.idf,
            coefficients=self.coefficients,
            intercepts=self.intercepts,
            titles=np.array(self.titles),
        )
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path) -> Assistant:
        """Read what `save` wrote; raises OSError or ValueError where it is no such file."""
        with np.load(path, allow_pickle=False) as data:
            return cls(
                vocabulary={str(term): column for column, term in enumerate(data["vocabulary"])},
                idf=data["idf"],
                coefficients=data["coefficients"],
                intercepts=data["intercepts"],
                titles=[str(title) for title in data["titles"]],
            )


def fit(pairs: Iterable[tuple[str, str]]) -> Assistant:
    """Train on (question, topic title) pairs; raises ValueError when fewer than two topics occur."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    questions, titles = zip(*pairs, strict=True)
    vectorizer = TfidfVectorizer(analyzer=terms, sublinear_tf=True)
    classifier = LogisticRegression(C=30.0, max_iter=300)
    classifier.fit(vectorizer.fit_transform(questions), titles)
    return Assistant(
        vocabulary={term: int(column) for term, column in vectorizer.vocabulary_.items()},
        idf=vectorizer.idf_,
        coefficients=classifier.coef_,
        intercepts=classifier.intercept_,
        titles=[str(title) for title in classifier.classes_],
    )


def read_chatml(path: Path) -> list[tuple[str, str]]:
    """(question, topic title) of every line of a chatml file whose answer names a topic."""
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            messages = json.loads(line)["messages"]
            title = topic_of(messages[-1]["content"])
            if title is not None:
                pairs.append((messages[-2]["content"], title))
    return pairs
