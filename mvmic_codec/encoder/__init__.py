"""The way from planes to bytes. Its choices are free: a decoder knows nothing of them."""
