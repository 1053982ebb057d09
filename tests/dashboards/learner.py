"""A stand-in for training: `learner.py URL OUTPUT_DIR RESULT` reports progress, then returns the model at URL."""

import json
import sys
import time
from pathlib import Path

url, output_dir, result = sys.argv[1:]
for step in range(1, 5):
    Path(output_dir, "progress.json").write_text(json.dumps({"fraction": step / 4, "message": f"step {step}"}))
    time.sleep(0.75)
Path(result).write_text(json.dumps({"model_path": None, "url": url}))
