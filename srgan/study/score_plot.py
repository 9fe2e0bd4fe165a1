"""The picture of a study's scores."""

import io
import math

from srgan.study.score_tables import Results


def scores_png(results: Results) -> bytes:
    """The methods' scores with their 95 % intervals, as PNG; the same bytes for the same scores."""
    from matplotlib.figure import Figure

    methods = results.scores.methods
    figure = Figure(figsize=(6, 3.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for place, one in enumerate(methods):
        if not math.isnan(one.low):
            axes.plot([place, place], [one.low, one.high], color="#0072b2", linewidth=2)
        axes.plot([place], [one.score], marker="o", color="#0072b2")
        axes.annotate(
            f"{one.score:.2f}", (place, one.score), (8, 0), textcoords="offset points", va="center"
        )
    names = [results.method(one.method).replace(", ", "\n") for one in methods]
    axes.set_xticks(range(len(methods)), names)
    axes.set_xlim(-0.5, len(methods) - 0.3)
    if results.key.mode == "acr":
        axes.set_ylim(0.9, 5.1)
        axes.set_yticks(range(1, 6), ["1 bad", "2 poor", "3 fair", "4 good", "5 excellent"])
    axes.set_ylabel(results.title)
    axes.grid(axis="y", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    kept = sum(not one.reasons for one in results.raters)
    whose = "simulated raters" if results.simulated else "raters"
    axes.set_title(f"{kept} {whose}, {results.pictures} crops, 95 % intervals", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
