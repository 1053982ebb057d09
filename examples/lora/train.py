"""Train a LoRA adapter with TRL on what Ratchet has selected: chats that users liked, or corrected.

The lines are prompts and completions, of which TRL learns the completions alone.

    python train.py DATA OUTPUT_DIR RESULT        as the trainer `command` runs it

BASE_MODEL in the environment names a pretrained model instead of the example's own: it is trained on a GPU.

`train_model` is also what the trainer `callable` takes, where Ratchet and PyTorch share an environment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

BASE = os.environ.get("BASE_MODEL", "base")
"""Folder, or a name on the model hub."""
_TINY = {"num_train_epochs": 10, "learning_rate": 5e-3, "per_device_train_batch_size": 32,
         "use_cpu": True, "bf16": False, "dataloader_pin_memory": False}  # fmt: skip
_PRETRAINED = {"num_train_epochs": 2, "learning_rate": 1e-4, "per_device_train_batch_size": 4,
               "gradient_accumulation_steps": 8}  # fmt: skip
SETTINGS: dict[str, Any] = _TINY if BASE == "base" else _PRETRAINED
"""The example's tiny model learns from nothing, on a CPU; a pretrained one needs fewer and smaller steps, and a GPU."""


class Progress(TrainerCallback):
    """Hands the share of steps done to `report`, which shows it in status and console."""

    def __init__(self, report: Callable[[float, str], None]) -> None:
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self._report(state.global_step / state.max_steps, f"loss {logs['loss']:.3f}")


def train_model(data_path: str, output_dir: str, report: Callable[[float, str], None]) -> dict[str, Any]:
    """Train from the base model on the whole file; the adapter goes below `output_dir`."""
    data = Dataset.from_json(data_path, cache_dir=f"{output_dir}/cache")
    settings = SFTConfig(
        output_dir=f"{output_dir}/checkpoints",
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **SETTINGS,
    )
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=BASE, args=settings, train_dataset=data, peft_config=lora, callbacks=[Progress(report)])
    outcome = trainer.train()
    adapter = Path(output_dir) / "adapter"
    trainer.save_model(str(adapter))
    return {"model_path": str(adapter), "loss": outcome.training_loss, "samples": len(data)}


def main(data_path: str, output_dir: str, result_path: str) -> None:
    """One run: progress and result go where Ratchet looks for them."""
    if BASE == "base":
        torch.set_num_threads(1)

    def report(fraction: float, message: str) -> None:
        progress = Path(output_dir) / "progress.json"
        progress.write_text(json.dumps({"fraction": fraction, "message": message}))

    result = train_model(data_path, output_dir, report)
    Path(result_path).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
