"""Other projects' checkpoints as model folders: one key table a format."""
