"""The pictures of a report: latency, rates, statuses, and what the service used."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from loadtest.find_rate import Probe
from loadtest.processes import Usage
from loadtest.schedules import Schedule
from loadtest.series import Series
from loadtest.slo import Slo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "200": "tab:green",
    "429": "tab:orange",
    "200, wrong": "tab:red",
    "no answer": "black",
}
OTHER = "tab:purple"


def latency_plot(series: Series, schedule: Schedule, slo: Slo) -> bytes:
    """Percentiles over time, with the objective's p99; PNG."""
    figure, axes = _figure(series, schedule, "latency, ms")
    middles_s = (series.edges_s[1:] + series.edges_s[:-1]) / 2
    for name, values in series.percentiles_ms.items():
        axes.plot(middles_s, values, marker=".", label=name)
    if slo.latency_ms.p99 is not None:
        limit = slo.latency_ms.p99
        axes.axhline(limit, color="tab:red", linestyle="--", label=f"objective: p99 {limit:g} ms")
    if any(np.isfinite(values).any() for values in series.percentiles_ms.values()):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    return _png(figure, axes)


def rate_plot(series: Series, schedule: Schedule) -> bytes:
    """Requests due, and those answered well, per second; PNG."""
    figure, axes = _figure(series, schedule, "requests/s")
    axes.stairs(series.asked, series.edges_s, fill=True, alpha=0.25, label="asked")
    axes.stairs(series.answered, series.edges_s, label="answered", color="tab:green", linewidth=2)
    axes.set_ylim(bottom=0)
    return _png(figure, axes)


def status_plot(series: Series, schedule: Schedule) -> bytes:
    """What became of the requests due in each moment, stacked; PNG."""
    figure, axes = _figure(series, schedule, "requests/s by status")
    below = np.zeros_like(series.asked)
    for name in sorted(series.statuses, key=lambda name: (name != "200", name)):
        top = below + series.statuses[name]
        color = COLORS.get(name, OTHER)
        axes.stairs(top, series.edges_s, baseline=below, fill=True, color=color, label=name)
        below = top
    axes.set_ylim(bottom=0)
    return _png(figure, axes)


def usage_plot(usage: Usage, start_s: float, series: Series, schedule: Schedule) -> bytes:
    """Cores and memory of the service over the run; PNG."""
    figure, axes = _figure(series, schedule, "cores used by the service")
    time_s = np.array(usage.time_s) - start_s
    inside = (time_s >= 0) & (time_s <= schedule.total_s)
    cores = np.gradient(usage.cpu_s, usage.time_s) if len(usage.time_s) > 1 else np.zeros(1)
    axes.plot(time_s[inside], cores[inside], label="cores", color="tab:blue")
    axes.set_ylim(bottom=0)
    memory = axes.twinx()
    memory.plot(time_s[inside], np.array(usage.resident_mb)[inside], color="tab:gray")
    memory.set_ylabel("resident memory, MB (gray)")
    memory.set_ylim(bottom=0)
    return _png(figure, axes)


def probes_plot(probes: Sequence[Probe], p99_ms: float) -> bytes:
    """The p99 of each rate that was tried, with the limit; the larger points took longer; PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only a report needs it

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for held, color, label in ((True, "tab:green", "held"), (False, "tab:red", "did not hold")):
        tried = [probe for probe in probes if probe.held == held and probe.p99_ms is not None]
        rates = [probe.rate for probe in tried]
        times = [probe.p99_ms or np.nan for probe in tried]
        axes.scatter(rates, times, [4 * p.duration_s for p in tried], color=color, label=label)
    axes.axhline(p99_ms, color="tab:red", linestyle="--", label=f"objective: {p99_ms:g} ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=0)
    axes.set_xlabel("arrivals/s; a larger point was tried for longer")
    axes.set_ylabel("p99 of recommendations, ms")
    axes.grid(visible=True, alpha=0.3)
    return _png(figure, axes)


def _figure(series: Series, schedule: Schedule, label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only a report needs it

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.add_subplot()
    bin_s = series.edges_s[1] - series.edges_s[0]
    axes.set_xlabel(f"s since the start; a point is {bin_s:.3g} s; gray: warm-up")
    axes.set_ylabel(label)
    axes.axvspan(0, schedule.warmup_s, color="0.9")
    axes.set_xlim(0, schedule.total_s)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _png(figure: "Figure", axes: "Axes") -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
