"""How good features are: arrays in, numbers out."""
