"""The loop formulations of the protocols live in `tests/oracle`; its parent becomes importable here."""
