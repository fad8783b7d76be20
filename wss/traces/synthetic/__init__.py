"""Synthetic routing: its parameters, probability tables and sampling."""
