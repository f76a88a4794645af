"""A model in memory, and the engines that run it."""
