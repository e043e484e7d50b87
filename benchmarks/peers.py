"""Time `aelib` beside plain Keras, a loop in PyTorch and pythae, and measure what it holds in memory.

``make bench`` writes ``benchmarks/results/peers.json`` in less than ten minutes. Every peer trains the same
nets, with the same batches, loss and optimiser, in a process of its own that lives through the whole run. The
processes take turns, an epoch each, so that whatever else the machine does hits all of them alike; each epoch
is one of a training of 100, the first one, which compiles, left out. A peer that is not installed is named as
missing: ``pip install --group peers`` brings them.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aelib.files import write_atomically

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "peers.json"
#: Epochs of the training of which a few are timed.
EPOCHS = 100


class Net(NamedTuple):
    """What is trained: `images` are those of an epoch; a code is half as long as a VAE's encoder's output."""

    shape: tuple
    hidden: tuple
    code: int
    batch: int
    images: int
    activation: str = "relu"


NETS = {
    "dense_large": Net((784,), (512, 256), 64, 256, 25_600),
    "dense_small": Net((784,), (100,), 20, 64, 38_400),
    "convolutional": Net((28, 28, 1), (32, 64), 32, 128, 2_560),
    "vae": Net((784,), (200, 200), 50, 100, 20_000, "tanh"),  # Burda et al. (2016)
    "vae_binarized": Net((784,), (200, 200), 50, 100, 20_000, "tanh"),  # each batch by fresh draws
}
AUTOENCODERS = ("dense_large", "dense_small", "convolutional")
#: What each peer trains, and the backend of Keras where it needs one.
PEERS = {
    "aelib": (tuple(NETS), "tensorflow"),
    "aelib_jax": (tuple(NETS), "jax"),
    "aelib_step_by_step": (tuple(NETS), "tensorflow"),  # aelib 0.1: the model in Keras's own loop
    "keras": (AUTOENCODERS, "tensorflow"),
    "keras_jax": (AUTOENCODERS, "jax"),
    "pytorch": (AUTOENCODERS, None),
    "pytorch_bfloat16": (("convolutional",), None),
    "pythae": (("vae",), None),
}
PACKAGES = ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "pythae", "numpy", "faiss-cpu")
#: Draws for each image, and codes in an index, whose memory is measured.
DRAWS, CODES = (50, 500, 5_000), 1_000_000


def data(net):
    """Return the images: uniform noise, since no step depends on what is in them."""
    return np.random.default_rng(0).random((net.images, *net.shape), dtype="float32")


# The peers. Each trains a net and calls `epoch_done()`, which says whether to go on.


def keras_parts(net, *, width=1):
    """Return the encoder, whose code is `width` times as wide, and the decoder."""
    import keras
    from keras import layers

    if len(net.shape) == 1:
        encoder = [layers.Dense(n, net.activation) for n in net.hidden]
        decoder = [layers.Dense(n, net.activation) for n in reversed(net.hidden)] + [layers.Dense(784)]
    else:
        few, many = net.hidden
        strided = {"strides": 2, "padding": "same"}
        encoder = [layers.Conv2D(n, 3, activation="relu", **strided) for n in net.hidden] + [layers.Flatten()]
        decoder = [
            layers.Dense(7 * 7 * many, "relu"),
            layers.Reshape((7, 7, many)),
            layers.Conv2DTranspose(few, 3, activation="relu", **strided),
            layers.Conv2DTranspose(1, 3, **strided),
        ]
    encoder = keras.Sequential([keras.Input(net.shape), *encoder, layers.Dense(width * net.code)])
    return encoder, keras.Sequential([keras.Input((net.code,)), *decoder])


def keras_callback(epoch_done):
    """Return a callback that stops the training where `epoch_done` says so."""
    import keras

    def on_epoch_end(epoch, logs):
        if not epoch_done():
            callback.model.stop_training = True

    callback = keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)
    return callback


def train_keras(name, net, epoch_done):
    """Train as anyone would by `compile` and `fit`."""
    import keras
    from keras import ops

    def loss(x, logits):
        return ops.sum(ops.softplus(logits) - x * logits, axis=tuple(range(1, len(x.shape))))

    encoder, decoder = keras_parts(net)
    model = keras.Sequential([encoder, decoder])
    model.compile("adam", loss=loss)
    x = data(net)
    model.fit(x, x, net.batch, epochs=EPOCHS, verbose=0, callbacks=[keras_callback(epoch_done)])


def train_aelib(name, net, epoch_done, *, step_by_step=False):
    """Train the package's own model by its own `fit`, or by that of Keras."""
    import keras
    from keras import ops

    import aelib

    class Binarized(aelib.VariationalAutoencoder):
        """Sees black and white pixels, drawn anew for every batch with the grey values as probabilities."""

        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            self.coin = keras.random.SeedGenerator(0)

        def call(self, x, training=None):
            draw = keras.random.uniform(ops.shape(x), dtype=x.dtype, seed=self.coin)
            drawn = ops.cast(draw < x, x.dtype)
            return super().call(drawn, training=training) | {"drawn": drawn}

        def terms(self, target, out):
            return super().terms(out["drawn"], out)

    classes = {"vae": aelib.VariationalAutoencoder, "vae_binarized": Binarized}
    model = classes.get(name, aelib.Autoencoder)(*keras_parts(net, width=2 if name in classes else 1))
    model.compile("adam")
    options = {"batch_size": net.batch, "epochs": EPOCHS, "verbose": 0}
    options["callbacks"] = [keras_callback(epoch_done)]
    if step_by_step:
        keras.Model.fit(model, data(net), **options)
    else:
        model.fit(data(net), **options)


