"""Gatys' algorithm on one screen: python examples/gatys.py PHOTO PAINTING OUT.png [WEIGHTS].

The same numbers as ``stylebench stylize --engine reference --history 100``, step by step: network,
losses, closure, loop (arXiv 1508.06576, with the coefficients of the author's PyTorch notebook).
"""

import sys

import torch

from stylebench.image.load import fit, load_image, resize
from stylebench.image.save import save_image
from stylebench.model.losses import content_loss, gram, style_loss
from stylebench.model.precision import exact_arithmetic
from stylebench.model.vgg import VGG19
from stylebench.model.weights import load_weights

CONTENT = "relu4_2"
STYLE = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def gatys(content, style, weights, size=512, iterations=500):
    """Paint ``content`` in the manner of ``style``; return [3, H, W] in [0, 1] and the losses."""
    photo, painting = load_image(content), load_image(style)
    vgg = VGG19(weights, "relu5_1", pooling="max")

    def preprocessed(picture):  # [1, 3, H, W], what the network was trained to see
        rgb = resize(picture.rgb, fit(picture.size, size))
        return weights.preprocessing.apply(rgb[None])

    with torch.no_grad():
        target = preprocessed(photo)
        P = vgg(target, [CONTENT])[CONTENT]
        A = {layer: gram(F) for layer, F in vgg(preprocessed(painting), STYLE).items()}

    image = target.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([image], max_iter=1, tolerance_grad=-1, tolerance_change=-1)
    losses, best = [], image.detach().clone()

    def closure():
        optimizer.zero_grad()
        F = vgg(image, [CONTENT, *STYLE])
        terms = [content_loss(F[CONTENT], P, 1 / P[0].numel())]
        terms += [style_loss(F[layer], A[layer], 1e3 / n**4) for layer, n in STYLE.items()]
        loss = torch.stack(terms).sum()
        loss.backward()
        losses.append(sum(term.item() for term in terms))
        if losses[-1] == min(losses):
            best.copy_(image.detach())
        return loss

    for _ in range(iterations):
        optimizer.step(closure)
    return weights.preprocessing.invert(best)[0].clamp(0, 1), losses


if __name__ == "__main__":
    *pictures, output, weights = [*sys.argv[1:], "auto"][:4]
    with exact_arithmetic():
        rgb, losses = gatys(*pictures, load_weights(weights))
    print(f"loss {losses[0]:.4g} -> {min(losses):.4g}: {save_image(output, rgb)}")  # noqa: T201
