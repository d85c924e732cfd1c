"""Studies as they are declared: the shipped ones, the schema, grids, seeds, and every mistake in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from pipeline.errors import UserError
from pipeline.metrics import METRICS, QUALITY
from pipeline.study import files, plan
from pipeline.train.config import RunConfig

SHIPPED = ("controlled", "published", "tuned")
STUDY = """\
name: s
description: d
seeds: 2
variations:
  - name: a
  - name: b
    changes: {epochs: 3}
"""
CLAIM = (
    "claims: [{says: x, variation: b, against: a, about: [epochs], metric: loss, direction: lower, "
    "smallest_effect: 0.1}]\n"
)
PUBLISHED = (
    "published: {source: x, values: {a: {loss: 1}}, commonly_read_as: {loss: bce}, paper_values: {b: {epochs: 4}}}\n"
)


def parse(text: str) -> plan.Study:
    return files.parse(text, "s.yaml")


def mistake(text: str) -> str:
    """What an error says of a study file; it is one line."""
    with pytest.raises(UserError) as error:
        parse(text)
    (line,) = str(error.value).splitlines()
    return line


def with_seeds(seeds: str) -> str:
    return STUDY.replace("seeds: 2", f"seeds: {seeds}")


def with_changes(changes: str) -> str:
    return STUDY.replace("{epochs: 3}", changes)


# The shipped studies.


def test_published_is_exactly_the_four_published_runs() -> None:
    shared: dict[str, Any] = {"learning_rate": 0.001, "batch_size": 256, "encoding_dim": 32, "dataset": "mnist"}
    written_out: dict[str, dict[str, Any]] = {
        "Original": {"optimizer": "adadelta", "epochs": 50, "l1": 0.0, "decoder_hidden": 784},
        "adam_optimizer": {"optimizer": "adam", "epochs": 50, "l1": 0.0, "decoder_hidden": 0},
        "100_epochs": {"optimizer": "adam", "epochs": 100, "l1": 0.0, "decoder_hidden": 0},
        "with_regularizationTerm": {"optimizer": "adam", "epochs": 50, "l1": 0.0001, "decoder_hidden": 0},
    }
    expected = [
        (name, RunConfig.model_validate({**shared, **values, "seed": seed}).fingerprint)
        for seed in range(5)
        for name, values in written_out.items()
    ]
    study = files.load("published")
    assert [(name, config.fingerprint) for name, config in study.runs()] == expected
    assert study.baseline_name == "Original"


def test_published_has_the_figures_under_the_metrics_that_they_are() -> None:
    published = files.load("published").published
    assert published
    assert published.values["Original"] == {
        "keras2_progressbar_loss": 0.7210,
        "first_val_loss": 0.7132,
        "last_loss": 0.4410,
        "last_val_loss": 0.4391,
    }
    assert published.commonly_read_as == {"keras2_progressbar_loss": "first_loss"}
    stated = RunConfig.model_validate(published.paper_values["with_regularizationTerm"])
    assert stated.l1 == files.load("published").configurations()["with_regularizationTerm"].l1 / 10


def test_each_claim_of_controlled_changes_what_it_is_about_and_nothing_else() -> None:
    study = files.load("controlled")
    configs = study.configurations()
    assert len(study.claims) == 7
    for claim in study.claims:
        one, other = configs[claim.variation].model_dump(), configs[claim.against].model_dump()
        assert {name for name in one if one[name] != other[name]} == set(claim.about), claim.says


def test_the_shipped_studies_are_known_by_what_they_were_known_by() -> None:
    """By their digests the runs that were made are found again; made of MNIST's hash, here of another text."""
    digests = {name: files.load(name).digests({"mnist": "a" * 64}) for name in ("controlled", "published")}
    assert digests == {
        "controlled": ("33215471af27",),  # no earlier version held images out
        "published": ("6edb615a3e94", "2f4298d21608"),
    }


def test_controlled_contains_the_published_configurations() -> None:
    published, controlled = (set(files.load(name).configurations().values()) for name in ("published", "controlled"))
    assert {config.model_copy(update={"validation": 10000}) for config in published} < controlled


# The schema, by which an editor checks a study file.


class Yaml12(yaml.SafeLoader):
    """YAML 1.2, as most editors read it: 1e-5 is a number; PyYAML's 1.1 wants 1.0e-5, and a run takes the text."""


