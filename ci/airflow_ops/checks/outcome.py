"""The result of a check."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """The result of one check in one environment.

    Attributes:
        breaches: What is wrong, one line each.
        skipped: What could not be checked, and why.
        warnings: What should be otherwise, but cannot be demanded.
    """

    breaches: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
