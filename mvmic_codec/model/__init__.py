"""The model: transforms, entropy model in its training form and in exact integers, weights."""
