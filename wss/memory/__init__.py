"""What lies in each HBM from layer run to layer run: where experts are, and the predictor's copies."""
