"""What is measured: one row per metric, and how other people's metrics are told by their names.

Reports, the schema of study files and `quality.measure` are made of `METRICS`: a new quality metric is a row here and a
function of its name in `pipeline/train/quality.py`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple

Better = Literal["lower", "higher"] | None
Range = tuple[float, float]
_ANY: Range = (-math.inf, math.inf)
_POSITIVE: Range = (0.0, math.inf)
_SHARE: Range = (0.0, 1.0)


@dataclass(frozen=True)
class Flag:
    """What a report says of a run whose value is below or above what it should be."""

    name: str
    noun: str  # `no collapse ... in what was read`
    says: str  # of a variation, behind its name
    below: float = -math.inf
    above: float = math.inf
    is_threat: bool = False  # to the validity of a comparison: not only a remark


@dataclass(frozen=True)
class Metric:
    """A metric, and how it is to be shown and compared."""

    name: str  # as in MLflow
    label: str  # for a person
    unit: str = ""
    decimals: int = 4
    better: Better = "lower"  # None: of a guessed one, where its name does not tell
    possible: Range = _ANY  # for images in [0, 1]
    shown: bool = True  # in a report's first table
    compared: bool = False  # each variation with the baseline, asked or not
    primary: bool = False  # the one by which variations are ranked
    per_epoch: bool = False  # else logged at the end of a run
    convergence: bool = False  # of the per-epoch ones: the one that shows whether a run had converged
    is_quality: bool = False  # measured on the reconstructions of validation images, by `quality.measure`
    finite: bool = False  # a run without a finite value of it is flagged
    contains: tuple[str, ...] = ()  # parameters of which a term is in it: where they differ, it is not comparable
    without: str | None = None  # the metric without these terms
    flag: Flag | None = None
    formerly: str = ""  # its name in runs and study files of earlier versions

    @property
    def higher_is_better(self) -> bool | None:
        """None where nobody knows."""
        return self.better and self.better == "higher"

    @property
    def is_wall_time(self) -> bool:
        """Whether it measures how long something took or how fast, which depends on what else the machine did."""
        return _read(self.name).is_wall_time

    @property
    def is_counter(self) -> bool:
        """Whether it is no result but where a run is, how it is set or how the machine does: epoch, lr, system/..."""
        return _read(self.name).is_counter


_NATS, _SECONDS = "nats per pixel", "s"
FIRST, LAST, TEST = "first_", "last_", "test_"
DISPLAYED_LOSS = "displayed_loss"  # of one epoch; the first epoch's is logged as KERAS2_LOSS
KERAS2_LOSS = "keras2_progressbar_loss"
MODEL_PARAMETERS = "model_parameters"  # the numbers that are trained
EPOCH_SECONDS, TRAINING_SECONDS = "epoch_seconds", "training_seconds"
# What `loss`, which is minimised, contains beside the reconstruction's error, `bce`: the parameter of each term.
_TERMS = {"l1": "the L1 penalty"}


def _loss(name: str, shown: Sequence[str], compared: Sequence[str], primary: str = "", **more: Any) -> Iterator[Metric]:
    """A per-epoch loss and its value in the first and the last epoch, of which some are shown, compared and primary."""
    row = Metric(name, name, _NATS, possible=_POSITIVE, per_epoch=True, shown=False, **more)
    for edge in (FIRST, LAST):
        yield replace(
            row,
            name=edge + name,
            label=f"{edge.rstrip('_')} {name}",
            shown=edge in shown,
            compared=edge in compared,
            primary=edge == primary,
            per_epoch=False,
            convergence=False,
            finite=True,
            without=row.without and edge + row.without,
        )
    yield row


_LOSSES = (
    *_loss("loss", (FIRST, LAST), (), contains=tuple(_TERMS), without="bce"),
    *_loss("val_loss", (FIRST, LAST), (LAST,), contains=tuple(_TERMS), without="val_bce"),
    *_loss("bce", (), ()),
    *_loss("val_bce", (LAST,), (LAST,), LAST, convergence=True),
)


def _quality(name: str, label: str, unit: str = "", **more: Any) -> Metric:
    return Metric(name, label, unit, is_quality=True, **{"compared": True, "possible": _SHARE, **more})


def _on_test(name: str, of: Metric) -> Metric:
    """The same of the test images, where others are held out for validation: measured once, at the end."""
    return replace(of, name=TEST + name, label=f"{of.label}, test images", is_quality=False, flag=None, formerly="")


_QUALITY = (
    _quality("mse", "MSE"),
    _quality("psnr", "PSNR", "dB", decimals=2, better="higher", possible=_POSITIVE),
    _quality("ssim", "SSIM", better="higher", possible=(-1.0, 1.0)),
    _quality("dark_noise", "dark noise"),
    _quality("thin_stroke_error", "thin-stroke error"),
    _quality(
        "variance_ratio",
        "variance ratio",
        decimals=3,
        better="higher",
        possible=_POSITIVE,
        compared=False,
        flag=Flag(
            "collapsed", "collapse", "collapsed to nearly the same picture for every input", below=0.05, is_threat=True
        ),
        formerly="collapse",
    ),
    _quality(
        "dead_units",
        "dead units",
        decimals=1,
        possible=_POSITIVE,
        compared=False,
        flag=Flag("dead units", "dead units", "has dead units, which are never active", above=0),
    ),
)
_BCE = Metric("bce", "bce", _NATS, possible=_POSITIVE, compared=True)

# In the order of a report's columns.
METRICS = (
    *(row for row in _LOSSES if row.per_epoch),
    *(row for row in _LOSSES if not row.per_epoch),
    Metric(
        KERAS2_LOSS,
        "Keras 2 progress-bar loss",
        _NATS,
        possible=_POSITIVE,
        shown=False,
        contains=tuple(_TERMS),
        formerly=FIRST + DISPLAYED_LOSS,
    ),
    *_QUALITY,
    *(_on_test(row.name, row) for row in (_BCE, *_QUALITY)),
    Metric(MODEL_PARAMETERS, "parameters of the model", decimals=0, possible=_POSITIVE, shown=False),
    Metric(TRAINING_SECONDS, "training", _SECONDS, 1, possible=_POSITIVE),
    Metric(EPOCH_SECONDS, "epoch", _SECONDS, 3, possible=_POSITIVE, shown=False, per_epoch=True),
)
LOSSES = tuple(row.name for row in _LOSSES if row.per_epoch)
QUALITY = tuple(row.name for row in METRICS if row.is_quality)
FLAGS = tuple(row.flag for row in METRICS if row.flag)
PRIMARY = next(row.name for row in METRICS if row.primary)
_NOW = {row.formerly: row.name for row in METRICS if row.formerly}


def current(name: str) -> str:
    """A metric's name, for one of an earlier version; any other is itself."""
    return _NOW.get(name, name)


