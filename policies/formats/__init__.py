"""Lines of a training file, in the formats that the usual trainers read as they stand.

`table` lists the formats, with what each can hold; `material` makes a sample ready for one, or says why it does not
fit: what a format cannot hold is left out as a whole and counted, never flattened into words. `single` and `pairs`
write the lines, from the messages of `messages`. `layout` is about whole files.
"""

from policies.formats.layout import HEADS, has_parts, in_parts, shape
from policies.formats.line import FormatType, MemoryPartners, Partners, Style, TrainingLine, Waiting
from policies.formats.material import Material
from policies.formats.table import FORMATS, Format, Holds, conforms, lines, prepare

__all__ = [
    "FORMATS",
    "HEADS",
    "Format",
    "FormatType",
    "Holds",
    "Material",
    "MemoryPartners",
    "Partners",
    "Style",
    "TrainingLine",
    "Waiting",
    "conforms",
    "has_parts",
    "in_parts",
    "lines",
    "prepare",
    "shape",
]
