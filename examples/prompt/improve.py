"""Improve a system prompt, and pick examples to show, from what users liked or corrected: no weights are trained.

    python improve.py DATA OUTPUT_DIR RESULT --url http://127.0.0.1:8000 --model NAME [--key-file FILE]

The optimiser is GEPA (https://github.com/gepa-ai/gepa): a model reads what went wrong with a prompt and writes a better
one, and what is better on answers that people preferred stays. The model under test may be behind any OpenAI-style
endpoint, and so may the one that reflects (`--reflect-url`, `--reflect-model`; by default it is the same).

The result is a rewrite: the same model, asked better. Ratchet checks it and tests it on users like any challenger.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import gepa
from gepa.core.adapter import EvaluationBatch
from gepa.strategies.instruction_proposal import InstructionProposalSignature

SHOWN = 3
"""Examples that are shown at most: each is paid for with every request."""
AT_ONCE = 8
LIKE = 5
"""Questions that are most like one that went wrong, among which an example is chosen."""
LONGEST_TRAIN, LONGEST_DEV = 100, 60
"""Samples: more of them make a run dearer, and the choice a little better."""
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Sample:
    """A question as the application asks it, and the answer that people preferred."""

    before: tuple[dict[str, str], ...]
    """The turns before the answer, without the system's."""
    answer: str

    @property
    def question(self) -> str:
        return self.before[-1]["content"]