Yaml12.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789"))


def in_editor(text: str) -> Any:
    return yaml.load(text, Yaml12)  # noqa: S506 - it is a SafeLoader


def fits_the_schema(content: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(json.loads(files.json_schema())).is_valid(content))


def test_the_schema_file_is_up_to_date() -> None:
    assert files.SCHEMA.read_text(encoding="utf-8") == files.json_schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(files.json_schema()))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_fits_and_says_so_to_editors(name: str) -> None:
    text = (files.STUDIES / f"{name}.yaml").read_text(encoding="utf-8")
    assert fits_the_schema(in_editor(text))
    assert fits_the_schema(yaml.safe_load(text))  # YAML 1.1, as some editors read
    assert text.startswith(f"# yaml-language-server: $schema={files.SCHEMA.name}\n")
    assert files.load(name).name == name


@pytest.mark.parametrize("text", [STUDY + CLAIM + PUBLISHED, with_seeds("[7, 9]"), STUDY + "grid: {l1: [1e-5, 0]}"])
def test_what_loads_fits(text: str) -> None:
    parse(text)
    assert fits_the_schema(in_editor(text))


@pytest.mark.parametrize(
    "text",
    [
        STUDY + "seedz: 3",
        STUDY.replace("name: s", "name: a/b"),
        STUDY.replace("description: d\n", ""),
        STUDY.replace("changes", "change"),
        with_changes("{epoch: 3}"),
        with_changes("{epochs: many}"),
        with_changes("{epochs: 0}"),
        with_changes("{epochs: on}"),
        with_changes("{optimizer: adm}"),
        with_changes("{seed: 3}"),
        STUDY + "base: {l1: -1}",
        STUDY + "grid: {l1: []}",
        STUDY + "grid: {l1: 0.1}",
        with_seeds("0"),
        with_seeds("10001"),
        with_seeds("[]"),
        with_seeds("[1, 1]"),
        with_seeds("[-1]"),
        with_seeds("1.5"),
        with_seeds("true"),
        STUDY + CLAIM.replace("lower", "down"),
        STUDY + CLAIM.replace("metric: loss", "metric: los"),
        STUDY + CLAIM.replace("0.1", "0"),
        STUDY + CLAIM.replace("[epochs]", "[]"),
        STUDY + PUBLISHED.replace("bce", "bc"),
        STUDY + PUBLISHED.replace("epochs: 4", "epoch: 4"),
        "",
        "[a]",
    ],
)
def test_what_does_not_fit_does_not_load(text: str) -> None:
    assert not fits_the_schema(in_editor(text))
    mistake(text)


# Grids, seeds, runs.


def test_grids_multiply_out_in_the_order_of_the_file() -> None:
    study = parse(
        "{name: s, description: d, seeds: 1, base: {epochs: 2}, grid: {l1: [0, 1e-5]}, variations: ["
        "{name: a}, {name: b, changes: {optimizer: sgd}, grid: {batch_size: [64, 128], encoding_dim: [8, 16]}}]}"
    )
    changed: list[dict[str, Any]] = [{"l1": 0}, {"l1": 1e-5}]
    changed += [
        {"optimizer": "sgd", "batch_size": batch, "encoding_dim": dim} for batch in (64, 128) for dim in (8, 16)
    ]
    names = ["a l1=0", "a l1=1e-5"]
    names += [f"b batch_size={batch} encoding_dim={dim}" for batch in (64, 128) for dim in (8, 16)]
    expected = [RunConfig.model_validate({"epochs": 2, **values}) for values in changed]
    assert list(study.configurations().items()) == list(zip(names, expected, strict=True))


def test_a_value_of_the_grid_goes_before_changes_and_these_before_base() -> None:
    text = with_changes("{epochs: 3, l1: 0.5}\n    grid: {l1: [0.25]}") + "base: {epochs: 7, l1: 1}\n"
    configs = parse(text).configurations()
    assert [(config.epochs, config.l1) for config in configs.values()] == [(7, 1.0), (3, 0.25)]


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (3, (0, 1, 2)),
        ("3", (0, 1, 2)),
        ([7], (7,)),
        ([5, 0, 2**32 - 1], (5, 0, 2**32 - 1)),
        ((5, 0), (5, 0)),
        ("5,0", (5, 0)),
        (" 5, 0 ", (5, 0)),
        ("[7]", (7,)),
        ("7,", (7,)),
        (10_000, tuple(range(10_000))),
    ],
)
def test_seeds_are_a_count_a_list_or_a_text(given: Any, seeds: tuple[int, ...]) -> None:
    assert plan.as_seeds(given) == seeds
    content = {"name": "s", "description": "d", "variations": [{"name": "a"}], "seeds": given}
    assert plan.Study.model_validate(content).seeds == seeds


