"""Draws results.json: requests a second of each contender, by workload, on a logarithmic scale. Run by the bench's own environment."""

import json
import sys

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "limit": "#777777",
    "constant": "#777777",
    "REST": "#1b7f5c",
    "GraphQL": "#5cb893",
    "REST, none kept": "#3d6fa5",
    "GraphQL, none kept": "#86aed6",
    "FastAPI ORM": "#c9772c",
    "Strawberry": "#b8416b",
}


def draw(source: str, target: str) -> None:
    said = json.load(open(source))  # noqa: SIM115
    results = [result for result in said["results"] if result["median"]]
    figure, axes = plt.subplots(figsize=(2.5 + 1.9 * len(results), 5.5))
    ticks, step = [], 0.9 / max(len(result["median"]) for result in results)
    for i, result in enumerate(results):
        middles = {who: m for who, m in result["median"].items() if m["rate"] > 0}
        for k, (who, middle) in enumerate(middles.items()):
            x = i + (k - (len(middles) - 1) / 2) * step
            axes.bar(x, middle["rate"], 0.94 * step, color=COLOURS.get(who, "#4477aa"), label=who)
            rate = f"{middle['rate']:,.0f}" if middle["rate"] >= 10 else f"{middle['rate']:.2g}"
            axes.annotate(rate, (x, middle["rate"]), ha="center", va="bottom", fontsize=6, rotation=60)
        for to, least in result["goals"].items():
            if to in ("limit", "constant") and to in middles:
                axes.hlines(middles[to]["rate"] * least, i - 0.42, i + 0.42, color="black", linestyle=":", linewidth=1)
        ticks.append(f"{result['workload']}\n{result['connections']} connections")
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_ylabel("requests a second")
    axes.set_xticks(range(len(results)), ticks)
    known = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(known.values(), known.keys(), fontsize=8)
    axes.set_title(f"Medians, scale {said['scale']}; dotted: the goal against the limit", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    draw(*sys.argv[1:])
