"""All that this project uses of MLflow and that MLflow does not publish: the only file to look at for a new MLflow.

Published is what https://mlflow.org/docs/latest/api_reference describes. Each entry says which published way was
tried, and why it does not serve. `tests/test_mlflow_compat.py` says at once what another MLflow does differently.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import multimedia
from mlflow.tracking._tracking_service import utils
from mlflow.tracking.context import registry
from mlflow.utils import credentials, file_utils, name_utils, requirements_utils, rest_utils, uri
from sqlalchemy import Connection
from yaml import YAMLError

if TYPE_CHECKING:
    import PIL.Image

_BULK_PATH = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_DATABASE_LOGGER = "mlflow.store.db.utils"

Point = tuple[str, int, str, int, float]  # run, step, metric, milliseconds since 1970, value


# --- Servers ------------------------------------------------------------------------------------------------------


def ask_health(address: str, seconds: float) -> None:
    """Ask a tracking server whether it is there, as MLflow would: with its credentials, certificates and proxies.

    Published: any call of a `MlflowClient`, for which a time limit can only be set for the whole process.

    Raises:
        MlflowException: it does not answer within `seconds`.
    """
    rest_utils.http_request(
        credentials.get_default_host_creds(address), "/health", "GET", max_retries=0, timeout=seconds
    )


def user_and_password() -> tuple[str | None, str | None]:
    """What MLflow itself would use: from the environment, or from its file of credentials.

    Published: the two variables and the file's format, but no call that reads them.
    """
    known = credentials.read_mlflow_creds()
    return known.username, known.password


def is_server_error(error: BaseException) -> bool:
    """Whether a server has answered 500, which does not pass by itself as a 502 or a 503 does.

    Published: `MlflowException.get_http_status_code`, which is 500 whatever a request has failed of.
    """
    return "too many 500 error responses" in str(error)


def schemes() -> list[str]:
    """Of the addresses of stores that the MLflow that is installed can use, those of its plug-ins among them.

    Published: how a plug-in registers one, and an error that lists them as of another kind of store.
    """
    return sorted(scheme for scheme in utils._tracking_store_registry._registry if scheme)


def is_refusal_of_files(error: BaseException | None) -> bool:
    """Whether MLflow says that it reads no folder of files; published: a text with what to do instead."""
    return "migrate-filestore" in str(error)


# --- Databases ----------------------------------------------------------------------------------------------------


class Schema(NamedTuple):
    """Of a database that runs are kept in.

    Attributes:
        revision: of its tables; None where that is not noted.
        needed: of the tables of the MLflow that is installed.
        complete: whether all of its tables are there.
    """

    revision: str | None
    needed: str
    complete: bool

    @property
    def is_older(self) -> bool:
        """Whether MLflow has had this schema before."""
        script = ScriptDirectory.from_config(database._get_alembic_config(""))
        return self.revision is None or self.revision in {known.revision for known in script.walk_revisions()}


def schema(connection: Connection) -> Schema:
    """How a database's schema stands to the one of the MLflow that is installed.

    Published: `mlflow db upgrade`, and that every call to a store refuses another schema; but where a table is missing,
    that call silently upgrades the database.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    return Schema(found, database._get_latest_schema_revision(), database._all_tables_exist(connection))


def make_database(path: Path) -> None:
    """Make MLflow's tables, and the experiment `Default`, in a new file of SQLite that is to be renamed.

    Published: a `MlflowClient` makes both, and logs every step of it; but it keeps its connections to the file, and
    a file that is open cannot be renamed everywhere.
    """
    with _quiet("alembic", _DATABASE_LOGGER):
        mlflow.MlflowClient(f"sqlite:///{path}")._tracking_client.store._dispose_engine()


def be_quiet_about_databases() -> None:
    """Keep MLflow from logging the database errors that it raises, with a traceback.

    Published: `MLFLOW_LOGGING_LEVEL`, which would silence the rest of MLflow, too.
    """
    logging.getLogger(_DATABASE_LOGGER).setLevel(logging.CRITICAL)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# --- Runs ---------------------------------------------------------------------------------------------------------


def last_metrics(run: Run) -> list[Metric]:
    """The last value of each metric of a run, with its step.

    Published: `run.data.metrics`, which has no steps, and `MlflowClient.get_metric_history`, one request per metric.
    """
    return list(run.data._metric_objs)


