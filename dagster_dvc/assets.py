"""The assets of a DVC project: each stage is one, each `.dvc` file an external one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from dagster_dvc.execution import Reported, reproduce
from dagster_dvc.lock import digest
from dagster_dvc.metadata import finite
from dagster_dvc.project import DvcProject, Stage
from dagster_dvc.reporting import CODE_VERSION_TAG, DATA_VERSION_TAG, content, newest
from dagster_dvc.translator import DvcTranslator


def build_assets(project: DvcProject, translator: DvcTranslator) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the assets of all stages and `.dvc` files."""
    return [(build_spec if one.is_source else build_asset)(project, one, translator) for one in project.stages]


def step_name(key: dg.AssetKey) -> str:
    """Return the step's name of an asset: ASCII, no word of Python or Dagster, another one for every key."""
    name = re.sub(r"\W", "_", "__".join(key.path) if len(key.path) > 1 else f"stage_{key.path[0]}", flags=re.ASCII)
    plain = all(re.fullmatch("[A-Za-z0-9]+(_[A-Za-z0-9]+)*", part) for part in key.path)
    return name if plain else f"{name}__{digest(key.path)[:6]}"


def build_spec(project: DvcProject, stage: Stage, translator: DvcTranslator) -> dg.AssetSpec:
    """Return how a stage looks in Dagster."""
    return dg.AssetSpec(
        key=translator.key(stage),
        deps=[dependency(project, stage, parent, translator.key(parent)) for parent in project.parents(stage)],
        description=translator.description(stage),
        group_name=translator.group(stage),
        owners=list(translator.owners(stage)),
        kinds=translator.kinds(stage),
        tags=dict(translator.tags(stage)),
        code_version=None if stage.is_source else translator.code_version(stage),
        partitions_def=dg.StaticPartitionsDefinition(list(stage.partitions)) if stage.partitioned else None,
        automation_condition=None if stage.is_source else translator.automation_condition(stage),
        freshness_policy=translator.freshness_policy(stage),
    )


def dependency(project: DvcProject, child: Stage, parent: Stage, key: dg.AssetKey) -> dg.AssetDep:
    """Return how `child` depends on `parent`, whose asset is `key`, partition by partition.

    Where all keys are the same, Dagster is told so: a backfill then takes both assets in one run, instead of one after the other.
    """
    if not parent.partitioned:
        return dg.AssetDep(key)
    pairs = [
        (str(project.at[address].key), item.key)
        for item in child.items
        for address in item.parents
        if project.stage_of[address] is parent
    ]
    if child.partitioned:
        if child.partitions == parent.partitions and {*pairs} == {(name, name) for name in child.partitions}:
            return dg.AssetDep(key, partition_mapping=dg.IdentityPartitionMapping())
        downstream: dict[str, set[str]] = defaultdict(set)
        for above, below in pairs:
            downstream[above].add(str(below))
        return dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping(dict(downstream)))
    read = {above for above, _ in pairs}
    if read == {*parent.partitions}:
        return dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping())
    return dg.AssetDep(key, partition_mapping=dg.SpecificPartitionsPartitionMapping(sorted(read)))


def build_asset(project: DvcProject, stage: Stage, translator: DvcTranslator) -> dg.AssetsDefinition:
    """Return the asset that materialises by running its DVC stage."""
    spec = build_spec(project, stage, translator)
    made = dg.AssetOut.from_spec(spec.replace_attributes(deps=[]), dagster_type=dg.Nothing)
    read = [
        dg.AssetIn(dep.asset_key, partition_mapping=dep.partition_mapping, dagster_type=dg.Nothing) for dep in spec.deps
    ]

    @dg.multi_asset(  # Dagster's own names of outputs and inputs would be parts of keys, and could collide
        name=step_name(spec.key),
        outs={"result": made},
        ins={f"parent_{number}": one for number, one in enumerate(read)},
        partitions_def=spec.partitions_def,
        check_specs=list(translator.check_specs(stage)),
        pool=translator.pool(stage),
        backfill_policy=translator.backfill_policy(stage),
    )
    def run_stage(context):  # type: ignore[no-untyped-def]  # Dagster reads annotations, and these are strings
        return materialize(context, project, stage, translator)

    return run_stage


def materialize(
    context: dg.AssetExecutionContext, project: DvcProject, stage: Stage, translator: DvcTranslator
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetMaterialization]:
    """Run what a materialisation asks for: the stage, a partition, or several in the run of a backfill.

    Dagster gives those one data version and one description; the step goes on to say each one's own, before anything can follow from it.
    """
    keys: Sequence[str | None] = context.partition_keys if stage.partitioned else [None]
    items, several = [stage.item(key) for key in keys], len(keys) > 1
    try:
        recorded, skipped, told = reproduce(context, project, items, translator)
    except dg.Failure as failure:
        policy, tries = translator.retry_policy(stage), context.op_execution_context.retry_number
        if not (policy and failure.allow_retries and tries < policy.max_retries):
            raise
        context.log.info(f"{failure.description}; trying again")  # by a policy of the step, interrupted runs would too
        raise dg.RetryRequested(policy.max_retries, policy.calculate_delay(tries + 1)) from failure
    if skipped:
        context.log.info(f"up to date in DVC, or brought back from its run cache: {', '.join(sorted(skipped))}")
    each = [content(project, translator, item, recorded, item.address not in skipped) for item in items]
    if each[0][1][CODE_VERSION_TAG] != translator.code_version(stage):
        context.log.warning("the command or a parameter has changed since the definitions were loaded; reload them")
    key, versions = translator.key(stage), [tags[DATA_VERSION_TAG] for _, tags in each]
    given = (one.metadata or {} for one in told if isinstance(one, dg.MaterializeResult))
    said = {name: finite(value) for metadata in given for name, value in metadata.items()}
    yield dg.MaterializeResult(
        asset_key=key,
        data_version=dg.DataVersion(digest(versions) if several else versions[0]),
        metadata={"items": len(items), "up to date": len(skipped)} if several else {**each[0][0], **said},
        tags={} if several else each[0][1],
        check_results=judge(context, project, stage, translator, told),
    )
    for item, (metadata, tags) in zip(items, each, strict=True) if several else ():
        made, _ = newest(context.instance, key, item.key)
        yield dg.AssetMaterialization(key, None, metadata, item.key, {**made, **tags})


def judge(
    context: dg.AssetExecutionContext, project: DvcProject, stage: Stage, translator: DvcTranslator, told: Reported
) -> list[dg.AssetCheckResult]:
    """Return the results of the declared checks: what the stage reported, a failure before a success, else what the translator says."""
    results = {one.check_name: one for one in translator.check_results(project, stage)}
    declared = {spec.name for spec in translator.check_specs(stage)}
    for one in sorted((one for one in told if isinstance(one, dg.AssetCheckResult)), key=lambda one: not one.passed):
        if one.check_name in declared:
            results[one.check_name] = one
        elif not one.passed:
            context.log.warning(f"the stage reports a failed check that no translator declares: {one.check_name}")
    return list(results.values())
