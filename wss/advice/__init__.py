"""Advice for a real cluster: which layout of experts to serve with, judged on recorded loads or routing."""

from wss.advice.advise import Advice, Judged, advise
from wss.advice.balance import Balance, check_layout
from wss.advice.question import Question

__all__ = ["Advice", "Balance", "Judged", "Question", "advise", "check_layout"]
