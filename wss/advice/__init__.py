"""Advice for a real cluster: which layout of experts to serve with, judged on recorded loads or routing."""

from wss.advice.balance import Balance, check_layout
from wss.advice.judging import advise
from wss.advice.question import Question
from wss.advice.result import Advice, Judged

__all__ = ["Advice", "Balance", "Judged", "Question", "advise", "check_layout"]
