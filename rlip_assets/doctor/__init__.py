"""`rlip doctor`: everything that would stop a profile later, at once, in one table.

`checks/` has one file per idea; `registry.py` lists them; `examination.py` holds what they share. A check yields findings and never
raises for what it looks at, so that one fault hides no other.
"""
