"""Commands that print every speed figure of the project."""
