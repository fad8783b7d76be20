"""The requests of a batch."""