def contained(name: str) -> str:
    """What a metric contains that is no part of what it is compared for: `the L1 penalty`."""
    return " and ".join(_TERMS[term] for row in METRICS if row.name == current(name) for term in row.contains)


# --- Other people's metrics ---------------------------------------------------------------------------------------

At = Literal["last", "best"] | int  # which of the values that a run has logged of a metric: also that of a step


def read_at(text: Any) -> Any:
    """`last`, `best`, or the step of `step 10` or `10`.

    Raises:
        ValueError: it is none of them.
    """
    found = re.fullmatch(r"(?:step )?\s*(\d+)", str(text).strip())
    if text in ("last", "best") or (found and not isinstance(text, bool)):
        return int(found[1]) if found else text
    raise ValueError("allowed: last, best, or a step such as step 10")


# What other people call the count of the numbers that are trained, as a metric or a parameter.
SIZES = (MODEL_PARAMETERS, "num_params", "num_parameters", "n_params", "total_params", "trainable_params")
_TIMES = ("seconds", "time", "duration")  # at the end of a word of the name


class _Known(NamedTuple):
    """What a word, or a few, in the name of a metric say of it.

    The kinds: a `result`; a `head`, a `time` and a `speed` are results, too, and a head or a time that stands last is
    what the whole name is of: a dice loss is a loss. A `weak` one counts where no other result is named: an F1 score is
    an F1. A `neg` turns a result round, and a `void` makes something of it of which nobody knows what is better. Names
    of counters have a `step`, a `setting` or a `state`; beside a result the first two say nothing: `loss_step`.
    """

    kind: str
    better: Better = None
    possible: tuple[Range, ...] = ()  # the first that no value contradicts

    @property
    def negative(self) -> _Known:
        """Of `neg_mse`, which is higher for a better model. `neg_recall` may as well be the recall of negatives."""
        better: Better = "higher" if self.better == "lower" else "lower"
        turned = tuple((0.0 - most, 0.0 - least) for least, most in self.possible)
        of_a_class = self.better == "higher" and _SHARE in self.possible
        return self._replace(better=None if of_a_class or not self.better else better, possible=turned)