@pytest.mark.parametrize(
    "given",
    [
        0,
        -1,
        10_001,
        True,
        2.0,
        None,
        {},
        [],
        [1, 1],
        [-1],
        [2**32],
        [True],
        [1.0],
        ["1"],
        "",
        "x",
        "1,x",
        "1,,2",
        ",",
        "[1",
        "[]",
        "²",
    ],
)
def test_anything_else_is_no_seeds(given: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        plan.as_seeds(given)


def test_runs_are_seed_after_seed() -> None:
    runs = parse(with_seeds("[4, 2]")).runs()
    assert runs == [(name, RunConfig(epochs=epochs, seed=s)) for s in (4, 2) for name, epochs in (("a", 50), ("b", 3))]


def test_a_a_adds_fresh_seeds_of_the_baseline_and_its_first_run_once_more() -> None:
    text = with_seeds("[0, 3, 1]") + "baseline: b\n"
    added = parse(text + "aa_test: true\n").runs()[len(parse(text).runs()) :]
    expected = [("b" + plan.A_A, 2), ("b" + plan.A_A, 4), ("b" + plan.A_A, 5), ("b" + plan.AGAIN, 0)]
    assert added == [(name, RunConfig(epochs=3, seed=seed)) for name, seed in expected]


def test_an_empty_key_means_the_default() -> None:
    text = STUDY.replace("- name: a\n", "- name: a\n    changes:\n    grid:\n")
    empty = "base:\ngrid:\nbaseline:\naa_test:\nclaims:\npublished:\n"
    assert parse(text + empty) == parse(STUDY)
    assert parse(STUDY).baseline_name == "a"


def test_yaml_may_merge_and_repeat_by_reference() -> None:
    text = STUDY.replace("- name: a", "- name: a\n    changes: &x {l1: 1}").replace("{epochs", "{<<: *x, epochs")
    assert parse(text).configurations() == {"a": RunConfig(l1=1), "b": RunConfig(l1=1, epochs=3)}


# A part of a study.


def test_narrowed_keeps_what_is_left_consistent() -> None:
    study = parse(STUDY + "  - name: c\n    grid: {l1: [1, 2]}\n" + CLAIM + PUBLISHED + "aa_test: true\n")
    part = study.narrowed(["c l1=2", "b"], seeds=[9])
    assert part.configurations() == {"b": RunConfig(epochs=3), "c l1=2": RunConfig(l1=2)}
    assert (part.seeds, part.baseline_name, part.claims) == ((9,), "b", ())
    assert part.published
    assert (part.published.values, list(part.published.paper_values)) == ({}, ["b"])
    assert plan.Study.model_validate(part.model_dump()) == part
    assert study.narrowed(["a", "b"]).claims == study.claims
    assert study.narrowed().runs() == study.runs()


def test_narrowed_to_nobody_says_who_there_is() -> None:
    with pytest.raises(UserError) as error:
        files.load("published").narrowed(["adam_optimiser"])
    assert str(error.value) == (
        "filter='adam_optimiser': there is no such variation, did you mean 'adam_optimizer'?; "
        "allowed: 'Original', 'adam_optimizer', '100_epochs', 'with_regularizationTerm'"
    )


def test_values_that_need_each_other_may_stand_at_several_places() -> None:
    study = parse(
        STUDY.replace("{epochs: 3}", "{validation: 10, vary: [split]}")
        + "  - name: c\n    changes: {validation: 10}\n    grid: {vary: [[order, init], [init, split]]}\n"
    )
    configs = study.configurations()
    assert {name: (config.validation, config.vary) for name, config in configs.items()} == {
        "a": (0, "init+order"),
        "b": (10, "split"),
        "c vary=order+init": (10, "init+order"),
        "c vary=init+split": (10, "init+split"),
    }
    assert "c vary=init+split" in [variation.name for variation in study.narrowed(["c vary=init+split"]).variations]


# The digest of what is to be run.


def digest(text: str, data: str = "0" * 64) -> str:
    return parse(text).digests({"mnist": data})[0]


@pytest.mark.parametrize(
    "text",
    [
        STUDY.replace("description: d", "description: e"),
        STUDY + CLAIM + PUBLISHED,
        STUDY.replace("  - name: a\n", "") + "  - name: a\n",
        with_seeds("[1, 0]"),
        STUDY.replace("- name: a", "- name: a\n    changes: {optimizer: Adadelta, learning_rate: default}"),
    ],
)
def test_words_and_order_do_not_count(text: str) -> None:
    assert digest(text) == digest(STUDY)
    assert re.fullmatch("[0-9a-f]{12}", digest(text))


@pytest.mark.parametrize(
    "text", [with_seeds("3"), with_changes("{epochs: 4}"), STUDY + "aa_test: true", STUDY.replace("name: a", "name: c")]
)
def test_runs_count(text: str) -> None:
    assert digest(text) != digest(STUDY)


def test_images_count() -> None:
    assert digest(STUDY, data="1" * 64) != digest(STUDY)


# Mistakes.

KEYS = (
    "name, description, baseline, looks, project, version, entry_point, repetitions, metrics, base, grid, variations, "
    "seeds, nuisance, tuning, aa_test, retries, stop_after, claims, published, runs"
)
PARAMETERS = ", ".join(name for name in RunConfig.model_fields if name != "seed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STUDY + "seedz: 3", f"line 8: seedz = 3: there is no such key, did you mean 'seeds'?; allowed: {KEYS}"),
        (STUDY + "seedz:", f"line 8: seedz = nothing: there is no such key, did you mean 'seeds'?; allowed: {KEYS}"),
        (
            STUDY.replace("changes", "chnges"),
            "line 7: variations[1].chnges: there is no such key, did you mean 'changes'?; allowed: name, changes, grid",
        ),
        (
            with_changes("{epoch: 3}"),
            "line 7: variations[1].changes.epoch = 3: 'epoch' is not a parameter that a variation may change; "
            f"allowed: {PARAMETERS}, did you mean 'epochs'?",
        ),
        (
            STUDY + "grid: {seed: [1, 2]}",
            "line 8: grid.seed = [1, 2]: 'seed' is not a parameter that a variation may change; "
            f"allowed: {PARAMETERS}; seeds are given once, by `seeds`",
        ),
        (
            with_changes("\n      l1: 0\n      epochs: many"),
            "line 9: variations[1].changes.epochs = many: should be a valid integer, unable to parse string as an "
            "integer",
        ),
        (with_changes("{l1: on}"), "line 7: variations[1].changes.l1 = on: should be a valid number"),
        (with_changes("{l1: true}"), "line 7: variations[1].changes.l1 = true: true and false"),
        (with_changes("{epochs: 2026-01-02}"), "line 7: variations[1].changes.epochs = 2026-01-02: should be a valid"),
        (with_changes("{epochs: }"), "line 7: variations[1].changes.epochs = nothing: should be a valid integer"),
        (with_changes("[epochs]"), "line 7: variations[1].changes = [epochs]: should be a mapping"),
        (with_changes("{dataset: %s}" % ("x" * 99 + ": 1")), "line 7: "),
        (with_changes("{l1: %s}" % ("x" * 99)), f"line 7: variations[1].changes.l1 = {'x' * 57}...: should be a valid"),
        (with_changes('{l1: "a\\nb"}'), r'line 7: variations[1].changes.l1 = "a\nb": should be a valid number'),
        (with_changes("{<<: {epochs: many}}"), "line 7: variations[1].changes.epochs = many: should be a valid integ"),
        (STUDY + "base: {vary: [splt]}", "line 8: base.vary = [splt]: allowed: one or several of init, order, split"),
        (
            STUDY + "base: {vary: [split, init]}",
            "line 5: variations: 'a': vary=init+split wants a split to vary: set validation above 0",
        ),
        (
            STUDY + PUBLISHED.replace("epochs: 4", "vary: split"),
            "line 8: published.paper_values.b.vary = split: 'b': vary=split wants a split to vary",
        ),
        (STUDY + "base: {epochs: 0}", "line 8: base.epochs = 0: should be greater than or equal to 1"),
        (STUDY + "grid: {l1: [0, -1]}", "line 8: grid.l1[1] = -1: should be greater than or equal to 0"),
        (STUDY + "grid: {l1: 0}", "line 8: grid.l1 = 0: should be a list"),
        (STUDY + "grid: {l1: []}", "line 8: grid.l1 = []: should have at least one item"),
        (STUDY.replace("name: s", "name: 12"), "line 1: name = 12: should be a text; put it in quotes"),
        (STUDY.replace("name: s", "name: 2026-01-02"), "line 1: name = 2026-01-02: should be a text; put it in quotes"),
        (STUDY.replace("seeds: 2\n", ""), "line 1: seeds: is missing"),
        (STUDY + "  - [a]", "line 8: variations[2] = [a]: should be a mapping with the keys name, changes, grid"),
        (STUDY + "  -", "line 8: variations[2] = nothing: should be a mapping with the keys name, changes, grid"),
        # seeds
        (with_seeds("0"), "line 3: seeds = 0: a count of seeds is from 1 to 10000"),
        (with_seeds("-1"), "line 3: seeds = -1: a count of seeds is from 1 to 10000"),
        (with_seeds("[0, -1]"), "line 3: seeds[1] = -1: a seed is a whole number from 0 to 4294967295"),
        (with_seeds("[1, 2, 1]"), "line 3: seeds[2] = 1: each seed may stand there once"),
        (with_seeds("true"), "line 3: seeds = true: allowed: a count of seeds such as 5, or a list of 1 to 10000 such"),
        (with_seeds("[true]"), "line 3: seeds[0] = true: a seed is a whole number"),
        (with_seeds("2.0"), "line 3: seeds = 2.0: allowed: a count of seeds such as 5, or a list of 1 to 10000 such"),
        (with_seeds("[1.5]"), "line 3: seeds[0] = 1.5: a seed is a whole number"),
        (with_seeds("'1, x'"), "line 3: seeds[1] = '1, x': a seed is a whole number"),
        # names and configurations
        (with_changes("{epochs: 50}"), "line 5: variations: 'a' and 'b' are the same configuration; leave one of them"),
        (
            STUDY + "grid: {l1: [1e-5, 0.00001]}",
            "line 5: variations: 'a l1=1e-5' and 'a l1=0.00001' are the same configuration; leave one of them",
        ),
        (STUDY.replace("name: b", "name: a"), "line 5: variations: two are called 'a'; give each a name of its own"),
        (STUDY.replace("name: b", "name: a (A/A)"), "line 5: variations: 'a (A/A)' ends like a name of `aa_test`"),
        (
            STUDY + f"grid: {{epochs: {list(range(1, 50))}, l1: {list(range(50))}}}",
            "line 5: variations: with the grids these are 4,900 variations; at most 1000",
        ),
        (
            STUDY.replace("name: b", "name: 'b, c'"),
            "line 6: variations[1].name = 'b, c': String should match pattern '^[^,",
        ),
        (STUDY + "baseline: c", "line 8: baseline = c: there is no such variation; allowed: 'a', 'b'"),
        # claims
        (
            STUDY + CLAIM.replace("variation: b", "variation: c"),
            "line 8: claims[0].variation = c: there is no such variation; allowed: 'a', 'b'",
        ),
        (
            STUDY + CLAIM.replace("variation: b", "variation: a"),
            "line 8: claims[0].against = a: a variation cannot be compared with itself",
        ),
        (
            STUDY + CLAIM.replace("[epochs]", "[epoch]"),
            "claims[0].about[0] = epoch: 'epoch' is not a parameter",
        ),
        (
            STUDY + CLAIM.replace("[epochs]", "[[l1]]"),
            "claims[0].about[0] = [l1]: \"['l1']\" is not a parameter",
        ),
        (STUDY + CLAIM.replace("lower", "down"), "claims[0].direction = down: should be 'lower', 'higher' or 'equal'"),
        (STUDY + CLAIM.replace("metric: loss", "metric: [loss]"), "claims[0].metric = [loss]: allowed: loss, val_loss"),
        # published figures
        (
            STUDY + PUBLISHED.replace("{a:", "{'a, l1=0':"),
            "line 8: published.values['a, l1=0']: there is no such variation; allowed: 'a', 'b'",
        ),
        (STUDY + PUBLISHED.replace("{loss: 1", "{los: 1"), "line 8: published.values.a.los: allowed: loss, val_loss"),
        (STUDY + PUBLISHED.replace("loss: 1", "loss: .nan"), "published.values.a.loss = .nan: should be a finite"),
        (
            STUDY + PUBLISHED.replace("bce", "bc"),
            "line 8: published.commonly_read_as.loss = bc: allowed: loss, val_loss",
        ),
        (
            STUDY + PUBLISHED.replace("s: 4", "s: x"),
            "line 8: published.paper_values.b.epochs = x: should be a valid integer",
        ),
        (
            STUDY + PUBLISHED.replace("paper_values", "paper_valuez"),
            "published.paper_valuez: there is no such key, did you mean 'paper_values'",
        ),
        # YAML
        (STUDY + "name: t", "line 8: name stands there twice; leave one"),
        (with_changes("{l1: 0, l1: 0}"), "line 7: variations[1].changes.l1 stands there twice; leave one"),
        (STUDY + '"a\\nb": 1', rf"line 8: ['a\nb'] = 1: there is no such key; allowed: {KEYS}"),
        ("1: x", "line 1: the key 1 is not a text; put it in quotes"),
        (with_changes("{true: 3}"), "line 7: variations[1].changes: the key true is not a text; put it in quotes"),
        (with_changes("{on: 3}"), "line 7: variations[1].changes.on = 3: 'on' is not a parameter"),
        ("2026-01-02: x", "line 1: the key 2026-01-02 is not a text; put it in quotes"),
        (STUDY + "[a]: 1", "line 8: a key is not a text; put it in quotes"),
        (STUDY + "? {a: b}\n: 1", "line 8: a key is not a text; put it in quotes"),
        (STUDY + "? \n: 1", "line 8: a key is not a text; put it in quotes"),
        ("a: {<<: 3}", "line 1: expected a mapping or list of mappings for merging, but found scalar"),
        ("a:\n\t- b", r"line 2: found character '\t' that cannot start any token"),
        (STUDY + "---\n" + STUDY, "line 8: but found another document"),
        ("!!python/object/apply:os.getcwd []", "line 1: could not determine a constructor for the tag"),
        ("a\0: b", "s.yaml: unacceptable character #x0000"),
        (with_changes("{epochs: 2026-02-30}"), "s.yaml: a value cannot be read: day is out of range for month"),
        (with_changes("{epochs: %s}" % ("9" * 5000)), "s.yaml: a value cannot be read: Exceeds the limit"),
        (with_changes("{epochs: !!bool x}"), "s.yaml: a value cannot be read"),
        ("", f"s.yaml: a study is a mapping with the keys {KEYS}; this is empty"),
        ("# nothing\n", f"s.yaml: a study is a mapping with the keys {KEYS}; this is empty"),
        ("- a\n", f"s.yaml: a study is a mapping with the keys {KEYS}; this is a list"),
        ("text", f"s.yaml: a study is a mapping with the keys {KEYS}; this is a str"),
    ],
)
def test_a_mistake_is_one_line_with_the_place_what_was_given_and_what_is_allowed(text: str, says: str) -> None:
    assert says in mistake(text)


