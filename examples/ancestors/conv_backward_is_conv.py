"""The observation every framework's author writes down once: both gradients of a convolution are convolutions.

Frameworks have three routines for it, "forward", "backward data" and "backward filter", each written and tuned by hand.
tinyad has none. A convolution is windows of an image times a filter, summed; the chain rule turns that sum into others,
and each of them is found to be one contraction: a single loop nest, with one `contract` in it.

    y[n,o,i,j]  = Σ  x[n,c,s·i+h,s·j+w] · k[o,c,h,w]       over c,h,w
    ∂x[n,c,p,q] = Σ  g[n,o,(p-h)/s,(q-w)/s] · k[o,c,h,w]   over o,h,w where s divides p-h and q-w
    ∂k[o,c,h,w] = Σ  x[n,c,s·i+h,s·j+w] · g[n,o,i,j]       over n,i,j

Here s is the stride and g the cotangent, that is the gradient of whatever comes after with respect to y.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import tinyad as ad

rng = np.random.default_rng(0)


def random(*shape: int) -> ad.Tensor:
    return ad.tensor(rng.standard_normal(shape).astype(np.float32))


def show(title: str, comment: str, t: ad.Tensor) -> None:
    """Prints the loops that compute `t`, which must be one kernel around one contraction."""
    loops = t.dump("loops").strip()
    assert len(ad.schedule(t)) == 1, title
    assert loops.count("contract m ") == 1 and "\n  for " not in loops, title
    print(f"\n{title}\n\n{comment.strip()}\n")
    print("\n".join("    " + line for line in loops.splitlines()))


# The convolutions we expect, in NumPy ---------------------------------------------------------------------------------
def correlate(x: np.ndarray, k: np.ndarray, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """What deep learning calls a convolution: [N,C,H,W] and filters [O,C,KH,KW] -> [N,O,I,J]."""
    spans = [dilation * (size - 1) + 1 for size in k.shape[2:]]
    windows = sliding_window_view(x, spans, axis=(2, 3))[:, :, ::stride, ::stride, ::dilation, ::dilation]
    return np.einsum("ncijhw,ochw->noij", windows, k)


def by_image(g: np.ndarray, k: np.ndarray, stride: int) -> np.ndarray:
    """∂x: g with stride - 1 zeros between its pixels and a margin of zeros, correlated with the flipped filter."""
    n, o, *size = g.shape
    margin = k.shape[-1] - 1
    spread = np.zeros((n, o, *(stride * (j - 1) + 1 + 2 * margin for j in size)))
    spread[:, :, margin : spread.shape[2] - margin : stride, margin : spread.shape[3] - margin : stride] = g
    return correlate(spread, k[:, :, ::-1, ::-1].swapaxes(0, 1))  # filters and channels change places


def by_filter(x: np.ndarray, g: np.ndarray, stride: int) -> np.ndarray:
    """∂k: the images correlated with g as filter, dilated by the stride; the batch takes the part of the channels."""
    return correlate(x.swapaxes(0, 1), g.swapaxes(0, 1), dilation=stride).swapaxes(0, 1)


# ... and those that tinyad makes --------------------------------------------------------------------------------------
FORWARD = {
    1: """
Rows (m) are pixels of the batch, columns (n) filters, and k runs over channels and window. No array of windows is
built: the index of b0 adds the pixel's coordinate and the window's, and that is all of a convolution.
""",
    2: "With stride 2 the pixel's coordinates count twice in the index of b0.",
}
BY_IMAGE = {
    1: """
The same nest with signs changed: g is read at pixel minus window, which is what correlating with a flipped filter
means. Channels and filters have changed places: n runs over channels, k over filters. `inrange` is the margin of zeros;
nothing is padded, a pixel of g that does not exist is a zero that is not loaded.
""",
    2: """
The zeros between the pixels of g are not there either: `inrange .. step 2` asks whether a pixel stands at this place
or a zero, and //2 says which. The machine divides nothing for it: look for div in the instructions, dump("asm").
""",
}
BY_FILTER = {
    1: """
The images once more, at the same places as in the first nest, but k now runs over batch and pixels and n over channels
and window: an image-sized filter, g, slides over the image.
""",
    2: "With stride 2 the pixels of g count twice in the index of b1: a filter with holes. This is dilation.",
}

for stride in (1, 2):
    x, k = random(2, 3, 9, 9), random(4, 3, 3, 3)
    y = ad.conv2d(x, k, stride=stride)
    g = random(*y.shape)
    dx, dk = ad.gradients(y, [x, k], g)

    print(f"\n{'=' * 100}\nstride {stride}: x {x.shape}, k {k.shape} -> y {y.shape}")
    show("the convolution", FORWARD[stride], y)
    show("its gradient by the image", BY_IMAGE[stride], dx)
    show("its gradient by the filter", BY_FILTER[stride], dk)

    assert "idiv" not in dx.dump("asm")
    again = ad.gradients(dk, g, k)  # dk is linear in g, and its gradient by g ...
    show("the gradient, by g, of its gradient by the filter", "Where we began: compare with the first nest.", again)

    exact = [t.numpy().astype(float) for t in (x, k, g)]  # NumPy in double precision
    np.testing.assert_allclose(y, correlate(exact[0], exact[1], stride), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, by_image(exact[2], exact[1], stride), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dk, by_filter(exact[0], exact[2], stride), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again, y, rtol=1e-4, atol=1e-5)  # ... with k in the place of the cotangent is y
    print(f"\nstride {stride}: four convolutions, a kernel each, equal to NumPy's")
