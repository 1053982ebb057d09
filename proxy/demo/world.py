"""The demo's world: what customers of a web shop ask, in how many words, and what the right answer is.

The model's handbook (`handbook()`) has three ways of asking each question. Customers know ten, make typing
errors and add chatter, so a model that only read the handbook is often lost: there is something to learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

__all__ = ["REFUSAL", "TOPICS", "Question", "Topic", "ask", "handbook", "topic_of"]

REFUSAL = "I'm sorry, but I can't help with that. Could you say it in other words?"

_HANDBOOK_ASKS = 3
_TYPO_RATE = 0.12
_OPENINGS = ("", "", "", "hi, ", "hello there, ", "hey ", "good morning, ", "quick question: ", "um, ")
_CLOSINGS = ("", "", "", "", " please", " thanks", " asap", "?", "??", " :(", " - anyone there?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One thing customers ask about."""

    title: str
    """What the topic is called in the "did you mean …" menu."""
    answer: str
    """What a good answer says."""
    asks: tuple[str, ...]
    """Ways to ask; the first three are in the handbook."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a customer typed, and what was meant."""

    text: str
    topic: str


def _topic(title: str, answer: str, *asks: str) -> Topic:
    return Topic(title=title, answer=answer, asks=asks)


TOPICS: Mapping[str, Topic] = {
    topic.title: topic
    for topic in (
        _topic(
            "Track a parcel",
            "You can follow your parcel under Orders > Track; the link is also in the shipping mail.",
            "where is my order",
            "track my parcel",
            "the courier never showed up",
            "when will my stuff get here",
            "my package seems to be lost",
            "it said out for delivery two days ago",
            "can i see which depot it is sitting in",
            "tracking number does not work",
            "still waiting for the postman",
            "has it left the warehouse yet",
        ),
        _topic(
            "Return an item",
            "Print a label under Orders > Return within 30 days and drop the box at any post office.",
            "how do i return something",
            "return policy",
            "i want to send this back",
            "it does not suit me, what now",
            "need a label for the unwanted shoes",
            "changed my mind about the jacket",
            "how long may i keep it before giving it back",
            "do you take opened boxes back",
            "where do i drop off a thing i no longer want",
            "not what i expected at all",
        ),
        _topic(
            "Refund status",
            "Refunds arrive within five working days after we have received the parcel; see Orders > Refunds.",
            "where is my refund",
            "refund status",
            "you still owe me my money",
            "nothing on my bank statement so far",
            "how long until i am reimbursed",
            "i sent it last week, when do i get paid",
            "the amount you gave back is wrong",
            "my account has not been credited",
            "waiting for the cash since monday",
            "when will i see the euros again",
        ),
        _topic(
            "Cancel an order",
            "Orders can be cancelled until they are packed: Orders > Cancel. After that, simply return them.",
            "cancel my order",
            "i want to cancel",
            "stop the shipment",
            "i bought the wrong thing by accident",
            "please do not send it",
            "ordered twice by mistake",
            "is it too late to call it off",
            "undo my purchase",
            "my kid clicked buy",
            "forget about the order i just placed",
        ),
        _topic(
            "Change the address",
            "Open the order and choose Edit address; it works until the parcel is packed.",
            "change delivery address",
            "wrong address on my order",
            "i moved to another street",
            "can you ship it to my office instead",
            "the house number is missing",
            "we live somewhere else now",
            "send it to my neighbour",
            "postcode has a mistake",
            "new flat since april",
            "can it go to a pickup shop",
        ),
        _topic(
            "Payment problems",
            "Please check the card's limit and 3-D Secure, or choose another way to pay at the checkout.",
            "my payment failed",
            "card was declined",
            "checkout does not accept my visa",
            "the bank says no",
            "paypal throws an error",
            "i get a red message when i pay",
            "charged twice for one thing",
            "my mastercard will not go through",
            "can i use klarna",
            "the transaction hangs at the last step",
        ),
        _topic(
            "Get an invoice",
            "Invoices are under Orders > Documents as PDF; company details can be added there, too.",
            "i need an invoice",
            "download invoice",
            "my accountant wants a receipt",
            "where do i find the bill",
            "need the vat number on it",
            "tax office asks for paperwork",
            "pdf for my expense report",
            "can you put the company name on the document",
            "proof of purchase for insurance",
            "the statement you mailed me is empty",
        ),
        _topic(
            "Log in",
            "Use Forgot password on the login page; the mail arrives within a minute, also look in spam.",
            "i forgot my password",
            "cannot log in",
            "my account is locked",
            "the reset mail never arrives",
            "it says unknown user",
            "two factor code does not come",
            "signed out and cannot get in again",
            "how do i set a new pin",
            "somebody hacked my profile",
            "captcha keeps failing",
        ),
        _topic(
            "Warranty",
            "Every device has two years of warranty: describe the fault under Orders > Repair.",
            "how long is the warranty",
            "warranty claim",
            "it stopped working after a year",
            "the battery died",
            "screen went black overnight",
            "is a repair covered",
            "the motor makes a strange noise",
            "who fixes this for free",
            "guarantee ran out yesterday",
            "broken after the update",
        ),
        _topic(
            "Discount codes",
            "Codes go into the field under the basket; one per order, not for items on sale.",
            "discount code not working",
            "do you have a coupon",
            "voucher is rejected",
            "student reduction",
            "is there a black friday deal",
            "promo expired a day early",
            "the ten percent are not taken off",
            "newsletter gift for new customers",
            "cheaper if i buy three",
            "where do i type the letters from the flyer",
        ),
        _topic(
            "Damaged on arrival",
            "Sorry about that! Send a photo under Orders > Damaged and a new one leaves today.",
            "my item arrived damaged",
            "the box was damaged",
            "there is a crack in the glass",
            "everything inside is wet",
            "came in pieces",
            "a big dent in the lid",
            "scratches all over it",
            "the bottle leaked into the carton",
            "it was smashed when i opened it",
            "half of the set is shattered",
        ),
        _topic(
            "Swap for another size",
            "Choose Orders > Exchange and pick the size; the new one is sent at once, the old one returned later.",
            "exchange for another size",
            "wrong size",
            "too tight around the waist",
            "sleeves are far too long",
            "need it one number bigger",
            "can i get medium instead of large",
            "the shoes pinch",
            "does the green one come in xl",
            "it fits like a tent",
            "my feet are forty two not forty one",
        ),
    )
}

