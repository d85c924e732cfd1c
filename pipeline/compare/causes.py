"""Which parameters of anybody's runs can be no cause of a result: where a run writes, what it is called, its ID. Pure.

Programs log them beside their settings. As a setting, one that is another in every run would make each run a variation
of its own, and one that follows the others would confound every pair.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pandas as pd

from pipeline.compare.autolog import is_no_choice
from pipeline.compare.columns import comparable

_PLACES = re.compile("(log|out|work|save)?(dir|directory|folder|path|file|filename)")
# What is written there; of another place, such as that of a model or a checkpoint, it may be read from there.
_WRITTEN = re.compile(
    "(log|out|work|save)(dir|directory|folder|path|file|filename)|out|outputs?|logs?|logging|saved?|work|working|runs?"
    "|exp|experiments?|job|trial|results?|tensorboard|tb|wandb|mlflow|hydra|artifacts?|cache|tmp|temp|scratch|reports?"
    "|plots?|figures?|snapshots?|dump|export|root"
)
_READ = re.compile(
    "data|datasets?|inputs?|in|corpus|source|src|pretrained|init|teacher|tokenizer|vocab|config|conf|prompt|images?|text"
    "|labels?|annotations?|embeddings?|script|resume|load|restore"
)
_PHASE = re.compile("train|training|val|valid[a-z]*|test|eval|evaluation")  # a file of these data, or what is logged
_HOSTS = re.compile("host|hostname|nodename|nodelist|ip|addr|address|port|pid")
_NAMES = {("run", "name"), ("exp", "name"), ("experiment", "name"), ("job", "name"), ("trial", "name")}
_IDS = {"run", "exp", "experiment", "job", "trial", "slurm", "process", "session", "wandb", "mlflow"}
_DATE = r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d"
_TIME_OF_DAY = r"[012]\d[-_.:h]?[0-5]\d(?:[-_.:m]?[0-5]\d)?"
_MOMENT = re.compile(rf"(?<!\d){_DATE}[-_T ./]{{1,2}}{_TIME_OF_DAY}|[A-Z][a-z]{{2}}\d\d_\d\d-\d\d-\d\d")
_ID = re.compile(
    r"(?i)(?<![0-9a-f])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=\d*[a-f])[0-9a-f]{32,64})(?![0-9a-f])"
)
_SECONDS = re.compile(r"1[0-9]{9}(?:\.\d+|\d{3}|\d{6}|\d{9})?")  # since 1970, or parts of them


def aside(runs: pd.DataFrame, taken: Collection[str], repetitions: Sequence[str]) -> list[str]:
    """The parameters that are left aside.

    Args:
        runs: as `reading.runs` gives them.
        taken: parameters that somebody asks for, which are never left aside.
        repetitions: columns that tell repetitions apart.

    By its name, or by all of its values, such a parameter says where a run writes, what it is called, which ID it has,
    when or on which host it ran, or how (`verbose`, `n_jobs`); and

    - libraries call it so (`output_dir`, `job_num`: `autolog.is_no_choice`), or
    - no two runs have the same value of it, or
    - the other parameters and what tells repetitions apart determine it (of places, names and IDs: a host or a date
      that goes with a variation may well be why it is better).

    The name of a run, and its place, count where no other parameter tells runs apart.
    """
    columns = [name for name in runs if name.startswith("params.") and name not in repetitions]
    columns = [name for name in columns if runs[name].nunique(dropna=False) > 1]
    own = [name for name in columns if name[7:] not in taken]
    kinds = {name: _kind(name[7:], runs[name].dropna()) for name in own}
    candidates = [name for name, kind in kinds.items() if kind]
    if not candidates:
        return []
    others = [name for name in (*columns, *repetitions) if name not in candidates and name in runs]
    values = pd.DataFrame({name: runs[name].map(comparable) for name in others}, index=runs.index)
    shared = [name for name in others if not _all_differ(values[name])]  # what is another everywhere determines all
    alike = values[shared].groupby(shared, dropna=False, sort=False).ngroup() if shared else pd.Series(0, runs.index)
    found = []
    for name in candidates:
        determined = (runs[name].groupby(alike).nunique(dropna=False) <= 1).all() and bool(shared)
        alone = kinds[name] in ("name", "place") and not any(other in columns for other in others)
        follows = determined and kinds[name] not in ("moment", "host")
        if not alone and (is_no_choice(name[7:]) or _all_differ(runs[name]) or follows):
            found.append(name[7:])
    return found


def _all_differ(values: pd.Series) -> bool:
    known = values.dropna()
    return len(known) > 1 and known.is_unique


def _kind(name: str, values: pd.Series) -> str:
    """`place`, `name`, `id`, `moment`, `host` or `manner`; empty where a parameter may be a cause."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    texts = [str(value) for value in values]
    is_written = any(map(_WRITTEN.fullmatch, words))
    is_read = any(map(_READ.fullmatch, words)) or (any(map(_PHASE.fullmatch, words)) and not is_written)
    if not words or not texts or is_read:
        return ""
    if _PLACES.fullmatch(words[-1]):
        return "place" if is_written or all(_MOMENT.search(text) or _ID.search(text) for text in texts) else ""
    if tuple(words[-2:]) in _NAMES:
        return "name"
    if words[-1] in ("uuid", "guid") or words == ["id"] or (words[-1] == "id" and _IDS & set(words)):
        return "id"
    if _HOSTS.fullmatch(words[-1]):
        return "host"
    if all(_ID.fullmatch(text) for text in texts):
        return "id"
    timed = {"time", "date", "datetime", "timestamp", "stamp", "at", "now", "ts"} & set(words)
    is_moment = all(_MOMENT.search(text) or (timed and _SECONDS.fullmatch(text)) for text in texts)
    return "moment" if is_moment else "manner" if is_no_choice(name) else ""
