"""Training: images, first guess, loss, loop, export."""
