"""Architectures, their registration with timm, and model folders."""
