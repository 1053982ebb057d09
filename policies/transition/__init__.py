"""What an action makes of the loop's state: `apply(position, action, effect, now) -> Transition`, without any I/O.

`plan` says what to do, `proxy/loop/act` does it and reports what the outside made of it (an effect), and this module
says what follows: the next state, the rows that change with it, and one sentence of why. All that is written about an
action is decided here; `lifecycle.TRANSITIONS` says which events lead where.

Doing an action twice does it once. Every action names what it acts on, and `stale` compares that with the position:
what was done before, or does not fit any more, is refused and changes nothing.

`ledger` has the few changes that no action makes (an installation, other settings), `timestamps` what a clock that was
ahead has left behind. Nothing outside this package makes one state from another.
"""

from policies.transition.applying import LONGEST_RETRY_S, apply, postpone
from policies.transition.fitting import stale
from policies.transition.ledger import installed, rerouted, under_settings, with_baseline
from policies.transition.timestamps import not_ahead, seconds_ahead, timestamps, with_timestamps
from policies.transition.values import Context, Position, Transition

__all__ = ["LONGEST_RETRY_S", "Context", "Position", "Transition", "apply", "installed", "not_ahead", "postpone",
           "rerouted", "seconds_ahead", "stale", "timestamps", "under_settings", "with_baseline",
           "with_timestamps"]  # fmt: skip
