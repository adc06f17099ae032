"""Task features: what the decoder's networks know of an image, for networks that look at it."""
