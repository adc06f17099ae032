"""Networks for vision tasks on features from files: data, heads, training, tables."""
