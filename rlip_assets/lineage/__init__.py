"""What a stage of the lineage is and how one runs."""