_SHARES = (_SHARE, (0.0, 100.0))
_SIGNED = ((-1.0, 1.0),)
# As `_words` and `_entry` read them: one row finds f1, F1 and f_1, ROUGE-L by rouge, and losses by loss.
_ROWS: tuple[tuple[_Known, str], ...] = (
    # Classification
    (
        _Known("result", "higher", _SHARES),
        "accuracy, accuracies, acc, bacc, acc norm, top 1, top 3, top 5, top 10, rank 1, precision, prec, recall, "
        "sensitivity, specificity, true positive rate, true negative rate, tpr, tnr, predictive value, "
        "negative predictive value, ppv, npv, f1, f2, f0.5, fbeta, f beta, f measure, f score, fscore, auc, auroc, "
        "auprc, aucpr, ap, map, gmean, jaccard, dice, dice coef, dice coefficient, iou, IoU, miou, mIoU, "
        "panoptic quality, pck",
    ),
    (_Known("result", "higher", _SIGNED), "mcc, matthews, kappa"),
    (
        _Known("result", "lower", _SHARES),
        "false positive rate, false negative rate, fpr, fnr, fdr, false alarm, false discovery, eer, merror, hamming, "
        "miss rate, failure, fail, ece, calibration error, error rate, hallucination, toxicity",
    ),
    (_Known("head", "lower", _SHARES), "hamming loss, zero one loss, brier score loss, jaccard distance"),
    (_Known("result", "lower", (_SHARE, (0.0, 2.0))), "brier"),
    (_Known("weak", "higher", (_POSITIVE,)), "tp, tn"),
    (_Known("weak", "lower", (_POSITIVE,)), "fp, fn"),
    (_Known("result", "higher", (_POSITIVE,)), "true positive, true negative, likelihood"),
    (_Known("result", "lower", (_POSITIVE,)), "false positive, false negative"),
    # Losses and regression
    (_Known("head", "lower"), "loss, error, err, cost, regret, gap"),
    (
        _Known("result", "lower", (_POSITIVE,)),
        "absolute error, absolute percentage error, squared error, square error, percentage error, squared log error, "
        "logarithmic error, mse, rmse, nmse, nrmse, rmsd, mae, nmae, mase, mape, wape, smape, wmape, mdape, medae, "
        "msle, rmsle, mphe, sse, ssr, rss, crps, hinge, huber, pinball, log cosh, logcosh, abs rel, sq rel, silog, "
        "log loss, logloss, mlogloss, bce, cross entropy, crossentropy, kl divergence, kl div, kld, kullback leibler, "
        "jensen shannon, js divergence, bpb, bpp, bits per byte, bits per pixel, bits per character, bits per char, "
        "bpc, gamma deviance, poisson deviance",
    ),
    (_Known("weak", "lower", (_POSITIVE,)), "l1, l2"),  # LightGBM's MAE and MSE
    (
        _Known("result", "higher", ((-math.inf, 1.0),)),
        "r2, rsquared, r squared, coefficient of determination, explained variance, explained variance ratio, d2",
    ),
    (_Known("head", "higher", ((-math.inf, 1.0),)), "d2 absolute error, d2 log loss, d2 brier"),
    (_Known("result", "higher", _SIGNED), "pearson, spearman, kendall, pearsonr, spearmanr, plcc, srcc, silhouette"),
    (_Known("weak", "higher", _SIGNED), "correlation, corr, correlation coefficient, corr coef"),
    # Likelihood
    (
        _Known("result", "higher"),
        "log likelihood, loglikelihood, loglik, log lik, llf, log prob, logprob, elbo, elpd, lppd, log evidence",
    ),
    (_Known("result", "lower"), "nll, nloglik, nelbo, bpd, bits per dim, aic, aicc, bic, hqic, deviance, free energy"),
    (_Known("result", "lower", ((1.0, math.inf),)), "perplexity, ppl"),
    # Language, speech, vision
    (
        _Known("result", "higher", _SHARES),
        "bleu, sacrebleu, gleu, rouge, meteor, chrf, chrF, bertscore, BERTScore, exact match, em, mauve, stoi, vmaf, "
        "faithfulness, groundedness, correctness, relevance, mota, idf1, hota",
    ),
    (
        _Known("result", "higher"),
        "bleurt, comet, cider, psnr, snr, sdr, si sdr, si snr, pesq, mos, signal to noise ratio, signal noise ratio",
    ),
    (_Known("result", "higher", _SIGNED), "ssim, ms ssim, msssim"),
    (_Known("result", "higher", ((1.0, math.inf),)), "inception score"),
    (
        _Known("result", "lower", (_POSITIVE,)),
        "ter, wer, cer, edit distance, levenshtein, fid, lpips, dssim, frechet inception distance, hausdorff, "
        "chamfer, hd95, wasserstein, ade, fde, epe, mpjpe, nme, davies bouldin, perceptual image patch similarity",
    ),
    (_Known("result", "lower"), "kid, kernel inception distance, mmd, inertia"),
    # Retrieval, clustering, reinforcement learning, business
    (
        _Known("result", "higher", _SHARES),
        "ndcg, mrr, reciprocal rank, hit, hit ratio, pass rate, pass k, pass 1, success",
    ),
    (_Known("result", "higher", _SHARES), "win, homogeneity, completeness, v measure, purity, nmi, c index"),
    (_Known("result", "higher", _SIGNED), "rand, ari, ami, mutual info, fowlkes mallows"),
    (
        _Known("result", "higher"),
        "calinski harabasz, mutual information, reward, rew, return, elo, sharpe ratio, profit, dcg, "
        "discounted cumulative gain",
    ),
    (_Known("result", "higher"), "revenue, conversion rate, click through rate, ctr, speedup, mfu"),
    (_Known("result", "lower", (_POSITIVE,)), "exploitability, violation, collision, latency, real time factor, rtf"),
    (_Known("weak", "higher"), "score, similarity"),
    (_Known("weak", "lower", (_POSITIVE,)), "memory, vram, ram, emissions, energy consumed, energy consumption"),
    # Time, `_TIMES` and these, and speed
    (_Known("time", "lower", (_POSITIVE,)), "elapsed, wall clock, sec, minutes, hours"),
    (_Known("speed", "higher", (_POSITIVE,)), "throughput, fps, per second, per sec, per s, per minute, per hour"),
    # What turns or voids another word
    (_Known("neg"), "neg, negative"),
    (
        _Known("void"),
        "std, stddev, stdev, sd, sem, stderr, standard error, standard deviation, var, variance, skew, kurtosis, "
        "ratio, weight, coef, coefficient, threshold, delta, diff, difference, change, improvement, gain, drop, "
        "reduction, minus, inverse, inv, rank, norm, rejected, p value, pvalue, grade level, compression ratio",
    ),
    # What is no result
    (_Known("step"), "epoch, step, iteration, iter, episode, batch, batches, update, round, timestep, time step, seen"),
    (_Known("setting"), "lr, learning rate, step size, weight decay"),
    (
        _Known("state"),
        "grad norm, gradient norm, flos, timestamp, loss scale, grad scale, intermediate value, trial id",
    ),
)
# Words that say nothing of what is better.
_ASIDE = {
    *("mean", "avg", "average", "median", "root", "max", "total", "num", "number", "count"),
    *("train", "training", "val", "valid", "validation", "test", "testing", "eval"),
}


