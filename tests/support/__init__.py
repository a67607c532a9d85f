"""Toy networks, worlds and projects that tests share."""
