"""The demo's configuration: the ordinary one, with time compressed.

What takes weeks in production (a thousand votes, 48 hours of testing, a day of watching) takes seconds here, by
settings alone: no rule is different. The file is written into the demo's directory for the curious.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from string import Template

__all__ = ["write_settings"]

_SETTINGS = Template("""\
# Written by `ratchet demo`. The ordinary configuration, with hours turned into seconds.

check_interval_seconds = 0.5            # look twice a second instead of hourly

[server]
port = $port
data_dir = $data_dir

[admin]
port = $admin_port

[champion]
url = $champion_url
name = "handbook"

[gateway]
expose_arm = true                       # lets the customers' truth be drawn per arm; off in production

[feedback]
anonymous = ["thumb", "correction"]     # ["thumb"]: the customers are known to be honest

[store]
ingest_interval_seconds = 0.1

[trigger_config]
min_new_samples = $min_new_samples      # quality samples since the last training
enable_scheduled = false
enable_quality_drop = false
cooldown_hours = 0.001                  # 3.6 s
stop_after_rejections = 0               # 3: here no person is waited for
min_usable_samples = 60

[generator_config]
min_user_feedback = 1                   # learn from thumbs up and from corrections only
include_existing_data = true            # the handbook is the rehearsal buffer: never forgotten
existing_data_path = $rehearsal
existing_data_share = 0.2
max_correction_share = 1                # 0.2
max_corrections_per_user = 1000         # 20
max_own_share = 1                       # 0.5: here nothing is learnt that customers have not voted up or corrected
holdout_share = 0.1

[ab_test_config]
initial_challenger_traffic = 0.3
min_duration_hours = 0.001              # 3.6 s
max_duration_hours = 0.25               # 15 min: a slow machine may take its time
min_effective_users = 30                # before "no gain" may be said; harm is said after five, so it comes first
quality_weight = 0.4                    # refusals, seen by the format check
feedback_weight = 0.6                   # thumbs
latency_weight = 0.0                    # every model is paced alike: nothing to weigh
watch_hours = 0.0008                    # 3 s

[ab_test_config.guardrails]
max_slow_increase = 0.3                 # a laptop that is busy elsewhere for these 3 s is no slower model

[checks]
golden = $golden                        # the handbook's questions and answers

[trainer]
kind = "callable"
callable = "proxy.demo.training:train_model"
poll_seconds = 0.2
timeout_seconds = 120

[deployer]
kind = "command"
command = [$python, "-m", "proxy.demo.server", "--model", "{model_path}", "--port", "{port}", "--name", "{model_name}"]
ready_timeout_seconds = 60
""")


def write_settings(
    path: Path,
    *,
    port: int,
    admin_port: int,
    champion_url: str,
    data_dir: Path,
    rehearsal: Path,
    golden: Path,
    min_new_samples: int,
) -> None:
    """Write the demo's TOML file to `path`."""
    path.write_text(
        _SETTINGS.substitute(
            port=port,
            admin_port=admin_port,
            champion_url=json.dumps(champion_url),
            data_dir=json.dumps(str(data_dir)),
            rehearsal=json.dumps(str(rehearsal)),
            golden=json.dumps(str(golden)),
            min_new_samples=min_new_samples,
            python=json.dumps(sys.executable),
        ),
        encoding="utf-8",
    )
