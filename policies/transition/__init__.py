"""What an action makes of the loop's state: `apply(position, action, effect, now) -> Transition`, without any I/O.

`plan` says what to do, `proxy/loop/act` does it and reports what the outside made of it (an effect), and this module
says what follows: the next state, the rows that change with it, and one sentence of why. All that is written about an
action is decided here; `lifecycle.ARROWS` says which events lead where.

Doing an action twice does it once. Every action names what it acts on, and `stale` compares that with the position:
what was done before, or does not fit any more, is refused and changes nothing.
"""

from policies.transition.applying import LONGEST_RETRY_S, apply, postpone
from policies.transition.fitting import stale
from policies.transition.values import Context, Position, Transition

__all__ = ["LONGEST_RETRY_S", "Context", "Position", "Transition", "apply", "postpone", "stale"]
