"""Find 64 sparse features that lie in 16 dimensions, by each kind of dictionary and three seeds.

    python benchmarks/dictionaries.py

The data are those of Sharkey et al. (2022) and Elhage et al. (2022) in small: random directions of length 1,
each on with a probability of 1/32, by a magnitude drawn evenly from 0 to 1, so that two are on for a sample.
The dictionaries have 64 units, and k = 2. Each kind's learning rate is the one that finds the features best
on three seeds, whose features are others than those of the three seeds that are reported; one on the edge of
the grid stops the run. A run takes about ten seconds, all of them some twelve minutes. The figures, of
samples that were not trained on, go to ``benchmarks/results/dictionaries.json``.
"""

import json
import os
import time
from pathlib import Path

import keras
import numpy as np

from aelib import SparseDictionary, dictionaries
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "dictionaries.json"
FEATURES, WIDTH, ON = 64, 16, 2
SAMPLES, EPOCHS, BATCH = 60_000, 12, 256
RATES = 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1
CHOICE_SEEDS, SEEDS = (0, 1, 2), (3, 4, 5)
OPTIONS = {"dead_after": 1_000, "auxiliary": 1.0}


def superposition(random, samples, features):
    """Draw (samples, WIDTH), sums of a few of the features."""
    on = random.random((samples, FEATURES)) < ON / FEATURES
    return (on * random.random(on.shape) @ features).astype("float32")


def run(kind, rate, seed):
    """Train one dictionary, and return its figures."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(FEATURES, WIDTH))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    x, unseen = superposition(random, SAMPLES, features), superposition(random, 20_000, features)
    keras.utils.set_random_seed(seed)
    model = SparseDictionary(WIDTH, FEATURES, k=ON, kind=kind, **OPTIONS)
    start = dictionaries.mean_max_cosine(model.dictionary, features)
    schedule = keras.optimizers.schedules.CosineDecay(rate, EPOCHS * -(-SAMPLES // BATCH))
    model.compile(keras.optimizers.Adam(schedule))
    begun = time.perf_counter(), time.process_time()
    model.fit(x, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    codes = model.encode(unseen)
    return {
        "mean_max_cosine": dictionaries.mean_max_cosine(model.dictionary, features),
        "mean_max_cosine_untrained": start,
        "dead_share": dictionaries.dead_share(codes),
        "l0": dictionaries.l0(codes),
        "fraction_unexplained": dictionaries.fraction_unexplained(unseen, model.reconstruct(unseen)),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }


def main():
    """Train all, and write the figures after each kind."""
    result = {
        "data": f"{FEATURES} features in {WIDTH} dimensions, {ON} on for a sample, uniform from 0 to 1",
        "training": f"{SAMPLES} samples, {EPOCHS} epochs, batches of {BATCH}, Adam, cosine from the rate",
        "options": OPTIONS,
        "seeds_of_the_choice": CHOICE_SEEDS,
        "seeds": SEEDS,
        "device": ledger.device(),
        "kinds": {},
    }
    choices = ledger.Ledger("benchmarks/dictionaries")
    for kind in dictionaries.KINDS:
        found = [np.mean([run(kind, rate, s)["mean_max_cosine"] for s in CHOICE_SEEDS]) for rate in RATES]
        rate = choices.choose(f"learning rate of {kind}", RATES, found, lower_is_better=False)
        print(choices.choices[-1], flush=True)
        runs = [run(kind, rate, seed) for seed in SEEDS]
        means = {name: float(np.mean([figures[name] for figures in runs])) for name in runs[0]}
        result["kinds"][kind] = {"choice": choices.choices[-1], "mean": means, "by_seed": runs}
        print(kind, {name: round(value, 4) for name, value in means.items()}, flush=True)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
