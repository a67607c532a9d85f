"""When and where: the lineage as Dagster assets, jobs, checks, schedules and sensors. What is made is in `rlip_assets`."""
