"""Regular expressions that people write, and hostile bytes that are searched with them.

Python's `re` tries again and again: a harmless looking pattern takes a minute on 64,000 letters, and holds the whole
process meanwhile. So patterns of the configuration keep their meaning in Python's syntax, and run on RE2, whose time is
linear in the text. What RE2 cannot do (look-around, back-references) is refused with the reason, unless the setting
says `python`.
"""

from proxy.patterns.engine import Engine, Haystack, Pattern, compile_pattern, finder

__all__ = ["Engine", "Haystack", "Pattern", "compile_pattern", "finder"]
