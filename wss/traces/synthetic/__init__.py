"""Synthetic routing: its parameters, the tables made from them, and the draws."""