# On which part of the data a metric was measured, from the one that says most of what somebody wants to know: what was
# held out to choose by, what was held out to report, what does not say it, what was trained on.
_PARTS = (("val", "valid", "validation", "eval", "dev", "cv"), ("test", "testing", "heldout", "holdout"), ())
_OF_TRAINING = ("train", "training")

Part = Literal["training", "validation", "test", "unknown"]  # of the data, of which `test` is only reported on
THE_MAIN_ONE = (
    "a loss on validation data, or another metric on them; else on test data, on no stated ones, on training data"
)


def unlikely(name: str, is_objective: bool = False) -> tuple[Any, ...]:
    """Sorts metrics by how likely they are what somebody wants to know of his runs, the likeliest first.

    Args:
        is_objective: whether it is known that a search was for it.
    """
    row, words = guess(name), set(_split(name))
    part = next(n for n, known in enumerate(_PARTS) if not known or words & set(known))
    part += bool(words & set(_OF_TRAINING)) * len(_PARTS)
    is_loss = {*_words(name)} - {"epoch", "step"} == {"loss"}
    return row.is_wall_time or row.is_counter, row.better is None and not is_objective, part, not is_loss, name


def part_of(name: str) -> Part:
    """The part of the data that a metric is of, as far as its name says."""
    words = set(_split(name))
    validation, test, _ = _PARTS
    parts: tuple[tuple[Part, Sequence[str]], ...] = (
        ("validation", validation),
        ("test", test),
        ("training", _OF_TRAINING),
    )
    return next((part for part, known in parts if words & set(known)), "unknown")


