"""Allocation: which die computes how many tokens of each expert."""