def torch_parts(net, *, last=()):
    """Return the encoder and the decoder of the Keras nets in PyTorch."""
    from torch import nn

    act = nn.ReLU if net.activation == "relu" else nn.Tanh
    if len(net.shape) == 1:
        sizes = [784, *net.hidden]
        encoder = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), act())]
        sizes = [net.code, *reversed(net.hidden)]
        decoder = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), act())]
        decoder.append(nn.Linear(net.hidden[0], 784))
        encoder.append(nn.Linear(net.hidden[-1], net.code))
    else:
        few, many = net.hidden
        encoder = [nn.Conv2d(1, few, 3, 2, 1), act(), nn.Conv2d(few, many, 3, 2, 1), act(), nn.Flatten()]
        encoder.append(nn.Linear(7 * 7 * many, net.code))
        decoder = [nn.Linear(net.code, 7 * 7 * many), act(), nn.Unflatten(1, (many, 7, 7))]
        decoder += [nn.ConvTranspose2d(many, few, 3, 2, 1, 1), act(), nn.ConvTranspose2d(few, 1, 3, 2, 1, 1)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder, *last)


def train_torch(name, net, epoch_done, *, bfloat16=False):
    """Train by a loop over the batches of data in memory, in bfloat16 with channels last if asked for."""
    import torch
    from torch.nn import functional

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch.nn.Sequential(*torch_parts(net)).to(device)
    x = torch.from_numpy(np.moveaxis(data(net), -1, 1) if len(net.shape) == 3 else data(net)).to(device)
    if bfloat16:
        model, x = (part.to(memory_format=torch.channels_last) for part in (model, x))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), device=device)
        for start in range(0, len(x), net.batch):
            batch = x[order[start : start + net.batch]]
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
                logits = model(batch)
            loss = functional.binary_cross_entropy_with_logits(logits.float(), batch, reduction="sum")
            (loss / len(batch)).backward()
            optimizer.step()
        float(loss)  # waits for the device
        if not epoch_done():
            break


def train_pythae(name, net, epoch_done):
    """Train pythae's VAE with these nets by its own trainer."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class StopError(Exception):
        """Leaves pythae's loop, which offers no other way."""

    class Watch(TrainingCallback):
        def on_epoch_end(self, training_config, **kwargs):
            if not epoch_done():
                raise StopError

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            *body, head = torch_parts(net)[0]
            self.body = torch.nn.Sequential(*body)
            self.mean, self.log_var = head, torch.nn.Linear(head.in_features, net.code)

        def forward(self, x):
            h = self.body(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = torch_parts(net, last=[torch.nn.Sigmoid()])[1]

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z))

    model = VAE(
        VAEConfig(input_dim=(784,), latent_dim=net.code, reconstruction_loss="bce"), Encoder(), Decoder()
    )
    images = BaseDataset(torch.from_numpy(data(net)), torch.zeros(net.images))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=EPOCHS,
            per_device_train_batch_size=net.batch,
            learning_rate=1e-3,
        )
        try:
            BaseTrainer(model, images, training_config=config, callbacks=[Watch()]).train()
        except StopError:
            return


def trainer(peer):
    """Return the function that trains for a peer."""
    if peer.startswith("aelib"):
        return lambda *given: train_aelib(*given, step_by_step=peer == "aelib_step_by_step")
    if peer.startswith("pytorch"):
        return lambda *given: train_torch(*given, bfloat16=peer == "pytorch_bfloat16")
    return train_pythae if peer == "pythae" else train_keras


