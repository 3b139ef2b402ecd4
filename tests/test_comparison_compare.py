"""Every technique on a stored history: in time order, on both engines, told and kept as it was measured."""

import csv
import io
import json

import numpy as np
import pytest

from detectors.base import DetectorError
from detectors.evaluation.comparison import difference
from detectors.imbalance import backtest
from detectors.imbalance.backtest import select_techniques
from detectors.imbalance.results import FLAG_NOTHING, MOVED_THRESHOLD, estimates
from detectors.imbalance.techniques import TECHNIQUES, FittedTechnique, Technique
from pipeline.comparison.compare import compare
from pipeline.comparison.folds import ComparisonOptions, folds_of
from pipeline.comparison.plots import check, curves
from pipeline.comparison.results import CURVE_POINTS, curve_rows, fold_row, metric_rows
from pipeline.errors import InputError, NotReady
from storage.errors import Unknown
from storage.frames import DAY
from storage.models import comparisons
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import World
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, payments, write_csv
from tests.support.worlds import SMALL, load, load_both

DAYS = 60
NOW = START + DAYS * DAY
WANTED = ComparisonOptions(folds=2, test=7 * DAY, max_rows=4000)


def fill(store, folder):
    rows, labels = payments(DAYS)
    load_both(store, SMALL, folder, rows, labels, now=NOW)


SIXTY_DAYS = World("sixty_days", SMALL, fill)


@pytest.fixture
def store(copier):
    return copier(SIXTY_DAYS)


def test_folds_respect_time_and_the_delay_of_labels(store):
    folds = folds_of(store, SMALL, WANTED, NOW)
    assert len(folds) == 2
    assert folds[-1].end <= NOW - SMALL.labels.maturity
    for fold in folds:
        assert fold.rows.time.min() >= fold.start
        assert fold.rows.time.max() < fold.end
        assert len(fold.past.mature) + len(fold.calibration) == len(fold.all.mature)
        assert set(np.unique(fold.rows.y)) <= {0.0, 1.0}
    assert folds[0].end == folds[1].start
    # A training knows nothing of the days that labels need to mature in.
    from pipeline.features import history as feature_history
    from pipeline.training import training_set

    history = feature_history.load(store, SMALL, START - 40 * DAY, NOW)
    known = training_set.training_set_at(SMALL, history, folds[0].start)
    newest = history.transactions.event_time[known.mature].max()
    assert newest < folds[0].start - SMALL.labels.maturity
    assert folds[0].all.frauds == known.y[-WANTED.max_rows :].sum()


@pytest.mark.long
def test_every_technique_is_tried(sqlite_copier):
    store = sqlite_copier(SIXTY_DAYS)
    found = compare(store, SMALL, ComparisonOptions(folds=1, max_rows=2500), NOW)
    names = [line.technique for line in found.results]
    assert names[0] == FLAG_NOTHING
    tried = set(names) | set(found.not_possible)
    assert {t.name for t in TECHNIQUES} - {"no balancing"} <= tried
    assert {MOVED_THRESHOLD, "no balancing, threshold 0.5", "no balancing, threshold 0.1"} <= set(names)
    ap = [line.evaluation.metrics["ap"].value for line in found.results[1:]]
    assert ap == sorted(ap, reverse=True)
    nothing = found.results[0].evaluation.metrics
    assert (nothing["f1"].value, nothing["mcc"].value) == (0, 0)
    assert nothing["savings"].value <= 0
    assert nothing["accuracy"].value > 0.9
    by_name = {line.technique: line for line in found.results}
    assert by_name["undersampling 50/50"].discarded > 0
    assert by_name["SMOTE 50/50"].invented > 1000
    assert by_name[MOVED_THRESHOLD].ap_train > 0.9
    assert max(ap) > 0.5  # planted fraud is found


