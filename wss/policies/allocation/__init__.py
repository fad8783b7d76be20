"""Which die computes how many tokens of an expert."""
