"""Maximum-likelihood log weights by gradient descent on a Keras backend: KERAS_BACKEND=torch, tensorflow or jax."""

import keras
import numpy as np

import mvhg.keras as mk

sizes, draws = (200, 200, 200), 180
true = np.log(np.array([1.0, 5.0, 1.0], "float32"))
# What an endless sample would show: the mean of the true law.
observed = mk.MultivariateHypergeometric(draws, sizes, true).mean


class LogWeights(keras.layers.Layer):
    """Its loss is the negative log-likelihood a draw, up to a constant: log P_0 - x . log omega."""

    def build(self, input_shape):
        self.log_weights = self.add_weight(shape=(len(sizes),), initializer="zeros")

    def call(self, counts):
        law = mk.MultivariateHypergeometric(draws, sizes, self.log_weights)
        return law.log_partition - keras.ops.sum(counts * self.log_weights, -1)


model = keras.Sequential([keras.Input((len(sizes),)), LogWeights()])
model.compile(keras.optimizers.Adam(0.1), loss=lambda _, loss: keras.ops.mean(loss))
counts = np.tile(keras.ops.convert_to_numpy(observed), (64, 1))
model.fit(counts, np.zeros(64), batch_size=1, epochs=4, verbose=0)
found = np.exp(keras.ops.convert_to_numpy(model.layers[-1].log_weights))
print(keras.backend.backend(), " ".join(f"{weight:.2f}" for weight in found / found[0]))
