"""Turns a folder of images into a model folder: prototypical contrastive learning, PCL and PAUC."""
