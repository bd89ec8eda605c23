"""A run that is being executed in this process."""

from __future__ import annotations

from dataclasses import dataclass, field

from runners.cancel import Cancel
from sessions_app.claiming import Claimed
from sessions_app.sealing import Inputs


@dataclass(slots=True)
class Running:
    """A claimed run with its opened request; ``claimed_at``: monotonic, s."""

    claimed: Claimed
    inputs: Inputs
    claimed_at: float
    cancel: Cancel = field(default_factory=Cancel)
    warnings: list[str] = field(default_factory=list)
