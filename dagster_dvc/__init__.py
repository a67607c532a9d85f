"""Any DVC project as Dagster assets: stages, items, dependencies, data versions and code versions, in both directions."""

from dagster_dvc.component import DvcProjectComponent as DvcProjectComponent
from dagster_dvc.component import load_definitions as load_definitions
from dagster_dvc.project import DvcProject as DvcProject
from dagster_dvc.project import Item as Item
from dagster_dvc.project import Stage as Stage
from dagster_dvc.project import read_project as read_project
from dagster_dvc.reporting import report_external as report_external
from dagster_dvc.reporting import unreported as unreported
from dagster_dvc.translator import DvcTranslator as DvcTranslator
