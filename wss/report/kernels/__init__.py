"""Kernel times: predicted and measured for a file of measurements, and predicted for one call."""
