"""Lines of a training file, in the formats that the usual trainers read as they stand.

`form` says what a format is; `single` and `pairs` have one each, beside the function that writes its lines from the
messages of `messages`; `table` lists them. `material` makes a sample ready for one, or says why it does not fit: what a
format cannot hold is left out as a whole and counted, never flattened into words. `layout` is about whole files.
"""

from policies.formats.form import ConsumerName, Format, Holds, Member
from policies.formats.layout import HEADS, has_parts, in_parts, shape
from policies.formats.line import FormatType, MemoryPartners, Partners, Style, TrainingLine, Waiting
from policies.formats.material import Material
from policies.formats.table import FORMATS, conforms, format_of, lines, prepare

__all__ = [
    "FORMATS",
    "HEADS",
    "ConsumerName",
    "Format",
    "FormatType",
    "Holds",
    "Material",
    "Member",
    "MemoryPartners",
    "Partners",
    "Style",
    "TrainingLine",
    "Waiting",
    "conforms",
    "format_of",
    "has_parts",
    "in_parts",
    "lines",
    "prepare",
    "shape",
]
