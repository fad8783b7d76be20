"""What a trace says: counts, statistics, and what of it can be predicted."""
