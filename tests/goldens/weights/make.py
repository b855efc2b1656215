"""Writes the files beside it with the frameworks themselves: one network in each format, and what it computes.

In an environment of its own: pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0, then python make.py
"""

import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

HERE = Path(__file__).parent
rng = np.random.default_rng(0)
tf1 = tf.compat.v1


def network(k):
    """In Keras 3 or 2: kernels that are not square, a depthwise multiplier, groups, and maps flattened."""
    x = images = k.Input((8, 8, 3))
    x = k.layers.Conv2D(4, (3, 2), padding="same", use_bias=False, name="first")(x)
    x = k.layers.BatchNormalization(epsilon=0.002, name="norm")(x)
    x = k.layers.ReLU()(x)
    x = k.layers.DepthwiseConv2D((3, 2), depth_multiplier=2, name="deep")(x)
    x = k.layers.SeparableConv2D(6, (2, 3), name="sep")(x)
    inner = k.Sequential([k.layers.Conv2D(6, 2, groups=2, name="grouped"), k.layers.Flatten(name="flat")], name="inner")
    return k.Model(images, k.layers.Dense(5, name="head")(inner(x)), name="tiny")


three, two = network(keras), network(tf_keras)
values = [rng.normal(size=w.shape, scale=0.5) for w in three.get_weights()]
values[4] = values[4] ** 2 + 0.5  # the variance
x = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
zeros = np.zeros((2, 5), np.float32)
for k, net in ((keras, three), (tf_keras, two)):
    net.compile(k.optimizers.SGD(momentum=0.9), loss="mse")
    net.fit(x, zeros, verbose=0)  # so that there is an optimizer to save
    net.set_weights(values)
three.save(HERE / "keras_3.keras")
three.save(HERE / "keras_3.h5", include_optimizer=False)
two.save(HERE / "keras_2.h5")
two.save_weights(HERE / "keras_2_weights.h5")
with zipfile.ZipFile(HERE / "keras_3.keras") as file:
    (HERE / "keras_3.weights.h5").write_bytes(file.read("model.weights.h5"))
y = three(x).numpy()
np.testing.assert_allclose(two(x).numpy(), y, rtol=1e-5, atol=1e-5)
np.savez(HERE / "expected.npz", x=x, y=y)

# TensorFlow's checkpoints, with tf-slim's names

NAMES = [
    "first/weights",
    "first/BatchNorm/gamma",
    "first/BatchNorm/beta",
    "first/BatchNorm/moving_mean",
    "first/BatchNorm/moving_variance",
    "deep/depthwise_weights",
    "deep/biases",
    "sep/depthwise_weights",
    "sep/pointwise_weights",
    "sep/biases",
    "grouped/weights",
    "grouped/biases",
    "head/weights",
    "head/biases",
]
with tf.Graph().as_default(), tf1.Session() as session:
    kept = [tf1.get_variable(f"Tiny/{n}", initializer=v.astype(np.float32)) for n, v in zip(NAMES, values)]
    tf1.get_variable("global_step", initializer=np.int64(7))
    session.run(tf1.global_variables_initializer())
    for version, name in ((tf1.train.SaverDef.V1, "slim_1.ckpt"), (tf1.train.SaverDef.V2, "slim_2.ckpt")):
        tf1.train.Saver(write_version=version).save(session, str(HERE / name), write_meta_graph=False)
with (
    tf.Graph().as_default(),
    tf1.Session() as session,
):  # while it is trained: raw weights, their averages, an optimizer
    kept = [tf1.get_variable(f"tiny/{n}", initializer=0 * v.astype(np.float32)) for n, v in zip(NAMES, values)]
    average = tf1.train.ExponentialMovingAverage(0.5)
    step = tf1.train.get_or_create_global_step()
    shadows = average.apply(kept)
    loss = tf.add_n([tf.reduce_sum(v) for v in kept])
    train = tf1.train.RMSPropOptimizer(0.1, momentum=0.9).minimize(loss, global_step=step)
    session.run(tf1.global_variables_initializer())
    session.run([shadows, train])
    for v, value in zip(kept, values):
        session.run(average.average(v).assign(value.astype(np.float32)))
    tf1.train.Saver().save(session, str(HERE / "trained.ckpt"), write_meta_graph=False)
tf.train.Checkpoint(model=two).write(str(HERE / "objects.ckpt"))
(HERE / "checkpoint").unlink()

# TensorFlow Lite

for name in ("float", "float16", "int8"):
    converter = tf.lite.TFLiteConverter.from_keras_model(two)
    if name != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if name == "int8":
        converter.representative_dataset = lambda: ([x[:1]] for _ in range(10))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (HERE / f"{name}.tflite").write_bytes(converter.convert())
