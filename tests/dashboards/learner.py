"""A stand-in for training: `learner.py URL OUTPUT_DIR RESULT SEEN` reports progress, then returns the model at URL.

It goes on when what it reported has been seen: until then there is no file of that step in the folder SEEN.
"""

import json
import sys
import time
from pathlib import Path

url, output_dir, result, seen = sys.argv[1:]
for step in range(1, 5):
    partial = Path(output_dir, "progress.tmp")
    partial.write_text(json.dumps({"fraction": step / 4, "message": f"step {step}"}))
    partial.replace(Path(output_dir, "progress.json"))
    while not Path(seen, str(step)).exists():
        time.sleep(0.05)
Path(result).write_text(json.dumps({"model_path": None, "url": url}))
