"""What a vote may look like: our own form, and the forms of two others that people already send.

    ours        {"record_id": "…", "feedback": 1 | 0 | -1 | null, "comment", "correction", "quality_score",
                 "source", "tags", "signal": "copied"}
                {"record_id": "…", "conversation": true, …}, {"references": ["…", …], …} or
                {"conversation": "…", "user": "…", …}: one vote on a whole conversation
    Helicone    {"record_id": "…", "rating": true | false}
    TensorZero  {"inference_id": "…", "metric_name": "…", "value": true | 0.8 | "text", "tags"}

Pure: from decoded JSON to values. Whether an id is genuine is decided in `feedback.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policies.ballots import BallotTrust

__all__ = ["MAX_ID", "Vote", "VoteError", "idle_in", "parse_vote", "parse_votes", "redacted"]

_TEXT_LIMITS: Final = {"comment": 10_000, "correction": 200_000, "source": 200}
_MAX_TAGS: Final = 32
_MAX_TAG: Final = 200
MAX_ID: Final = 256
_MAX_NAME: Final = 1000
_MOST_REFERENCES: Final = 100
_SAYS_SOMETHING: Final = ("feedback", "comment", "correction", "quality_score", "signal")
_OF_ONE_ANSWER: Final = ("correction", "quality_score", "signal")
"""What cannot be said of a whole conversation."""
_NEEDS: Final = {
    "feedback": BallotTrust.THUMB,
    "quality_score": BallotTrust.SCORE,
    "correction": BallotTrust.CORRECTION,
}
_FIELDS: Final = frozenset({"record_id", "references", "conversation", "user", "source", "tags", *_SAYS_SOMETHING})


class VoteError(ValueError):
    """A vote that cannot be understood; `field` is the path of what is wrong, like `[3].feedback`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One understood vote."""

    record_id: str | None = None
    """As sent: a signed record id, or another name of the record."""
    references: tuple[str, ...] = ()
    """Several of a conversation, instead. Neither, where the vote names the conversation alone."""
    whole: bool = False
    """It is about the whole conversation, not about the records by themselves."""
    conversation: str | None = None
    """Which one, where it is named."""
    user: str | None = None
    """Who is in it, where no record says so."""
    says: Mapping[str, Any] = field(default_factory=dict)
    """feedback (None retracts), comment, correction, quality_score, signal: only those that were given."""
    source: str = "anonymous"
    """Who voted; one vote per record and source, where the token came with it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    external: str | None = None
    """Its id in the system that it comes from, with that system's name before it: the same id again is the same vote,
    in place of what it was. Where it names neither record nor conversation, it is on what that vote is on."""
    amends: bool = False
    """It changes the vote under that id: what it does not say stays."""
    other_names: tuple[str, ...] = ()
    """Further names of the same record: the first of all that is known tells which one is meant."""
    hashed_name: int | None = None
    """Instead of `record_id`, where only the hash of a record's other name is known (`keys.alias_hash`)."""

    @property
    def record_ids(self) -> tuple[str, ...]:
        """All that it names."""
        return self.references if self.record_id is None else (self.record_id,)


def parse_vote(
    item: Any,
    *,
    external: str | None = None,
    amends: bool = False,
    nameless: bool = False,
    other_names: Sequence[str] = (),
) -> Vote:
    """One vote in our form that another system's became, and its id there; raises VoteError. `nameless`: it names no
    record, for it is on what the vote under that id is on. `other_names`: further ones of the record."""
    if not nameless:
        others = tuple(_record_id(name, "") for name in other_names)
        return replace(_vote(item, ""), external=external, amends=amends, other_names=others)
    if external is None:
        raise ValueError("a vote that names nothing needs the id of another")
    return replace(_vote({**item, "record_id": "-"}, ""), record_id=None, external=external, amends=amends)


def parse_votes(document: Any, max_batch: int) -> list[Vote]:
    """The vote or the list of votes in `document`; raises VoteError for the first that is wrong."""
    if not isinstance(document, list):
        return [_vote(document, "")]
    if not document:
        raise VoteError("[]", "the list is empty; send at least one vote")
    if len(document) > max_batch:
        raise VoteError("[]", f"{len(document)} votes; send at most {max_batch} at a time")
    return [_vote(item, f"[{index}].") for index, item in enumerate(document)]


def idle_in(vote: Vote, trust: BallotTrust) -> list[str]:
    """What is said in vain by somebody who is believed so far: fields that need more. A retraction never does."""
    return [name for name, part in _NEEDS.items() if vote.says.get(name) is not None and part not in trust]


def _vote(item: Any, at: str) -> Vote:
    if not isinstance(item, Mapping):
        raise VoteError(at.rstrip(".") or "body", 'not an object; send {"record_id": …, "feedback": 1}')
    item = _own_form(item, at)
    for name in item:
        if name not in _FIELDS:
            raise VoteError(
                f"{at}{name[:60] or '(empty name)'}", f"unknown field; use one of {', '.join(sorted(_FIELDS))}"
            )
    says = {name: _check(name, item[name], at) for name in _SAYS_SOMETHING if name in item}
    if not says:
        raise VoteError(f"{at}feedback", f"the vote is empty; give at least one of {', '.join(_SAYS_SOMETHING)}")
    record_id, references = _records(item, at)
    conversation = _conversation(item.get("conversation"), at)
    whole = conversation is not None or item.get("conversation") is True or bool(references)
    if whole and (wrong := next((name for name in _OF_ONE_ANSWER if name in says), None)) is not None:
        raise VoteError(f"{at}{wrong}", "a conversation has none; send it for one answer, by its record_id alone")
    return Vote(
        record_id=record_id,
        references=references,
        whole=whole,
        conversation=conversation,
        user=_user(item, at, needless=record_id is not None or bool(references)),
        says=says,
        source=_check("source", item["source"], at) if item.get("source") is not None else "anonymous",
        tags=_tags(item.get("tags"), at),
    )