def test_several_mistakes_are_told_together() -> None:
    assert mistake(STUDY.replace("name: s", "name: s/t") + "x: 1") == (
        "s.yaml, line 1: name = s/t: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'; "
        f"line 8: x = 1: there is no such key; allowed: {KEYS}"
    )


def test_of_many_mistakes_three_are_told_and_the_others_counted() -> None:
    names = "".join(f"  - name: {n}\n    changes: {{epochs: 0}}\n" for n in range(1000))
    told = mistake(f"name: s\ndescription: d\nseeds: 1\nvariations:\n{names}")
    assert told.startswith("s.yaml, line 5: variations[0].name = 0: should be a text; put it in quotes; line 6: ")
    assert told.endswith("; and 1,997 more")
    assert len(told) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STUDY.replace("name: b", 'name: "b\\e[31m"'), r'variations[1].name = "b\e[31m": it has control characters'),
        (STUDY.replace("name: b", "name: b\u202e"), "it has control characters, which a terminal would obey"),
        (STUDY.replace("name: b", 'name: "b\\nc"'), "it should be one line, without tabs"),
        (STUDY.replace("description: d", 'description: "\\x9b31m"'), "it has control characters"),
    ],
)
def test_a_name_gives_no_commands_to_a_terminal(text: str, says: str) -> None:
    assert says in mistake(text)