_BY_TEXT = {text: title for title, topic in TOPICS.items() for text in (title, topic.answer)}


def topic_of(answer: str) -> str | None:
    """The topic that an answer, or a pick from the menu, is about; None for a refusal or anything else."""
    return _BY_TEXT.get(answer.strip())


def handbook() -> Iterator[tuple[str, str]]:
    """(question, answer) pairs that the first model was trained on."""
    for topic in TOPICS.values():
        for text in topic.asks[:_HANDBOOK_ASKS]:
            yield text, topic.answer


def ask(random: Random) -> Question:
    """What the next customer types. Popular topics are asked more often (1/rank⁰·⁵)."""
    titles = list(TOPICS)
    title = random.choices(titles, weights=[(rank + 1) ** -0.5 for rank in range(len(titles))])[0]
    words = random.choice(TOPICS[title].asks).split()
    words = [_mistype(word, random) if random.random() < _TYPO_RATE else word for word in words]
    return Question(random.choice(_OPENINGS) + " ".join(words) + random.choice(_CLOSINGS), title)


def _mistype(word: str, random: Random) -> str:
    if len(word) < 4:
        return word
    at = random.randrange(len(word) - 1)
    return random.choice((word[:at] + word[at + 1 :], word[:at] + word[at + 1] + word[at] + word[at + 2 :]))