def histories(client: mlflow.MlflowClient, run_ids: Sequence[str], metric: str, limit: int) -> list[Point] | None:
    """At most `limit` values of a metric, of many runs in one request; None where the client's store does not give it.

    Published: `MlflowClient.get_metric_history`, one request per run: what takes a second takes a minute.
    """
    store = client._tracking_client.store
    if isinstance(store, RestStore):
        query = {"run_id": list(run_ids), "metric_key": metric, "max_results": limit}
        answer = rest_utils.http_request(store.get_host_creds(), _BULK_PATH, "GET", params=query)
        if answer.status_code != 200:  # a server that hides what its own UI uses, or a run that is gone
            return None
        points = answer.json()["metrics"]
        return [(each["run_id"], int(each["step"]), metric, each["timestamp"], float(each["value"])) for each in points]
    if hasattr(store, "get_metric_history_bulk"):
        found = store.get_metric_history_bulk(list(run_ids), metric, limit)
        return [(each.run_id, each.step, metric, each.timestamp, each.value) for each in found]
    return None


def resolve_tags() -> dict[str, str]:
    """The tags that MLflow gives to a new run: user, source, commit.

    Published: `mlflow.start_run` sets them, and asks the store at once; `MlflowClient.create_run` does not set them.
    """
    return dict(registry.resolve_tags())


def is_random_name(name: str) -> bool:
    """Whether MLflow made a run's name up, as it does where none is given: `bold-fox-123`.

    Published: nothing tells such a name from one that somebody gave.
    """
    words = name.split("-")
    return (
        len(words) == 3
        and words[0] in {word.lower() for word in name_utils._GENERATOR_PREDICATES}
        and words[1] in {word.lower() for word in name_utils._GENERATOR_NOUNS}
        and words[2].isdigit()
    )


# --- Artifacts ----------------------------------------------------------------------------------------------------


def convert_to_pil_image(image: Any) -> PIL.Image.Image:
    """A picture [height, width, channels] as MLflow's UI expects it.

    Published: `MlflowClient.log_image`, which sends at once, under a name that is another one each time.
    """
    return multimedia.convert_to_pil_image(image)


def compress_image_size(image: PIL.Image.Image) -> PIL.Image.Image:
    """The small one that MLflow's UI shows first; published as `convert_to_pil_image` is."""
    return multimedia.compress_image_size(image)


def is_local_uri(address: str) -> bool:
    """Whether artifacts lie on this machine, as MLflow sees it; published: nothing but whole artifact repositories."""
    return bool(uri.is_local_uri(address))


def local_file_uri_to_path(address: str) -> str:
    """The path of a local URI, or of a path; published as `is_local_uri` is."""
    return str(file_utils.local_file_uri_to_path(address))


@contextmanager
def trusting_requirements() -> Iterator[None]:
    """Save a model without a look at the files of every installed package, which takes most of the time of the first.

    For requirements that say what is installed. Published: `pip_requirements`, whose names MLflow compares with what is
    installed; to find the modules of one package it lists those of all.
    """
    module: Any = requirements_utils  # the variable has no type
    known = module._MODULES_TO_PACKAGES
    module._MODULES_TO_PACKAGES = known or {}
    try:
        yield
    finally:
        module._MODULES_TO_PACKAGES = known


# --- Projects -----------------------------------------------------------------------------------------------------


def fetch_project(address: str, version: str | None) -> tuple[Path, bool]:
    """The folder of a project, and whether it is a new one, with what a git URL or a ZIP file has; else somebody's own.

    Published: `mlflow.projects.run`, which fetches a project once more for each run.

    Raises:
        MlflowException: it cannot be had; of git and of a folder, also what those raise.
    """
    from mlflow.projects import utils as projects

    with _quiet("mlflow.projects.utils"):
        where, _ = projects._parse_subdirectory(address)
        is_new = bool(projects._is_zip_uri(where)) or not projects._is_local_uri(where)
        return Path(projects._fetch_project(address, version)), is_new


def parameters_of(folder: Path, entry_point: str) -> list[tuple[str, str, Any]]:
    """Name, type and default (None without one) of each parameter of an entry point, as the MLproject file has them.

    Published: the file's format, in which names of files may differ in case, and short forms are allowed.

    Raises:
        MlflowException: there is no such entry point, or the file cannot be read.
    """
    from mlflow.projects import utils as projects

    if projects._project_spec._find_mlproject(str(folder)) is None:
        raise MlflowException(f"{folder} has no MLproject file")
    try:
        found = projects.load_project(str(folder)).get_entry_point(entry_point)
    except (YAMLError, AttributeError, TypeError) as error:
        raise MlflowException(f"the MLproject file in {folder} cannot be read: {error}") from error
    return [(str(each.name), str(each.type), each.default) for each in found.parameters.values()]