@pytest.mark.one_engine
def test_the_table_is_kept_as_it_was_measured(store):
    found = compare(
        store,
        SMALL,
        ComparisonOptions(folds=2, max_rows=4000, names=("logistic", "LODA", "undersampling 50")),
        NOW,
    )
    assert "ranks best" in found.sentence
    folds, rows = [fold_row(fold) for fold in found.folds], metric_rows(found)
    comparisons.save(
        store, NOW, "ann", "", {"per_day": 5}, folds, found.notes(), found.sentence, rows, curve_rows(found)
    )
    kept = comparisons.load(store)
    assert (kept.sentence, kept.notes, list(kept.folds)) == (found.sentence, found.notes(), folds)
    drawn = [line for line in found.results if line.curve is not None]
    assert kept.curves == curve_rows(found)
    assert kept.curves.keys() == {line.technique for line in drawn} != set()
    for line in drawn:
        curve, (recall, precision) = kept.curves[line.technique], line.curve
        assert len(curve["recall"]) == len(curve["precision"]) <= CURVE_POINTS
        assert (curve["recall"][0], curve["recall"][-1]) == pytest.approx((recall[0], recall[-1]), abs=1e-4)
        assert (curve["precision"][0], curve["precision"][-1]) == pytest.approx(
            (precision[0], precision[-1]), abs=1e-4
        )
    of_kept = {(one.technique, one.metric): one for one in kept.results}
    for line in found.results:
        for measure, one in estimates(line).items():
            stored = of_kept[line.technique, measure]
            measured = [None if np.isnan(value) else value for value in (one.value, one.lower, one.upper)]
            assert [stored.value, stored.lower, stored.upper] == measured
    with pytest.raises(Unknown, match="no such comparison"):
        comparisons.load(store, 99)


def test_labels_that_come_after_a_training_date_do_not_change_what_it_fits(store, tmp_path):
    wanted = ComparisonOptions(folds=2, max_rows=4000, names=("HBOS", "logistic"))
    before = folds_of(store, SMALL, wanted, NOW)
    first = before[0].test
    rows, _ = payments(DAYS)
    ids = [row.split(",")[0] for row in rows if row.split(",")[1][:10] == "2025-02-20"]
    more = [f"{one},1,2025-02-27T00:00:00Z,chargeback" for one in ids[:20]]
    load(store, SMALL, "labels", write_csv(tmp_path / "late.csv", LABEL_HEADER, more), now=NOW + DAY)
    after = folds_of(store, SMALL, wanted, NOW + DAY)
    same = next(fold for fold in after if fold.start == before[0].start)
    assert same.all.mature.raw.tobytes() == before[0].all.mature.raw.tobytes()
    assert same.all.mature.y.tobytes() == before[0].all.mature.y.tobytes()
    assert len(same.test) == len(first)


def test_one_that_is_not_possible_is_named_and_the_others_go_on(store, monkeypatch):
    def fails(training):
        from detectors.base import DetectorError

        raise DetectorError("needs more frauds")

    def works(training):
        return FittedTechnique(lambda rows: rows.X[:, 0])

    monkeypatch.setattr(backtest, "TECHNIQUES", (Technique("a", "x", works), Technique("b", "x", fails)))
    found = compare(store, SMALL, WANTED, NOW)
    assert found.notes()["b"] == "not possible: needs more frauds"
    assert [line.technique for line in found.results] == [FLAG_NOTHING, "a"]
    monkeypatch.setattr(backtest, "TECHNIQUES", (Technique("b", "x", fails),))
    with pytest.raises(NotReady, match="b is not possible here"):
        compare(store, SMALL, WANTED, NOW)


def test_thresholds_are_set_on_the_strategy_that_is_judged(store, monkeypatch):
    """One that would choose otherwise with fewer rows, on another scale, is fitted to them as it chose with all."""

    def works(training):
        return FittedTechnique(lambda rows: rows.raw[:, 0] - 3.0)

    sizes = []

    def wavers(training):
        sizes.append(len(training.mature))
        apart = 0.0 if sizes[-1] == sizes[0] else 1_000.0
        return FittedTechnique(lambda rows: rows.raw[:, 0] - 3.0 + apart, refit=works)

    monkeypatch.setattr(backtest, "TECHNIQUES", (Technique("a", "x", works), Technique("b", "x", wavers)))
    found = compare(store, SMALL, ComparisonOptions(folds=1, max_rows=4000), NOW)
    steady, wavering = (line.evaluation.metrics for line in found.results[-2:])
    assert steady["f1"].value == wavering["f1"].value > 0
    assert steady["cost"].value == wavering["cost"].value


def test_false_flags_are_told_apart_by_a_field(store):
    found = compare(store, SMALL, ComparisonOptions(folds=1, names=("logistic",), by="terminal_id"), NOW)
    rates = found.results[1].groups
    assert set(rates) <= {f"m{n}" for n in range(100)} | {"(missing)"}
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert any(name.startswith("false_flag_rate ") for name in estimates(found.results[1]))
    with pytest.raises(InputError, match="there is no field 'planet'"):
        compare(store, SMALL, ComparisonOptions(by="planet"), NOW)


