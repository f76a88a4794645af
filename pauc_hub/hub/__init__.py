"""Models in and out: other projects' checkpoints become model folders."""
