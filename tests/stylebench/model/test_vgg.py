"""VGG-19 against torchvision's own, layer by layer."""

import pytest
import torch
import torchvision
from torchvision.models.vgg import cfgs, make_layers

from stylebench.model.vgg import (
    CAFFE,
    LAYERS,
    TORCHVISION,
    VGG19,
    deepest,
    feature_shapes,
    smallest_side,
)


@pytest.fixture(scope="module")
def theirs(weights):
    """torchvision's VGG-19 features carrying our weights."""
    model = make_layers(cfgs["E"]).eval()
    convolutions = (layer for layer in model if isinstance(layer, torch.nn.Conv2d))
    for layer, (weight, bias) in zip(convolutions, weights.layers.values(), strict=True):
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
    return model


def test_every_layer_agrees_with_torchvision(weights, theirs):
    x = torch.randn(1, 3, 37, 51, generator=torch.manual_seed(0))
    ours = VGG19(weights, "pool5", "max")(x, LAYERS)
    assert len(ours) == len(theirs)
    with torch.no_grad():
        for name, layer in zip(ours, theirs, strict=True):
            x = layer(x.clone())  # its ReLUs work in place
            kind = {"conv": torch.nn.Conv2d, "relu": torch.nn.ReLU, "pool": torch.nn.MaxPool2d}
            assert isinstance(layer, kind[name[:4]])
            assert torch.equal(ours[name], x), name


def test_conv_taps_are_before_relu_and_stay_so(weights):
    x = torch.randn(1, 3, 16, 16, generator=torch.manual_seed(0))
    features = VGG19(weights, "conv1_2")(x, ("conv1_1", "relu1_1"))
    assert features["conv1_1"].min() < 0
    assert torch.equal(features["conv1_1"].relu(), features["relu1_1"])


def test_only_what_is_needed_is_built(weights):
    network = VGG19(weights, "relu3_1")
    assert list(network.layers)[-1] == "relu3_1"
    assert sum(p.numel() for p in network.parameters()) < 1e6


def test_average_pooling_averages(weights):
    x = torch.randn(1, 3, 16, 16, generator=torch.manual_seed(0))
    features = VGG19(weights, "pool1", "average")(x, ("relu1_2", "pool1"))
    blocks = features["relu1_2"].unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(features["pool1"], blocks)


def test_odd_sizes_floor_as_torch_does(weights):
    x = torch.zeros(1, 3, 35, 49)
    shapes = feature_shapes(("relu1_1", "relu3_1", "pool3"), 35, 49)
    features = VGG19(weights, "pool3")(x, shapes)
    assert {name: F.flatten(2).shape[1:] for name, F in features.items()} == shapes


def test_weights_are_frozen(weights):
    assert not any(p.requires_grad for p in VGG19(weights, "relu1_1").parameters())


@pytest.mark.parametrize(("until", "side"), [("relu1_2", 1), ("relu2_1", 2), ("relu5_1", 16)])
def test_smallest_side_leaves_one_position(weights, until, side):
    assert smallest_side(until) == side
    network = VGG19(weights, until)
    assert network(torch.zeros(1, 3, side, side), [until])[until].shape[-2:] == (1, 1)


def test_too_small_an_image_is_refused_with_its_size(weights):
    with pytest.raises(
        ValueError, match=r"an image of 40 x 15 px is too small for relu5_1: .* 16 px"
    ):
        VGG19(weights, "relu5_1")(torch.zeros(1, 3, 15, 40), ["relu5_1"])


def test_a_layer_beyond_the_build_is_refused(weights):
    with pytest.raises(ValueError, match=r"not built: \['relu2_1'\]; this network ends at relu1_1"):
        VGG19(weights, "relu1_1")(torch.zeros(1, 3, 16, 16), ["relu2_1"])


def test_unknown_names_are_refused(weights):
    with pytest.raises(ValueError, match="unknown layer 'conv6_1': expected conv1_1"):
        VGG19(weights, "conv6_1")
    with pytest.raises(ValueError, match="unknown pooling 'avg': expected 'average' or 'max'"):
        VGG19(weights, "relu1_1", "avg")


def test_deepest_knows_the_order():
    assert deepest(["relu4_2", "relu5_1", "conv1_1"]) == "relu5_1"
    assert deepest(["conv4_2", "relu4_2"]) == "relu4_2"


@pytest.mark.parametrize("preprocessing", [TORCHVISION, CAFFE])
def test_preprocessing_is_undone_exactly(preprocessing):
    rgb = torch.rand(1, 3, 4, 5, dtype=torch.float64, generator=torch.manual_seed(0))
    torch.testing.assert_close(preprocessing.invert(preprocessing.apply(rgb)), rgb)


def test_torchvision_preprocessing_is_torchvisions():
    rgb = torch.rand(1, 3, 224, 224, generator=torch.manual_seed(0))
    transform = torchvision.models.VGG19_Weights.IMAGENET1K_V1.transforms(
        crop_size=224, resize_size=224
    )
    torch.testing.assert_close(TORCHVISION.apply(rgb), transform(rgb), rtol=1e-5, atol=1e-5)


def test_caffe_preprocessing_is_bgr_less_mean_in_255():
    rgb = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    expected = [-0.40760392 * 255, (0.5 - 0.45795686) * 255, (1 - 0.48501961) * 255]
    torch.testing.assert_close(CAFFE.apply(rgb).flatten(), torch.tensor(expected))