def test_a_history_without_mature_frauds_says_what_is_missing(opener, tmp_path):
    empty = opener(SMALL)
    with pytest.raises(NotReady, match="older than labels"):
        compare(empty, SMALL, WANTED, NOW)
    rows, _ = payments(40)
    load(empty, SMALL, "transactions", write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows), now=NOW)
    none = write_csv(tmp_path / "l.csv", LABEL_HEADER, ["t0,0,2025-02-20T00:00:00Z,chargeback"])
    load(empty, SMALL, "labels", none, now=NOW)
    with pytest.raises(NotReady, match="mature fraud in them"):
        compare(empty, SMALL, WANTED, NOW)


def test_techniques_are_chosen_by_a_word():
    assert {one.name for one in select_techniques(["smote"])} == {
        t.name for t in TECHNIQUES if "SMOTE" in t.name
    }
    assert {one.family for one in select_techniques(["outlier"])} == {"outlier", "hybrid"}
    assert select_techniques([]) == TECHNIQUES
    with pytest.raises(DetectorError, match="no technique is called 'magic': choose among no balancing"):
        select_techniques(["magic"])


def test_a_word_that_names_no_technique_is_an_error_of_the_input(sqlite_opener):
    with pytest.raises(InputError, match="no technique is called 'magic': choose among no balancing"):
        compare(sqlite_opener(SMALL), SMALL, ComparisonOptions(names=("magic",)), NOW)


@pytest.mark.one_engine
@pytest.mark.parametrize("ending", ["html", "svg", "png"])
def test_curves_are_drawn_without_a_network(store, tmp_path, ending):
    found = compare(store, SMALL, ComparisonOptions(folds=1, names=("logistic", "HBOS")), NOW)
    file = tmp_path / f"curves.{ending}"
    check(file)
    curves(found, file, "shop", "EUR")
    content = file.read_bytes()
    assert len(content) > 5000
    if ending == "html":
        page = content.decode()
        assert "logistic regression" in page
        assert 'src="http' not in page
    if ending == "svg":
        assert b"<svg" in content
    for wrong in (tmp_path / "curves.gif", tmp_path / "gone" / "curves.svg"):
        with pytest.raises(InputError, match="curves cannot be written"):
            check(wrong)


def test_the_command_prints_and_keeps_the_table(tmp_path):
    home = tmp_path

    (home / "config.toml").write_text(CONFIG)
    rows, labels = payments(DAYS)
    write_csv(home / "p.csv", PAYMENT_HEADER, rows)
    write_csv(home / "l.csv", LABEL_HEADER, labels)
    for arguments in (
        ["init"],
        ["ingest", "transactions", "p.csv"],
        ["ingest", "labels", "l.csv", "--complete-through", "2025-03-01"],
    ):
        fraudwatch(home, *arguments)
    said = fraudwatch(
        home, "compare", "--folds", "1", "--only", "balancing", "--only", "oversampling 50", "--plot", "c.svg"
    )
    for word in (
        "always genuine",
        MOVED_THRESHOLD,
        "oversampling 50/50",
        "ranks best",
        "AP train",
        "P@k",
        "half of a 95 % bootstrap confidence interval",
    ):
        assert word in said
    assert (home / "c.svg").stat().st_size > 5000
    rows = list(csv.DictReader(io.StringIO(fraudwatch(home, "comparisons", "show", "--format", "csv"))))
    ap = [row for row in rows if row["metric"] == "ap"]
    assert ap[0]["technique"] == "always genuine"
    assert float(ap[1]["lower"]) <= float(ap[1]["value"]) <= float(ap[1]["upper"])
    assert json.loads(fraudwatch(home, "comparisons", "show", "1", "--format", "json"))
    (stored,) = json.loads(fraudwatch(home, "comparisons", "list", "--format", "json"))
    assert stored["sentence"] in said
    assert fraudwatch(home, "comparisons", "show") == said
    assert "no such comparison" in fraudwatch(home, "comparisons", "show", "2", code=1)
    assert "--test '7'" in fraudwatch(home, "compare", "--test", "7", code=2)
    assert "no technique is called" in fraudwatch(home, "compare", "--only", "magic", code=2)


def test_differences_use_the_same_resamples(store):
    found = compare(store, SMALL, ComparisonOptions(folds=1, names=("no balancing",)), NOW)
    moved, fixed = (
        next(x for x in found.results if x.technique == name)
        for name in (MOVED_THRESHOLD, "no balancing, threshold 0.5")
    )
    gap = difference(moved.evaluation, fixed.evaluation, "ap")
    assert (gap.value, gap.lower, gap.upper) == (0, 0, 0)
