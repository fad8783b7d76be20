"""A model at work: a policy's answers, where experts are placed and move, and the layer runs they lead to."""
