"""Trace analysis: counts, statistics, predictability."""
