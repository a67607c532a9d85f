"""V-COCO: the official metric, and the one that published training code prints."""
