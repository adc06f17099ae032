"""Images: Pillow images and arrays <-> planes, Pillow's `info` <-> metadata chunks."""
