"""Points and losses of the GAN of docs/examples."""

import importlib.util
from pathlib import Path

import numpy as np


def draw():
    path = Path(__file__).resolve().parent.parent / "examples" / "gan.py"
    spec = importlib.util.spec_from_file_location("gan_example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    points = example.true_points()
    noise = np.random.default_rng(1).normal(size=(len(points), 4)).astype("float32")
    net = example.make_net().fit(noise, points)
    return example.draw(points, net.predict(noise[:1000]), net.history_)
