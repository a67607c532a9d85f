"""The pipeline in Dagster: assets, jobs, checks, schedules and sensors over the stages of `rlip_assets`."""