class _Reading(NamedTuple):
    """What the name of a metric says."""

    better: Better
    possible: tuple[Range, ...]
    is_wall_time: bool
    is_counter: bool


def guess(name: str, least: float = math.inf, most: float = -math.inf) -> Metric:
    """A metric of which nothing but its name is known, and between what values those seen lie."""
    read = _read(name)
    possible = next((each for each in read.possible if each[0] <= least and most <= each[1]), _ANY)
    return Metric(name, name, better=read.better, possible=possible)


@cache
def _read(name: str) -> _Reading:
    """What is told by the result that a name is of: of `time/fps` the last of a path, of `f1_loss` its head.

    Nothing is, where results contradict each other (`loss_f1`) or a word makes something else of them (`accuracy_std`).
    """
    path = re.sub(r"/ ?(s|sec|second)$", " per second", name).split("/")
    parts = [known for part in path if (known := _known(part))] or [[_Known("")]]
    kinds = {each.kind for part in parts for each in part}
    results = next(
        (
            chosen
            for among in (("result", "head", "time", "speed"), ("weak",))
            for part in reversed(parts)
            if (chosen := [each for each in part if each.kind in among])
        ),
        [_Known("")],
    )
    told = any(each.kind for each in results)
    counts = parts[-1][-1].kind == "step" and (not told or "best" in name.lower())
    is_counter = name.startswith("system/") or "state" in kinds or counts or ("setting" in kinds and not told)
    is_clear = results[-1].kind in ("head", "time") or len({each.better for each in results}) == 1
    is_wall_time = bool(kinds & {"time", "speed"}) and "latency" not in name.lower()
    if is_counter or not is_clear or "void" in kinds:
        return _Reading(None, (_POSITIVE,) * is_wall_time, is_wall_time, is_counter)
    return _Reading(results[-1].better, results[-1].possible, is_wall_time, is_counter)


def _known(part: str) -> list[_Known]:
    """What the words of a name say, one after the other, and of a word that says nothing an empty one.

    Behind `at` and `to` is no more than a condition: `fpr_at_95_tpr`, `time_to_accuracy_0.9`. A `neg` turns what is
    directly behind it, of which it makes a loss in `neg_dice_loss`, and leaves `neg_samples_loss` in doubt.
    """
    known = [_Known("void")] if re.match(r"\s*1?\s*-", part) else []  # 1-ssim, -loss
    words, turns, in_doubt = _words(part), False, False
    while words and not (words[0] in ("at", "to") and any(each.kind for each in known)):
        size, entry = next(((n, e) for n in (4, 3, 2, 1) if (e := _entry(words[:n]))), (1, _Known("")))
        said = entry._replace(better=None) if turns and in_doubt else entry.negative if turns else entry
        if entry.kind:
            turns = entry.kind == "neg" or (turns and entry.better != "higher")
        else:
            in_doubt = turns
        if entry.kind or not words[0].isdigit():
            known.append(said)
        words = words[size:]
    return [*known, _Known("")] if words else known


def _entry(words: Sequence[str]) -> _Known | None:
    """The row of a few words, of which the last may be a plural."""
    text = " ".join(words)
    for each in (text, text.removesuffix("s"), text.removesuffix("es")):
        if each in _BY_WORDS:
            return _BY_WORDS[each]
    return _Known("time", "lower", (_POSITIVE,)) if len(words) == 1 and text.endswith(_TIMES) else None


def _words(name: str) -> list[str]:
    """Those of a name, without those that say nothing."""
    return [word for word in _split(name) if word not in _ASIDE]


def _split(name: str) -> list[str]:
    """At signs, digits and humps, in lower case; in other alphabets than ours at signs alone."""
    chunks = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name).replace("@", " at "))
    humps = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+"
    words = [word for chunk in chunks for word in (re.findall(humps, chunk) if chunk.isascii() else [chunk])]
    return [word.lower() for word in words]


_BY_WORDS = {" ".join(_words(each)): known for known, names in _ROWS for each in names.split(", ")}
