"""The paper's normalized network: mean activation 1, function unchanged; both in fp64."""

import pytest
import torch

from stylebench.model.normalize import mean_activations, normalized
from stylebench.model.vgg import LAYERS, VGG19, Weights

UNTIL = "relu3_1"
DEPTHS = [UNTIL, pytest.param("relu5_1", marks=pytest.mark.slow)]  # the paper's is the second


def pictures():
    generator = torch.Generator().manual_seed(0)
    return [
        50 * torch.randn(1, 3, height, width, dtype=torch.float64, generator=generator)
        for height, width in ((32, 48), (40, 16))
    ]


@pytest.mark.parametrize("until", DEPTHS)
def test_every_filters_mean_activation_is_one(weights64, until):
    images = pictures()
    for pooling in ("average", "max"):
        after = VGG19(normalized(weights64, images, until, pooling), until, pooling)
        for name, mean in mean_activations(after, images).items():
            alive = mean > 0
            assert alive.sum() > len(mean) // 2, name
            torch.testing.assert_close(mean[alive], torch.ones_like(mean[alive]))


@pytest.mark.parametrize("until", DEPTHS)
def test_function_is_unchanged_up_to_each_filters_scale(weights64, until):
    images = pictures()
    before = VGG19(weights64, until)
    after = VGG19(normalized(weights64, images, until), until)
    other = 30 * torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.manual_seed(9))
    means = mean_activations(before, images)
    taps = [name for name in LAYERS if name.startswith("relu") and name in before.layers]
    for name, F in after(other, taps).items():
        mean = means[name.replace("relu", "conv")]
        scale = torch.where(mean > 0, mean, 1.0).view(1, -1, 1, 1)
        torch.testing.assert_close(F * scale, before(other, [name])[name])


def test_layers_beyond_the_rescaled_ones_see_the_same_function(weights64):
    rescaled = normalized(weights64, pictures(), "relu2_1")
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.manual_seed(2))
    ours, theirs = (VGG19(w, "relu3_1")(x, ["relu3_1"])["relu3_1"] for w in (rescaled, weights64))
    torch.testing.assert_close(ours, theirs)


def test_a_silent_filter_keeps_its_scale(weights64):
    layers = dict(weights64.layers)
    weight, bias = layers["conv1_1"]
    weight, bias = weight.clone(), bias.clone()
    weight[0], bias[0] = 0.0, -1.0
    layers["conv1_1"] = (weight, bias)
    silent = Weights("silent", layers, weights64.preprocessing)
    rescaled = normalized(silent, pictures(), UNTIL)
    assert torch.equal(rescaled.layers["conv1_1"][1][0], bias[0])
    assert all(w.isfinite().all() for w, _ in rescaled.layers.values())


def test_a_floor_bounds_how_far_a_filter_that_is_all_but_silent_is_raised(weights64):
    images, floor = pictures(), 0.5  # which a third of the filters of random weights are below
    means = mean_activations(VGG19(weights64, UNTIL), images)
    rescaled = VGG19(normalized(weights64, images, UNTIL, floor=floor), UNTIL)
    after = mean_activations(rescaled, images)
    assert any((mean < floor * mean.mean()).any() for mean in means.values())
    for name, mean in means.items():
        torch.testing.assert_close(after[name], mean / mean.clamp(min=floor * mean.mean()))


def test_the_given_weights_are_left_alone(weights64):
    before = weights64.layers["conv3_1"][0].clone()
    normalized(weights64, pictures(), UNTIL)
    assert torch.equal(weights64.layers["conv3_1"][0], before)


def test_a_device_without_fp64_has_the_means_taken_on_the_cpu(weights, apple):
    images = [image.float() for image in pictures()]
    network = VGG19(weights, "relu2_1")
    expected = mean_activations(network, images)
    means = mean_activations(network, [image.as_subclass(apple) for image in images])
    for name, mean in means.items():
        assert mean.dtype == torch.float64
        torch.testing.assert_close(mean, expected[name])
