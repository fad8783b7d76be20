"""Metrics: functions of the engine's records."""

from wss.metrics.ledger import Ledger
from wss.metrics.measures import Totals
from wss.metrics.summary import summarise

__all__ = ["Ledger", "Totals", "summarise"]