class Endpoint:
    """An OpenAI-style endpoint: `ask(messages)` gives the text of the answer."""

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        self._url, self._model, self._key = f"{url.rstrip('/')}/v1/chat/completions", model, key
        self.calls = 0

    def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        body = json.dumps({"model": self._model, "messages": list(messages), "temperature": 0}).encode()
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        self.calls += 1
        with urllib.request.urlopen(urllib.request.Request(self._url, body, headers), timeout=TIMEOUT_S) as response:
            return str(json.load(response)["choices"][0]["message"]["content"] or "")

    def __call__(self, prompt: Any) -> str:
        return self.ask([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)


def read(path: Path) -> tuple[str, list[Sample]]:
    """The system prompt that is most frequent in the training file, and its lines as samples, each once."""
    systems: Counter[str] = Counter()
    samples: dict[str, Sample] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        *before, answer = json.loads(line)["messages"]
        texts = [turn for turn in before if isinstance(turn.get("content"), str)]
        if answer["role"] != "assistant" or not answer.get("content") or len(texts) < len(before):
            continue  # calls of tools and pictures: this example is about texts
        systems["\n\n".join(turn["content"] for turn in before if turn["role"] == "system")] += 1
        turns = tuple({"role": t["role"], "content": t["content"]} for t in before if t["role"] != "system")
        if turns:
            samples.setdefault(json.dumps(turns), Sample(turns, answer["content"]))
    return (systems.most_common(1)[0][0] if systems else ""), list(samples.values())


def in_use(output_dir: Path) -> dict[str, Any]:
    """How the champion is asked otherwise than the application asks: Ratchet leaves it in the run's folder."""
    found = output_dir / "rewrite.json"
    return dict(json.loads(found.read_text())) if found.exists() else {}


def score(answer: str, preferred: str) -> float:
    """1 for the preferred answer itself, else how many of its words it shares (F1). Put a measure of your own here."""
    said, wanted = (re.findall(r"\w+|[^\w\s]", text.lower()) for text in (answer, preferred))
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 1.0 if answer.strip() == preferred.strip() else 0.9 * 2 * shared / max(1, len(said) + len(wanted))


class Prompt:
    """What GEPA asks about: how good a prompt is, what went wrong with it, and what else might be tried."""

    def __init__(
        self, model: Endpoint, reflect: Endpoint, shelf: Sequence[Sample], tell: Callable[[int], None]
    ) -> None:
        self._model, self._reflect, self._shelf, self._tell = model, reflect, shelf, tell
        self._random = random.Random(0)

    def evaluate(self, batch: list[Sample], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outputs = list(pool.map(lambda sample: self._answer(sample, candidate), batch))
        self._tell(len(batch))
        scores = [score(answer, sample.answer) for answer, sample in zip(outputs, batch, strict=True)]
        return EvaluationBatch(outputs=outputs, scores=scores, trajectories=list(batch) if capture_traces else None)

    def _answer(self, sample: Sample, candidate: dict[str, str]) -> str:
        system = [{"role": "system", "content": candidate["system"]}] if candidate["system"] else []
        shown = [turn for example in self.shown(candidate) if example != sample for turn in example_turns(example)]
        try:
            return self._model.ask([*system, *shown, *sample.before])
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as exc:  # whatever came, it was no answer
            return f"[no answer: {type(exc).__name__}]"

    def shown(self, candidate: Mapping[str, str]) -> list[Sample]:
        """The examples of a candidate, which names them by their numbers."""
        return [self._shelf[number] for number in json.loads(candidate["examples"])]

    def make_reflective_dataset(self, candidate: dict[str, str], eval_batch: Any, components: list[str]) -> Any:
        records = [
            {
                "Inputs": sample.question,
                "Generated Outputs": answer,
                "Feedback": "right" if worth == 1 else f"people preferred: {sample.answer}",
                "sample": sample,
            }
            for sample, answer, worth in zip(
                eval_batch.trajectories, eval_batch.outputs, eval_batch.scores, strict=True
            )
        ]
        return dict.fromkeys(components, records)

    def propose_new_texts(self, candidate: dict[str, str], found: Any, components: list[str]) -> dict[str, str]:
        return {
            name: self._new_system(candidate, found[name]) if name == "system" else self._new_examples(candidate, found)
            for name in components
        }

    def _new_system(self, candidate: dict[str, str], found: Any) -> str:
        """A model reads what went wrong, and writes another prompt."""
        records = [{name: text for name, text in record.items() if name != "sample"} for record in found]
        given = {"current_instruction_doc": candidate["system"], "dataset_with_feedback": records,
                 "prompt_template": None}  # fmt: skip
        return InstructionProposalSignature.run(self._reflect, given)["new_instruction"]

    def _new_examples(self, candidate: dict[str, str], found: Any) -> str:
        """One more example, like a question that went wrong; where there are enough, in the place of another."""
        wrong = [record["sample"] for record in found["examples"] if record["Feedback"] != "right"]
        chosen = json.loads(candidate["examples"])
        if not wrong:
            return json.dumps(chosen)
        asked = self._random.choice(wrong).question
        others = [number for number, sample in enumerate(self._shelf) if sample.question != asked]
        like = sorted(others, key=lambda number: -score(self._shelf[number].question, asked))[:LIKE]
        if len(chosen) >= SHOWN:
            chosen.pop(self._random.randrange(len(chosen)))
        return json.dumps([*dict.fromkeys([*chosen, self._random.choice(like)])] if like else chosen)


def example_turns(sample: Sample) -> list[dict[str, str]]:
    """An example as two turns."""
    return [{"role": "user", "content": sample.question}, {"role": "assistant", "content": sample.answer}]


def improve(
    data: Path,
    used: Mapping[str, Any],
    model: Endpoint,
    reflect: Endpoint,
    *,
    calls: int,
    tell: Callable[[float, str], None],
) -> dict[str, Any]:
    """The result of the training: a rewrite, and how much better it was on samples that had no part in it.

    `used` is the rewrite in use: what is found has to be better than that.
    """
    own, samples = read(data)
    random.Random(0).shuffle(samples)
    dev = samples[: min(LONGEST_DEV, len(samples) // 2)]
    train = samples[len(dev) :][:LONGEST_TRAIN]
    if len(dev) < 4 or not train:
        sys.exit(f"{data} has {len(samples)} samples in texts; that is too few to choose a prompt by")
    shown = used.get("examples", [])
    shelf = [Sample((turn,), answer["content"]) for turn, answer in zip(shown[::2], shown[1::2], strict=True)]
    said = used.get("system", {})
    system = said.get("replace") or "\n\n".join(text for text in (said.get("prepend"), own) if text)
    seed = {"system": system, "examples": json.dumps(list(range(len(shelf))))}
    done = 0

    def count(asked: int) -> None:
        nonlocal done
        done += asked
        tell(min(1.0, done / calls), f"{done} of {calls} answers")

    prompt = Prompt(model, reflect, [*shelf, *train], count)
    found = gepa.optimize(
        seed_candidate=seed, trainset=train, valset=dev, adapter=prompt, max_metric_calls=calls,
        reflection_minibatch_size=min(8, len(train)), module_selector="round_robin", skip_perfect_score=True,
        logger=Silent(), seed=0,
    )  # fmt: skip
    best, before = found.best_candidate, found.val_aggregate_scores[0]
    after = found.val_aggregate_scores[found.best_idx]
    if after <= before:
        sys.exit(f"no better prompt was found: the one in use scores {before:.3f}")
    rewrite = {name: value for name, value in used.items() if name == "parameters"}
    if best["system"] != own:
        rewrite["system"] = {"replace": best["system"]}
    if best["examples"] != "[]":
        rewrite["examples"] = [turn for sample in prompt.shown(best) for turn in example_turns(sample)]
    return {"rewrite": rewrite, "score_before": before, "score_after": after, "candidates": found.num_candidates,
            "answers": model.calls}  # fmt: skip


class Silent:
    """Prompts and answers are users' words: no log has them."""

    def log(self, message: str) -> None:
        pass


def main() -> None:
    """One run: progress and result go where Ratchet looks for them."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "output_dir", "result"):
        options.add_argument(name, type=Path)
    options.add_argument("--url", required=True, help="base URL of the model's endpoint, without /v1")
    options.add_argument("--model", required=True)
    options.add_argument("--key-file", type=Path)
    options.add_argument("--reflect-url")
    options.add_argument("--reflect-model")
    options.add_argument("--calls", type=int, default=800, help="answers of the model that a run may take")
    given = options.parse_args()
    key = given.key_file.read_text().strip() if given.key_file else None
    model = Endpoint(given.url, given.model, key)
    reflect = Endpoint(given.reflect_url or given.url, given.reflect_model or given.model, key)

    def tell(fraction: float, message: str) -> None:
        progress = given.output_dir / "progress.json.tmp"
        progress.write_text(json.dumps({"fraction": fraction, "message": message}))
        progress.rename(given.output_dir / "progress.json")

    result = improve(given.data, in_use(given.output_dir), model, reflect, calls=given.calls, tell=tell)
    given.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
