"""Straight-through draws, one from each urn, on a CPU, of three groups and more: the law and derivative of
``_conditionals`` and ``_relaxation``, which serve everything else.

The host sees the weights here, so that windows are as narrow as they allow, and sums of groups are rows of their own:
their probabilities, not logarithms, are convolved, read and carried back, in float32 where results are float32.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mvhg._bounds import Bounds
from mvhg._convolution import correlated, shifted, spread
from mvhg._hard_draws import slope_at
from mvhg._kept import CPU
from mvhg._log_binomials import LONGEST_KEPT, kept_log_binomials, log_binomials
from mvhg._noise import gumbel
from mvhg._surrogate import central_rises, slopes_with_what_follows, values_of_counts
from mvhg._windows import centred, depth_given_sum, reach, supports, widths, windows_within

# Numbers a window may hold in all at once: what is made of so many stays in a processor's cache.
_NUMBERS_AT_ONCE = 1 << 16
_FEWEST_ROWS = 64
# Products a convolution, beyond which a Fourier transform may win.
_MOST_PRODUCTS = 1 << 20
# A float32 is subnormal below exp(-87), a float64 below exp(-708); windows reach a little deeper than is read.
_DEEPEST = {torch.float32: 78.0, torch.float64: 650.0}
_SMALLEST = {torch.float32: 1e-37, torch.float64: 1e-300}
# Widths are multiples of this, so that few different ones occur: a convolution of a new width is compiled anew.
_WIDTH_STEP = 8


class Request(NamedTuple):
    """What is drawn, of R urns with c groups each in their drawing order.

    Attributes:
        size: float64 [R, c].
        total: float64 [R].
        permutation, back: the drawing order and its inverse, int64 [R, c].
        inverse_temperature: float64 [R].
        dtype: of results.
        depth: see ``depth_read``.
        bounds: of the urns.
        largest: largest group size, if one-hot vectors and prefix masks are wanted.
        generator: source of randomness.
        noise: uniform variables instead, float64 [R, c-1, X].
    """

    size: Tensor
    total: Tensor
    permutation: Tensor
    back: Tensor
    inverse_temperature: Tensor
    dtype: torch.dtype
    depth: float
    bounds: Bounds
    largest: int | None
    generator: torch.Generator | None
    noise: Tensor | None

    def part(self, rows: slice) -> "Request":
        """Some of the urns."""
        fields = ("size", "total", "permutation", "back", "inverse_temperature")
        noise = None if self.noise is None else self.noise[rows]
        return self._replace(noise=noise, **{name: getattr(self, name)[rows] for name in fields})


def working_dtype(dtype: torch.dtype, depth: float) -> torch.dtype:
    """In which tables are made: float32 for float32 results, unless they are read too deep for it."""
    return dtype if depth + 8 <= _DEEPEST[dtype] else torch.float64


def serves(bounds: Bounds, groups: int, depth: float) -> bool:
    """Whether draws of these urns are made here."""
    if groups < 3 or depth > _DEEPEST[torch.float64] - 8:
        return False
    count, spans = windows_within(bounds, groups, depth)
    return count * max(spans) <= _MOST_PRODUCTS


def draw(request: Request, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts [R, c], one-hot vectors [R, c, M + 1] and prefix masks [R, c, M] in ``dtype``, in the caller's order.

    Args:
        request: what is drawn.
        logits: log weights plus tilt in the drawing order, float64 [R, c], differentiable.
    """
    return _WideDraws.apply(logits, request)


class _Windows(NamedTuple):
    """Where rows stand: of group i the counts low_i, ..., low_i + width - 1; of the sum of the groups after position i
    the sums top_i, top_i - 1, ... in descending order, so that what may remain is ascending in the count."""

    width: int
    spans: list[int]  # of the sums, c-1
    low: Tensor  # int64 [R, c]
    top: Tensor  # int64 [R, c-1]
    # How many of these a draw may leave, int64 [R, c-1]; None where all rows may leave all.
    possible: Tensor | None


