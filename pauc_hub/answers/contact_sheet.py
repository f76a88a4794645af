"""One HTML file to look at: each prototype's most central and its borderline images, the largest
prototype first.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from pauc_hub.answers.exemplars import Examples
from pauc_hub.answers.inputs import Given
from pauc_hub.answers.thumbnails import thumbnails_of
from pauc_hub.clustering.prototype_set import PrototypeSet
from pauc_hub.tables.table import whole_file

SHEET_SUFFIX = ".prototypes.html"
# images on the page, about 5 KB each
BUDGET = 8000
# images of a prototype: central ones at most and at least, and borderline ones for each so many
MOST_CENTRAL, FEWEST_CENTRAL, CENTRAL_PER_BORDERLINE = 9, 3, 3
STYLE = """
:root { color-scheme: light dark;
  --back: #f6f6f6; --card: #fff; --line: #ddd; --text: #222; --faint: #666; --mark: #0a58ca; --edge: #b35c00 }
@media (prefers-color-scheme: dark) {
  :root { --back: #161616; --card: #212121; --line: #3a3a3a; --text: #e6e6e6; --faint: #a3a3a3; --mark: #7db0ff;
    --edge: #ffb066 }
}
body { margin: 0; padding: 1.5rem; background: var(--back); color: var(--text); font: 14px/1.4 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.2rem; overflow-wrap: anywhere }
h2 { margin: 2rem 0 .5rem; font-size: 1.05rem }
h3 { margin: 0 0 .4rem; font-size: .95rem; font-variant-numeric: tabular-nums }
h3 span, p { color: var(--faint); font-weight: normal }
p { margin: .25rem 0 }
a { color: var(--mark) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem;
  margin: .6rem 0 }
.strip { display: flex; flex-wrap: wrap; gap: 6px }
.strip > * { width: 96px; height: 96px; object-fit: contain; border-radius: 4px; background: var(--back) }
.strip > span { display: flex; align-items: center; font-size: 11px; color: var(--faint); overflow-wrap: anywhere;
  overflow: hidden; box-sizing: border-box; padding: 4px }
.edge { outline: 2px dashed var(--edge); outline-offset: -2px }
"""  # noqa: E501


def write_contact_sheet(
    path: Path,
    given: Given,
    prototypes: PrototypeSet,
    examples: Sequence[Sequence[Examples]],
    paths: dict[int, str],
    quiet: bool = False,
) -> tuple[int, int]:
    """Write the page, whole or not at all.

    Args:
        examples: of each granularity, the largest prototype first.
        paths: of the rows in the examples.

    Returns:
        How many images are on it, and how many belong there and cannot be read.

    Raises:
        PaucError: it cannot be written.
    """
    shown = [_shortened(level, sum(map(len, examples))) for level in examples]
    names = {paths[row] for level in shown for each in level for row in _rows(each)}
    about = given.table.provenance
    pictures = thumbnails_of(about.root, names, about.reading, quiet)
    with whole_file(path) as file:
        for part in _page(given, prototypes, examples, shown, paths, pictures):
            # names of files may be any bytes
            file.write(part.encode("utf-8", "backslashreplace"))
    return len(pictures), len(names) - len(pictures)


def _shortened(level: Sequence[Examples], prototypes: int) -> list[Examples]:
    """As many images and prototypes as the page has room for."""
    central = max(FEWEST_CENTRAL, min(MOST_CENTRAL, BUDGET // (2 * prototypes)))
    borderline = central // CENTRAL_PER_BORDERLINE
    room = max(1, BUDGET * len(level) // prototypes // (central + borderline))
    return [
        Examples(each.prototype, each.size, each.central[:central], each.borderline[:borderline])
        for each in level[:room]
    ]


def _rows(examples: Examples) -> list[int]:
    found: list[int] = np.concatenate([examples.central, examples.borderline]).tolist()
    return found


def _page(
    given: Given,
    prototypes: PrototypeSet,
    examples: Sequence[Sequence[Examples]],
    shown: Sequence[Sequence[Examples]],
    paths: dict[int, str],
    pictures: dict[str, str],
) -> Iterator[str]:
    title = f"Prototypes of {given.path.name}"
    about = given.table.provenance
    links = " · ".join(
        f'<a href="#g{m}">{k} prototypes</a>' for m, k in enumerate(prototypes.granularities)
    )
    yield f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<h1>{escape(title)}</h1>
<p>{given.rows} images, {escape(about.model)}, {escape(about.space)} space. {links}</p>
<p>Of each prototype its most central images; those with a dashed edge are borderline, nearly as close to another.</p>
"""  # noqa: E501
    for m, level in enumerate(shown):
        yield (
            f'<h2 id="g{m}">{prototypes.granularities[m]} prototypes{_worth(prototypes, m)}</h2>\n'
        )
        for each in level:
            yield _section(prototypes, m, each, given.rows, paths, pictures)
        if hidden := sum(each.size > 0 for each in examples[m][len(level) :]):
            yield f"<p>{hidden} smaller ones are not shown.</p>\n"
    yield "</html>\n"


def _worth(prototypes: PrototypeSet, m: int) -> str:
    facts = prototypes.facts
    parts = [f"stability {facts['stability'][m]:.2f}"] if "stability" in facts else []
    if facts.get("silhouette") and facts["silhouette"][m] is not None:
        parts.append(f"silhouette {facts['silhouette'][m]:.2f}")
    return f" <span>({', '.join(parts)})</span>" if parts else ""


def _section(
    prototypes: PrototypeSet,
    m: int,
    each: Examples,
    total: int,
    paths: dict[int, str],
    pictures: dict[str, str],
) -> str:
    name = prototypes.names[m][each.prototype]
    title = f"{each.prototype}{f' {escape(name)}' if name else ''}"
    share = f"{each.size} image{'s' * (each.size != 1)}, {100 * each.size / total:.1f} %"
    images = [_image(paths[row], pictures, "") for row in each.central.tolist()]
    images += [_image(paths[row], pictures, ' class="edge"') for row in each.borderline.tolist()]
    return (
        f'<section id="g{m}-{each.prototype}"><h3>{title} '
        f"<span>{share}{_kin(prototypes, m, each.prototype)}</span>"
        f'</h3><div class="strip">{"".join(images)}</div></section>\n'
    )


def _kin(prototypes: PrototypeSet, m: int, prototype: int) -> str:
    """Links to the coarser prototype above and the finer ones below."""
    if not prototypes.nested:
        return ""
    text = ""
    parents = prototypes.levels[m].parents
    if parents is not None:
        above = int(parents[prototype])
        text += f'; in <a href="#g{m - 1}-{above}">{above}</a>'
    if m + 1 < len(prototypes.levels):
        below = prototypes.levels[m + 1].parents
        assert below is not None, "nested levels have parents"
        children = (below == prototype).nonzero().squeeze(1).tolist()
        text += "; holds " + " ".join(
            f'<a href="#g{m + 1}-{child}">{child}</a>' for child in children
        )
    return text


def _image(name: str, pictures: dict[str, str], style: str) -> str:
    label = escape(name, quote=True)
    if name not in pictures:
        return f'<span{style} title="{label}">{label}</span>'
    return (
        f'<img{style} loading="lazy" alt="{label}" title="{label}" '
        f'src="data:image/jpeg;base64,{pictures[name]}">'
    )