def _records(item: Mapping[str, Any], at: str) -> tuple[str | None, tuple[str, ...]]:
    """The record, or the several ones, that it names; none where it names a conversation alone."""
    record_id, references = item.get("record_id"), item.get("references")
    if references is None:
        alone = record_id is None and isinstance(item.get("conversation"), str)
        return (None if alone else _record_id(record_id, at)), ()
    if record_id is not None:
        raise VoteError(f"{at}references", "record_id is given, too; send one of the two")
    if not isinstance(references, list) or not 0 < len(references) <= _MOST_REFERENCES:
        raise VoteError(f"{at}references", f"not a list of 1 to {_MOST_REFERENCES} record ids")
    ids = [_record_id(one, at, f"references[{index}]") for index, one in enumerate(references)]
    return None, tuple(dict.fromkeys(ids))


def _conversation(value: Any, at: str) -> str | None:
    """The name; None where it is that of the record's."""
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, str) or not value.strip():
        raise VoteError(f"{at}conversation", "not true (that of the record), nor the id of a conversation")
    if len(value) > _MAX_NAME:
        raise VoteError(f"{at}conversation", f"{len(value)} characters; the limit is {_MAX_NAME}")
    return value


def _user(item: Mapping[str, Any], at: str, *, needless: bool) -> str | None:
    user = item.get("user")
    if user is None:
        return None
    if needless:
        raise VoteError(f"{at}user", "only for a conversation that is named without a record; leave it out")
    if not isinstance(user, str) or not user.strip() or len(user) > _MAX_NAME:
        raise VoteError(f"{at}user", f"not a name of 1 to {_MAX_NAME} characters, as requests have it")
    return user


def _own_form(item: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """`item` in our words, where it came in Helicone's or TensorZero's."""
    if "rating" in item:
        rest = {name: value for name, value in item.items() if name != "rating"}
        return rest | {"feedback": _thumb(item["rating"], f"{at}rating")}
    if "metric_name" not in item:
        return item
    rest = {name: value for name, value in item.items() if name not in ("inference_id", "metric_name", "value")}
    rest["record_id"] = item.get("inference_id", item.get("record_id"))
    metric, value = item["metric_name"], item.get("value")
    if metric == "comment":
        return rest | {"comment": value}
    if metric == "demonstration":
        return rest | {"correction": value}
    if isinstance(value, bool):
        return rest | {"feedback": _thumb(value, f"{at}value")}
    return rest | {"quality_score": value}


def _thumb(value: Any, where: str) -> int:
    if not isinstance(value, bool):
        raise VoteError(where, "not true or false")
    return 1 if value else -1


def _check(name: str, value: Any, at: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "feedback":
        if value is None or (number and value in (1, 0, -1)):
            return None if value is None else int(value)
        raise VoteError(f"{at}feedback", "not 1 (good), 0 (neutral), -1 (bad) or null (take it back)")
    if name == "quality_score":
        if number and 0 <= value <= 1:
            return float(value)
        raise VoteError(f"{at}quality_score", "not a number from 0 to 1")
    if name == "signal":
        if value != "copied":
            raise VoteError(f"{at}signal", 'not "copied", which is the only one')
        return value
    if name == "comment" and value is None:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise VoteError(f"{at}{name}", "not a string, or an empty one; leave it out if you have none")
    if len(value) > _TEXT_LIMITS[name]:
        raise VoteError(f"{at}{name}", f"{len(value)} characters; the limit is {_TEXT_LIMITS[name]}")
    return value


def _record_id(value: Any, at: str, name: str = "record_id") -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        message = (
            f"{len(value)} characters; the limit is {MAX_ID}"
            if isinstance(value, str) and value
            else "missing, or not a string; take it from the x-ratchet-record-id header of the answer"
        )
        raise VoteError(f"{at}{name}", message)
    return value


def _tags(value: Any, at: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise VoteError(f"{at}tags", "not an object of strings")
    if len(value) > _MAX_TAGS or any(len(name) > _MAX_TAG or len(text) > _MAX_TAG for name, text in value.items()):
        raise VoteError(f"{at}tags", f"more than {_MAX_TAGS} tags, or one of more than {_MAX_TAG} characters")
    return value


async def redacted(
    entries: Iterable[dict[str, Any]], redact: Callable[[Sequence[str]], Awaitable[list[str] | None]]
) -> None:
    """Clean every text in `entries`, which are votes as the spool keeps them, but their ids.

    An alias that is covered names no record any more. Raises TimeoutError where they cannot be cleaned now.
    """
    entries = list(entries)
    words = [(entry, name) for entry in entries for name in (*_TEXT_LIMITS, "alias") if entry.get(name) is not None]
    tags = [(entry, *tag) for entry in entries for tag in entry.get("tags", {}).items()]
    others = [(entry, name) for entry in entries for name in entry.get("or", ())]
    texts = [str(entry[name]) for entry, name in words] + [text for _, *pair in tags for text in pair]
    texts += [name for _, name in others]
    cleaned = await redact(texts)
    if cleaned is None:
        raise TimeoutError("the vote cannot be redacted now (capture.redaction); send it again later")
    rest = iter(cleaned)
    for entry, name in words:
        entry[name] = next(rest)
    for entry in entries:
        if "tags" in entry:
            entry["tags"] = {}
    for entry, *_ in tags:
        name, text = next(rest), next(rest)
        entry["tags"][name] = text
    for entry, _ in others:
        entry["or"] = []
    for entry, _ in others:
        entry["or"].append(next(rest))