def test_aliases_are_written_out_and_counted() -> None:
    changes = "&c {epochs: 3}"
    many = "".join(f"  - {{name: v{n}, changes: *c}}\n" for n in range(998))
    assert "are the same configuration" in mistake(with_changes(changes) + "\n" + many)
    assert "with the aliases written out it has more than 100,000 values" in mistake(LAUGHS + STUDY)


def test_a_list_is_not_called_too_short_because_of_a_mistake_in_its_only_item() -> None:
    assert mistake("{name: s, description: d, seeds: 1, variations: [a]}") == (
        "s.yaml, line 1: variations[0] = a: should be a mapping with the keys name, changes, grid"
    )


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 5000 + "}" * 5000,
        "&a [*a]",
        "a: &a {b: *a}",
        STUDY + "base: &a {epochs: *a}",
        LAUGHS,
        LAUGHS + with_changes("{l1: *a29}"),
        LAUGHS + STUDY + "grid: {l1: *a29}",
    ],
)
def test_depth_and_references_without_end_are_mistakes_like_others(text: str) -> None:
    assert len(mistake(text)) < 300


def test_a_shipped_study_goes_by_its_name_and_any_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    assert files.load(str(tmp_path / "mine.yaml")) == parse(STUDY)
    assert files.load("published") == files.load(str(files.STUDIES / "published.yaml"))


