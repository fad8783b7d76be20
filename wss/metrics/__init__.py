"""Metrics: functions of what the engine recorded."""

from wss.metrics.ledger import Ledger
from wss.metrics.summary import summarise

__all__ = ["Ledger", "summarise"]
