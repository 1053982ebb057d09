"""The quick start's demos: they run offline, explain themselves, and say the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.programs import EXAMPLES

SAID = """\
1. Basic logging. Log three calls and their thumbs, and print the sums.
the newest record: What should I know about violins, part 2?
3 calls, 100% with feedback, 2 thumbs up and 1 down

2. Data generation. Ten calls, of which some are bad, disliked or said twice; the file has the rest.
7 samples of 10 calls; left out: exact duplicate: 1, low quality: 1, negative feedback: 1
a line of the file: [{"role": "user", "content": "What should I know about bridges, part 4?"}, {"role": "assistant", \
"content": "Part 4 of all about bridges is 16 pages long."}]

3. Trigger checking. How near each trigger is, before and after there are enough samples.
20 calls, sample count: not due. 20 new quality samples, 60 needed.
20 calls, schedule: not due. 0 seconds since installation, due after 7 days.
60 calls, sample count: due. 60 new quality samples, 60 needed.
60 calls, schedule: not due. 0 seconds since installation, due after 7 days.

4. A/B testing. Users stay on the model that they have; the verdict waits for time and proof.
both models have users: True; every user stays with theirs: True
1 hours later: continue. Time: 1 of 48 hours.
48 hours later: promote.

5. Full loop iteration. All of it, until the new model is the champion.
retrained because of the sample count: completed
what the training returned: {'loss': 0.25, 'accuracy': 0.9}
promoted: True
Total usage: 400
Avg quality: 0.8
Total retrains: 1
Champion model: model-20231114-221420-1
"""


def test_the_five_demos_say_the_same_every_time(tmp_path: Path) -> None:
    demo = [sys.executable, str(EXAMPLES / "continuous_learning_demo.py")]
    done = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == SAID.strip()
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
