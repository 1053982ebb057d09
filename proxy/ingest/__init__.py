"""From spool to store: frames are read in order, understood, scored and committed, each exactly once.

`Ingestor` is the loop; `interpret` turns a frame into a record, `votes` into votes. The hot path does none of this:
it writes raw bytes, and what they say is worked out here, in the controller.
"""

from proxy.ingest.ingestor import Ingestor
from proxy.ingest.interpret import Interpreter
from proxy.ingest.ledger import Gap
from proxy.ingest.metrics import IngestMetrics

__all__ = ["Gap", "IngestMetrics", "Ingestor", "Interpreter"]
