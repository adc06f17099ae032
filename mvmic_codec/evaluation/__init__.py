"""Rate and distortion of this codec and of its peers, measured on folders of images."""
