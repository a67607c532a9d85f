"""Labels that come from, or go to, other programs: the json of the published pre-training (`vg_form.py`)."""