def work(peer):
    """Train what is asked for on standard input, an epoch at a time, and answer in lines of JSON."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer

    def answer(**content):
        print(json.dumps(content), file=channel, flush=True)

    if peer.startswith("pyt"):
        try:
            import torch  # noqa: F401

            if peer == "pythae":
                import pythae.trainers  # noqa: F401  # brings all that it needs, or says what is missing
        except ImportError as error:
            answer(missing=str(error))
            return
        if peer == "pytorch_bfloat16" and not bfloat16_in_hardware():
            answer(missing="this processor has no instructions for bfloat16")
            return
    answer(ready=True)
    for name in map(str.strip, sys.stdin):
        start = time.perf_counter()

        def epoch_done():
            nonlocal start
            answer(seconds=time.perf_counter() - start)
            go_on = sys.stdin.readline().strip() == "go"
            start = time.perf_counter()
            return go_on

        trainer(peer)(name, NETS[name], epoch_done)
        answer(done=True)


# Memory, each figure from a process of its own


def peak_megabytes():
    """Return the most memory that this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def remember(what, size):
    """Print the memory that a figure takes, above what its process held before."""
    if what == "importance_weighted_bound":
        import aelib

        net = NETS["vae"]._replace(images=20)
        model = aelib.VariationalAutoencoder(*keras_parts(net, width=2))
        x = data(net)
        aelib.bounds.importance_weighted_bound(model, x[:1], 1)
        before = peak_megabytes()
        aelib.bounds.importance_weighted_bound(model, x, size)
    else:
        from aelib.retrieval import Index

        codes = np.random.default_rng(0).normal(size=(size, 32)).astype("float32")
        before = peak_megabytes()
        Index().fit(codes).search(codes[:100], 10)
    print(json.dumps({"before_mb": before, "peak_mb": peak_megabytes()}))


# The run as a whole


def environment(backend):
    """Return the environment of a worker."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "AELIB_PROGRESS": "0", "PYTHONPATH": str(ROOT)}
    return os.environ | quiet | ({"KERAS_BACKEND": backend} if backend else {})


class Worker:
    """A peer in a process of its own."""

    def __init__(self, peer):
        self.nets, backend = PEERS[peer]
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(backend),
        )
        self.missing = self.read().get("missing")

    def read(self):
        """Return the next answer."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker has ended with {self.process.wait()}: {self.process.args}")
        return json.loads(line)

    def ask(self, line):
        """Send a line and return the answer to it."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def time_net(name, workers, rounds):
    """Return the figures of a net for every peer that trains it."""
    racing = {peer: worker for peer, worker in workers.items() if name in worker.nets}
    figures = {peer: {"missing": worker.missing} for peer, worker in racing.items() if worker.missing}
    racing = {peer: worker for peer, worker in racing.items() if not worker.missing}
    first = {peer: worker.ask(name)["seconds"] for peer, worker in racing.items()}
    seconds = {peer: [] for peer in racing}
    for _ in range(rounds):
        for peer, worker in racing.items():
            seconds[peer].append(worker.ask("go")["seconds"])
    for peer, worker in racing.items():
        worker.ask("stop")
        figures[peer] = {
            "images_per_second": round(NETS[name].images / statistics.median(seconds[peer])),
            "first_epoch_seconds": round(first[peer], 2),
            "epoch_seconds": [round(each, 3) for each in seconds[peer]],
        }
        print(f"{name:14} {peer:20} {figures[peer]['images_per_second']:8} images a second", flush=True)
    return figures


def memory():
    """Return the memory of the bound and of an index."""
    figures = {"importance_weighted_bound": {}, "retrieval": {}}
    sizes = [("importance_weighted_bound", k) for k in DRAWS] + [("retrieval", CODES)]
    for what, size in sizes:
        command = [sys.executable, __file__, "--memory", what, str(size)]
        output = subprocess.run(
            command, env=environment("tensorflow"), capture_output=True, check=True
        ).stdout
        figures[what][size] = {key: round(value) for key, value in json.loads(output).items()}
        print(f"{what} {size:,}: {figures[what][size]}", flush=True)
    figures["retrieval"][CODES]["codes_mb"] = round(CODES * 32 * 4 / 2**20)
    return figures


def ratios(figures):
    """Return how many times as fast aelib is as each of the others, on each net."""
    speeds = {
        name: {peer: each["images_per_second"] for peer, each in peers.items() if "images_per_second" in each}
        for name, peers in figures.items()
    }
    return {
        name: {peer: round(peers["aelib"] / speed, 2) for peer, speed in peers.items() if peer != "aelib"}
        for name, peers in speeds.items()
    }


def bfloat16_in_hardware():
    """Return whether there is a GPU, or a processor that multiplies in bfloat16; others take minutes."""
    import torch

    flags = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    return torch.cuda.is_available() or "amx_bf16" in flags or "avx512_bf16" in flags


def processor():
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions():
    """Return the versions of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version()} | found


def main():
    """Run the whole of it, or what a worker is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs timed of each; the median counts")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    if options.memory:
        remember(options.memory[0], int(options.memory[1]))
        return
    device = {"processor": processor(), "cores": os.cpu_count()}
    device["load_at_start"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    result = {"device": device, "versions": versions(), "rounds": options.rounds, "nets": {}}
    workers, figures = {peer: Worker(peer) for peer in options.peers}, {}
    for name in options.nets:
        figures[name] = time_net(name, workers, options.rounds)
        (result["nets"] if name in AUTOENCODERS else result)[name] = figures[name]
        result["aelib_is_faster_by"] = ratios(figures)
        store(options.out, result)  # a run that is cut short leaves what it has
    for worker in workers.values():
        worker.close()
    store(options.out, result | {"memory": memory()})


def store(path, result):
    """Write the result as it stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
