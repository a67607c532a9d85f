"""The stages as data, one file per part of the lineage; `rlip_assets/lineage/registry.py` puts them together."""
