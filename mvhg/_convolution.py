"""Sums of products along two rows, the second read at every shift: convolutions and their gradients.

Directly, term by term, since that keeps positive terms accurate relative to themselves, in portions that stay in a
processor's cache. Tables of which only the bulk is read are summed by a Fourier transform, whose error is absolute.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

_TERMS_AT_ONCE = 1 << 18
# Numbers made at once of what is summed by matrix products.
_NUMBERS_AT_ONCE = 1 << 18
# More terms a row than this are summed by a transform, if what lies below exp(-32) of the largest is not read, or where
# nothing else is affordable hardly counts.
_MOST_TERMS, _SHALLOW = 1 << 12, 30.0
_MOST_AFFORDABLE, _DEEPEST_TRANSFORM = 1 << 22, 62.0
_RESOLUTION = 1e-14


def stretch(values: Tensor, first: Tensor, width: int, zeros: bool) -> Tensor:
    """Entries first, first + 1, ... of each row of ``values`` [E, K], 0 or -inf outside: [E, width]."""
    padded = pad(values, (1, 1), value=0.0 if zeros else -math.inf)
    places = first.unsqueeze(1) + torch.arange(1, width + 1, device=values.device)
    return padded.gather(1, places.clamp(0, values.shape[1] + 1))


def shifted(values: Tensor, first: Tensor, width: int) -> Tensor:
    """As ``stretch`` with zeros, row by row, on a CPU whose values may be looked at."""
    rows, length = values.shape
    first = first.clamp(-width, length)
    least, most = (int(k) for k in first.aminmax())
    left, right = max(0, -least), max(0, most + width - length)
    padded = pad(values, (left, right)) if left or right else values.contiguous()
    stride = left + length + right
    places = first + torch.arange(left, rows * stride, stride, device=values.device)
    return padded.view(-1).unfold(0, width, 1).index_select(0, places)


def correlated(weights: Tensor, values: Tensor) -> Tensor:
    """sum_k weights[k] values[w + k] for w = 0..L-K, from weights [E, K] and values [E, L]: [E, L - K + 1].

    Of float32 as the convolution of one channel each, which is compiled for its shape: ten times as fast.
    """
    if weights.dtype == torch.float32:
        with torch.autocast(weights.device.type, enabled=False):
            return torch.conv1d(values.unsqueeze(0), weights.unsqueeze(1), groups=len(weights))[0]
    return _sum_products(weights, values, values.shape[1] - weights.shape[1] + 1)


def spread(weights: Tensor, values: Tensor, width: int) -> Tensor:
    """sum_k weights[k] values[w - k] for w = 0..width-1, from weights [E, K] and values [E, L]: [E, width].

    At most K + L - 1 of them.
    """
    return correlated(weights.flip(1), pad(values, (weights.shape[1] - 1, width - values.shape[1])))


def convolved(a: Tensor, b: Tensor, offset: Tensor, width: int, depth: float) -> Tensor:
    """sum_k a[k] b[offset + s - k] for s = 0..width-1, from positive a [E, K] and b [E, L]: [E, width]."""
    terms = a.shape[1]
    if _by_transform(terms * width, depth):
        length = _length(terms + b.shape[1] - 1)
        product = torch.fft.rfft(a, n=length) * torch.fft.rfft(b, n=length)
        result = torch.fft.irfft(product, n=length)[:, : terms + b.shape[1] - 1]
        result = torch.where(result > _RESOLUTION * result.amax(1, keepdim=True), result, 0.0)
        return stretch(result, offset, width, True)
    return _sum_products(a.flip(1), stretch(b, offset - (terms - 1), width + terms - 1, True), width)


def convolved_gradient(a: Tensor, b: Tensor, grad: Tensor, offset: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    """Gradients in a [E, K] and b [E, L] of ``convolved``, from that of its result [E, S]."""
    terms, later, width = a.shape[1], b.shape[1], grad.shape[1]
    if _by_transform(terms * width, depth):
        length = _length(terms + later - 1)
        spectrum = torch.fft.rfft(stretch(grad, -offset, terms + later - 1, True), n=length)
        mine = torch.fft.irfft(spectrum * torch.fft.rfft(b, n=length).conj(), n=length)
        back = torch.fft.irfft(spectrum * torch.fft.rfft(a, n=length).conj(), n=length)
        return mine[:, :terms], back[:, :later]
    mine = _sum_products(grad, stretch(b, offset - (terms - 1), width + terms - 1, True), terms).flip(1)
    return mine, _sum_products(a, stretch(grad, -offset, later + terms - 1, True), later)


def _by_transform(terms: int, depth: float) -> bool:
    """Whether so many terms a row are summed by a transform."""
    shallow = terms > _MOST_TERMS and depth <= _SHALLOW
    return shallow or (terms > _MOST_AFFORDABLE and depth <= _DEEPEST_TRANSFORM)


def _length(entries: int) -> int:
    """Least length of a transform for so many entries, of those that are fast: small odd numbers times 2^k."""
    return min(odd << max(1, (-(-entries // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))


def _sum_products(a: Tensor, b: Tensor, width: int) -> Tensor:
    """sum_k a[k] b[k + w] for w = 0..width-1, from a [E, K] and b [E, K + width - 1]: [E, width]."""
    urns, terms = a.shape
    block = _block(terms)
    numbers = (terms // block + block + 1) * (width + block)
    at_once = _NUMBERS_AT_ONCE if a.device.type == "cpu" else 1 << 26
    if urns * numbers <= at_once:
        return _products(a, b, width)
    rows = max(1, at_once // numbers)
    if rows > 1 or numbers <= at_once:
        return torch.cat([_products(*part, width) for part in zip(a.split(rows), b.split(rows), strict=True)])
    step, result = max(1, at_once // width), None
    for k in range(0, terms, step):
        part = _products(a[:, k : k + step], b[:, k : k + step + width - 1], width)
        result = part if result is None else result + part
    return result  # type: ignore[return-value]


def _products(a: Tensor, b: Tensor, width: int) -> Tensor:
    """Sums over blocks of k are a matrix product; what is left adds up along its diagonals."""
    terms = a.shape[1]
    block = _block(terms)
    blocks, reach = -(-terms // block), block + width - 1
    if block > 1:
        a = pad(a, (0, blocks * block - terms))
        b = pad(b, (0, blocks * block - terms))
    strips = b.unfold(1, reach, block)[:, :blocks].contiguous()  # or bmm copies them one by one
    sums = a.unflatten(1, (blocks, block)).transpose(1, 2) @ strips
    return sums.flatten(1).unfold(1, width, reach + 1).sum(1) if block > 1 else sums.squeeze(1)


def _block(terms: int) -> int:
    """Terms whose products are summed along diagonals; measured, where a matrix product costs least."""
    return max(1, int(math.sqrt(terms)) * 2 // 3)  # isqrt breaks the graph of torch.compile


def log_sums(a: Tensor, b: Tensor, width: int) -> Tensor:
    """log sum_k exp(a[k] + b[k + w]) for w = 0..width-1: [E, width]; of entries that may be -inf."""
    rows = max(1, _TERMS_AT_ONCE // (a.shape[1] * width))
    if len(a) > rows:
        return torch.cat([log_sums(*part, width) for part in zip(a.split(rows), b.split(rows), strict=True)])
    return torch.logsumexp(a.unsqueeze(2) + b.unfold(1, width, 1), 1)


def log_sums_gradient(own: Tensor, later: Tensor, table: Tensor, grad: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in ``own`` [E, K] and ``later`` [E, L] of table[s] = log sum_k exp(own[k] + later[offset + s - k]).

    Args:
        own, later, table: the logarithms; ``table`` [E, S].
        grad: of ``table``.
        offset: int64 [E].
    """
    rows = max(1, _TERMS_AT_ONCE // (own.shape[1] * max(later.shape[1], table.shape[1])))
    if len(own) > rows:
        arguments = (own, later, table, grad, offset)
        parts = [log_sums_gradient(*part) for part in zip(*(a.split(rows) for a in arguments), strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    count = own.shape[1]
    below = torch.where(table > -math.inf, -table, -math.inf)
    around = stretch(later, offset - (count - 1), table.shape[1] + count - 1, False)
    terms = (own.flip(1).unsqueeze(2) + around.unfold(1, table.shape[1], 1)) + below.unsqueeze(1)
    mine = (terms.exp() * grad.unsqueeze(1)).sum(2).flip(1)
    width = later.shape[1] + count - 1
    terms = own.unsqueeze(2) + stretch(below, -offset, width, False).unfold(1, later.shape[1], 1) + later.unsqueeze(1)
    grads = stretch(grad, -offset, width, True).unfold(1, later.shape[1], 1)
    return mine, (terms.exp() * grads).sum(1)
