"""Whether the user got an answer: what the connection told, and what the answer itself says of its end.

The gateway forwards bytes and knows no more of an exchange than its connections and its status. That a stream broke
off under a proper end of HTTP, or that an answer of status 200 is an error, shows only to whoever reads it. Both are
brought together here, once, before anything is counted.
"""

from __future__ import annotations

from policies.records import Outcome

__all__ = ["outcome_of"]


def outcome_of(
    seen: Outcome, status: int, *, headed: bool, failed: bool, whole: bool | None, finished: bool, cut: bool
) -> Outcome:
    """How an exchange ended that ended as `seen` on its connections, with `status` for the client.

    `headed`: the status is the model's server's own. `failed`: the answer says that it failed. `whole`: a stream came
    to its terminal mark; None where there is no stream, or nobody knows its marks. `finished`: the model has said that
    it is done. `cut`: not all of the answer is at hand, so that what it lacks proves nothing.
    """
    if seen not in (Outcome.OK, Outcome.CLIENT_DISCONNECT) or status < 200:
        return seen
    left = seen is Outcome.CLIENT_DISCONNECT
    if left and not headed:  # a status of ours: the client had gone wrong, or was too slow
        return seen
    if 400 <= status < 500:
        return Outcome.REFUSED
    if failed or status >= 500:  # also where the client left because of it, as SDKs do
        return Outcome.UPSTREAM_ERROR
    if left:  # OpenAI's SDK hangs up at a stream's [DONE], before HTTP's own end has come
        return Outcome.OK if finished else Outcome.CLIENT_DISCONNECT
    return Outcome.INCOMPLETE if whole is False and status < 300 and not cut else Outcome.OK
