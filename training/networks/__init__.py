"""Networks as they learn: encoder, momentum encoder and queue; batch norm; quick gradients."""
