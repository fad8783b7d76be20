"""Contents of the HBM of each die between layer runs: placed experts, and the predictor's copies."""