def test_a_file_that_is_no_text_or_no_file_is_a_mistake_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\0\xff")
    (tmp_path / "wrong.yaml").write_text(STUDY + "x: 1\n")
    for study, says in {
        "publishd": "study='publishd' does not exist, did you mean 'published'?; give controlled, published",
        f"{tmp_path}/none.yaml": "does not exist; give controlled, published, tuned, or the path of a YAML file",
        "": "study=''",
        str(tmp_path): f"study='{tmp_path}' is a directory; give controlled, published, tuned, or the path of a YAML",
        f"{tmp_path}/picture.yaml": "is not a text in UTF-8 (invalid start byte); give controlled, published, tuned",
        f"{tmp_path}/wrong.yaml": f"{tmp_path}/wrong.yaml, line 8: x = 1: there is no such key",
        "~nobody-of-this-name/x.yaml": "is in the home of a user that is not known here; give controlled",
        "x" * 5000: "cannot be opened (File name too long); give controlled",
        "a\0b": "study='a\\x00b' cannot be opened (embedded null byte); give controlled",
    }.items():
        with pytest.raises(UserError) as error:
            files.load(study)
        assert says in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_the_metrics_are_those_that_a_run_logs() -> None:
    names = [row.name for row in METRICS]
    assert {*QUALITY, "loss", "first_loss", "last_val_bce", "keras2_progressbar_loss", "epoch_seconds"} < set(names)
    higher = {"psnr", "ssim", "variance_ratio"}
    assert {row.name for row in METRICS if row.higher_is_better} == {*higher, *(f"test_{name}" for name in higher)}
    assert len(set(names)) == len(names)


def test_a_study_file_may_use_the_keys_of_an_earlier_version(capsys: pytest.CaptureFixture[str]) -> None:
    text = STUDY + CLAIM + PUBLISHED + "aa_test: true\n"
    now = parse(text)
    assert capsys.readouterr().err == ""
    former = {
        "aa_test": "a_a",
        "smallest_effect": "smallest",
        "values": "figures",
        "commonly_read_as": "taken_for",
        "paper_values": "stated",
    }
    for name, before in former.items():
        text = re.sub(rf"\b{name}:", f"{before}:", text)
    assert parse(text) == now
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == sorted(f"s.yaml: {before} is now called {name}" for name, before in former.items())
    assert "line 8: claims[0].smallest_effect = 0: should be greater" in mistake(text.replace("0.1", "0"))


def test_a_study_file_may_use_a_metrics_name_of_an_earlier_version() -> None:
    text = files.read("published")
    before = text.replace("keras2_progressbar_loss", "first_displayed_loss")
    assert before != text
    assert parse(before) == parse(text)
