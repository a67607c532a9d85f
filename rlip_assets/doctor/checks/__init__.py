"""The checks, one idea per file; `rlip_assets/doctor/registry.py` has their order."""