def _windows(request: Request, logits: Tensor) -> _Windows:
    size, n, bounds = request.size, request.total.unsqueeze(1), request.bounds
    groups = size.shape[1]
    chance, opposite = torch.sigmoid(logits), torch.sigmoid(-logits)
    mean = size * chance
    variance = mean * opposite
    least, least_sum, later = supports(size, request.total)
    most, most_sum = torch.minimum(size, n), torch.minimum(later, n)[:, :-1]
    count, whole = widths(bounds, groups)
    depth = depth_given_sum(bounds, request.depth)
    if request.noise is None:
        above = (mean + reach(depth, variance, opposite)).ceil().minimum(most)
        below = (mean - reach(depth, variance, chance)).floor().maximum(least)
        width = min(count, _rounded(int((above - below).amax()) + 1))
        low = below.minimum((most - (width - 1)).maximum(least))
    else:
        width = request.noise.shape[2]
        low = centred(mean, least, most, [width] * groups)
    before = variance.cumsum(1)[:, :-1]
    # What is left lies where the groups before and those after may both leave it.
    around = reach(depth, torch.minimum(before, variance.sum(1, keepdim=True) - before), 1.0)
    rest = mean.sum(1, keepdim=True) - mean.cumsum(1)[:, :-1]
    wide = around[:, 1:-1].amax(0).ceil().long().tolist()
    spans = [width, *(min(whole[i + 2], _rounded(2 * w + 2)) for i, w in enumerate(wide)), width]
    tops = [request.total - low[:, 0]]
    for i in range(1, groups - 2):
        least_top = (least_sum[:, i] + (spans[i] - 1)).minimum(most_sum[:, i])
        tops.append((rest[:, i].floor() + spans[i] // 2).minimum(most_sum[:, i]).maximum(least_top))
    tops.append(low[:, -1] + (width - 1))
    top = torch.stack(tops, 1)
    same = groups == 3 or (bounds.sizes is not None and len(set(bounds.sizes)) == 1)
    possible = None if same else (top - least_sum + 1).long()
    return _Windows(width, spans, low.long(), top.long(), possible)


def _rounded(width: int) -> int:
    return -(-width // _WIDTH_STEP) * _WIDTH_STEP


class _Drawn(NamedTuple):
    """What the derivative of a part of the rows needs."""

    windows: _Windows
    terms: Tensor  # probabilities of the counts, [R, c, X]
    tables: list[Tensor]  # of the sums after positions 0..c-3, [R, S_i]
    strips: list[Tensor]  # what each was made of, without zeros at the end: [R, S_i ... X + S_i - 1]
    starts: list[Tensor]  # where that begins in the table of the next sum, int64 [R]
    places: list[Tensor]  # where what is read at positions 1..c-2 begins, int64 [R]
    around: Tensor | None  # logarithms read there, with a neighbour on each side: [R, c-2, X + 2]
    soft: Tensor  # [R, c-1, X]
    last: Tensor  # count of the last group, int64 [R]


def _draw_part(request: Request, logits: Tensor, differentiable: bool) -> tuple[Tensor, _Drawn]:
    """Counts in the caller's order, int64 [R, c], and what the derivative needs."""
    windows = _windows(request, logits)
    width, groups, low, top = windows.width, logits.shape[1], windows.low, windows.top
    working = working_dtype(request.dtype, request.depth)
    steps = torch.arange(width, dtype=torch.float64, device=CPU)
    own = torch.addcmul(_log_binomials(request, windows), logits.unsqueeze(2), steps)
    if request.bounds.sizes is None or request.bounds.totals is None:
        # Where another urn of the batch would reach further.
        own = own.masked_fill(low.unsqueeze(2) + steps > request.total[:, None, None], -math.inf)
    own = (own - own.amax(2, keepdim=True)).to(working)
    terms = own.exp()
    terms /= terms.sum(2, keepdim=True)  # so that probabilities of sums neither grow nor fade
    table, tables, strips, starts = terms[:, -1].flip(1), [], [], []
    read = [table]
    for i in range(groups - 3, -1, -1):
        starts.append(top[:, i + 1] - top[:, i] + low[:, i + 1])
        strip = shifted(table, starts[-1], width + windows.spans[i] - 1)
        reached = max(windows.spans[i], _rounded(table.shape[1] - int(starts[-1].amin())))  # beyond it are zeros
        strips.append(strip[:, :reached])
        table = correlated(terms[:, i + 1], strip)
        if windows.possible is not None and i > 0:
            beyond = torch.arange(windows.spans[i], device=CPU) >= windows.possible[:, i].unsqueeze(1)
            table = table.masked_fill(beyond, 0.0)
        tables.append(table)
        read.append(table)
    for parts in (tables, strips, starts, read):
        parts.reverse()
    shape = (len(own), groups - 1, width)
    if request.noise is None:
        precise = torch.float32 if request.dtype == torch.float32 else torch.float64
        perturbed = gumbel(shape, precise, own.device, request.generator).to(working)
    else:
        perturbed = request.noise[..., :width].log().neg_().log_().neg_().to(working)
    remaining, counts, places = request.total.long(), [], []
    around = own.new_empty(len(own), groups - 2, width + 2)
    for i, row in enumerate(perturbed.unbind(1)):
        if i == 0:
            later = read[0].log()
        else:
            places.append(top[:, i] - remaining + low[:, i])
            around[:, i - 1] = shifted(read[i], places[-1] - 1, width + 2)
            later = around[:, i - 1].log_()[:, 1:-1]
        row += own[:, i]
        row += later
        count = row.max(1)[1] + low[:, i]
        remaining = remaining - count
        counts.append(count)
    counts.append(remaining)
    perturbed *= request.inverse_temperature.to(working).reshape(-1, 1, 1)
    soft = torch.softmax(perturbed, 2).to(request.dtype) if differentiable else perturbed
    drawn = torch.stack(counts, 1).gather(1, request.back)
    return drawn, _Drawn(windows, terms, tables, strips, starts, places, around, soft, remaining)


def _log_binomials(request: Request, windows: _Windows) -> Tensor:
    """log C(m, x) up to a constant a group, -inf beyond m: float64 [R, c, X]."""
    bounds = request.bounds
    if bounds.sizes is None or bounds.group > LONGEST_KEPT:
        return log_binomials(request.size, windows.low.double(), windows.width)
    kept = kept_log_binomials(bounds.sizes)  # [c, 2 M + 2]
    first = windows.low if len(kept) == 1 else request.permutation * kept.shape[1] + windows.low
    return kept.flatten().unfold(0, windows.width, 1).index_select(0, first.flatten()).view(*first.shape, -1)


class _WideDraws(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, request: Request) -> tuple[Tensor, Tensor, Tensor]:
        rows, groups = logits.shape
        largest, dtype = request.largest, request.dtype
        counts = logits.new_empty(rows, groups, dtype=dtype)
        one_hot = logits.new_empty((rows, groups, largest + 1) if largest is not None else (0,), dtype=dtype)
        prefix_mask = logits.new_empty((rows, groups, largest) if largest is not None else (0,), dtype=dtype)
        ladder = torch.arange(0 if largest is None else largest + 1, device=CPU)
        count = windows_within(request.bounds, groups, request.depth)[0]
        at_once = max(_FEWEST_ROWS, _NUMBERS_AT_ONCE // (count * groups))
        parts: list[tuple[slice, _Drawn]] = []
        for k in range(0, rows, at_once):
            some = slice(k, k + at_once)
            drawn, made = _draw_part(request.part(some), logits[some], ctx.needs_input_grad[0])
            counts[some] = drawn
            if largest is not None:
                torch.eq(drawn.unsqueeze(2), ladder, out=one_hot[some])
                torch.gt(drawn.unsqueeze(2), ladder[:-1], out=prefix_mask[some])
            if ctx.needs_input_grad[0]:
                parts.append((some, made))
        ctx.parts, ctx.request, ctx.shape = parts, request, logits.shape
        ctx.set_materialize_grads(False)
        return counts, one_hot, prefix_mask

    @staticmethod
    def backward(ctx: Any, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> tuple[Any, ...]:
        if ctx.request.largest is None:
            one_hot_grad = mask_grad = None
        result = torch.zeros(ctx.shape, dtype=torch.float64, device=CPU)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # backward may be called within one
            for some, made in ctx.parts:
                grads = [None if g is None else g[some] for g in (counts_grad, one_hot_grad, mask_grad)]
                result[some] = _gradient(ctx.request.part(some), made, *grads)
        return result, None


def _gradient(request: Request, made: _Drawn, counts_grad: Any, one_hot_grad: Any, mask_grad: Any) -> Tensor:
    """In the logits, [R, c]; see ``_relaxation._gradients``."""
    soft, permutation, windows = made.soft, request.permutation, made.windows
    rows, positions, width = soft.shape
    if counts_grad is None and one_hot_grad is None and mask_grad is None:
        return soft.new_zeros(rows, positions + 1)
    ramp = torch.arange(width, dtype=soft.dtype, device=CPU)
    scale = request.inverse_temperature.to(soft.dtype).unsqueeze(1)
    # The loss, to first order, is a sum over the groups of a slope times the count and of a value of each count.
    slopes = None if counts_grad is None else counts_grad.gather(1, permutation)
    along: Any = None if slopes is None else slopes[:, -1]
    gains: Any = None
    values = values_of_counts(one_hot_grad, mask_grad)
    if values is not None:
        counts = values.shape[2]
        first = permutation + torch.arange(0, rows * (positions + 1), positions + 1, device=CPU).unsqueeze(1)
        at_last = values.flatten(0, 1).index_select(0, first[:, -1])
        rise = slope_at(at_last, made.last, request.size[:, -1].long())
        along = rise if along is None else along + rise
        # What a window reads beyond M, of the next group, are counts that do not occur.
        flat = pad(values.flatten(), (0, width))
        first = first[:, :-1] * counts + windows.low[:, :-1]
        gains = flat.unfold(0, width, 1).index_select(0, first.flatten()).view_as(soft)
    # How a soft count, and what the values gain by it, depend on what is left to draw.
    later = soft[:, 1:]
    assert made.around is not None  # three groups or more
    change = central_rises(made.around, 2, soft.dtype).mul_(later)
    change = torch.addcmul(change, later, change.sum(2, keepdim=True), value=-1)
    change *= scale.unsqueeze(2)
    by_count = change @ ramp
    by_value = None if gains is None else (change * gains[:, 1:]).sum(2)
    slope = (slopes_with_what_follows(along, slopes, by_count, by_value, dim=1) * scale).unsqueeze(2)
    rise = ramp * slope if gains is None else torch.addcmul(gains * scale.unsqueeze(2), ramp, slope)
    rise *= soft
    grad = torch.addcmul(rise, soft, rise.sum(2, keepdim=True), value=-1)
    return _through_sums(made, grad.to(made.terms.dtype))


def _through_sums(made: _Drawn, grad: Tensor) -> Tensor:
    """Gradient in the logits [R, c], from that in the conditional log-weights [R, c-1, X], whose rows sum to 0.

    The derivative of log P(sum = s) in a group's logit is that group's mean given s. Of the gradient in each sum s the
    chances of what the later groups add up to carry a part on, and what their mean falls short of s is the group's.
    """
    windows, smallest = made.windows, _SMALLEST[grad.dtype]
    width = windows.width
    ramp = torch.arange(2 * width + max(windows.spans), dtype=grad.dtype, device=CPU)
    own = (grad @ (ramp[:width] - width // 2)).double()  # of counts
    results, entering, flow = [own[:, 0]], -own[:, 0], grad[:, 0]
    for i, (table, strip, start) in enumerate(zip(made.tables, made.strips, made.starts, strict=True)):
        share = flow / table.clamp(min=smallest)
        carried = spread(made.terms[:, i + 1], share, strip.shape[1]).mul_(strip)
        mean = -(carried @ (ramp[: strip.shape[1]] - strip.shape[1] // 2)).double()
        results.append(entering - mean + own[:, i + 1])
        entering = mean - own[:, i + 1]
        if i + 1 < len(made.tables):
            span = windows.spans[i + 1]
            flow = shifted(carried, -start, span).add_(shifted(grad[:, i + 1], -made.places[i], span))
    return torch.stack([*results, entering], 1)
