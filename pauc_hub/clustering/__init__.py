"""k-means and prototypes."""
