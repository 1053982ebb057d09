"""From logged exchanges to a training file with a manifest, at constant memory.

One pass over the store, newest first: select → claim the user's share → build lines → stage. Then the caps that
depend on the whole are applied to the staged lines, the rehearsal buffer is mixed in evenly, and the files appear
atomically, the manifest last: a folder with a manifest is complete. The same run id gives the same files, since
`until_s` bounds what is read and every choice is a hash.

    training/<run_id>/data.jsonl      what to train on, oldest first
                      holdout.jsonl   users set aside for evaluation; absent when there are none
                      lineage.csv     record_id, user, split of every record in those files; outlives them
                      manifest.json   counts, reasons, checksum; outlives them
"""

from proxy.loop.dataset.builder import Preview, SampleSource, StoreDatasetBuilder
from proxy.loop.dataset.flywheel import flywheel, flywheel_config
from proxy.loop.dataset.selection_pass import Progress

__all__ = [
    "Preview",
    "Progress",
    "SampleSource",
    "StoreDatasetBuilder",
    "flywheel",
    "flywheel_config",
]
