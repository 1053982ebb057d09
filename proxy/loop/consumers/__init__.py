"""Whether those who train will take a training file: their own rules, one file per consumer.

`check` reads a file line by line and asks a consumer about each. Where the consumer's library is installed (extra
`check`), the library itself is asked, and the report names its version; where it is not, the rules are those that the
consumer has written down, and the report says so.
"""

from proxy.loop.consumers.check import CONSUMERS, check
from proxy.loop.consumers.report import Finding, Report

__all__ = ["CONSUMERS", "Finding", "Report", "check"]
