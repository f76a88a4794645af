"""The page of thumbnails: self-contained, escaped, with a word where an image is missing."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.retrieval.strip import SIDE, StripPicture, check_page, write_strips


class Page(HTMLParser):
    """Strips of (caption, name, what is shown), and every address that is asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.strips: list[list[dict[str, str]]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        match tag:
            case "section":
                self.strips.append([])
            case "figure":
                self.strips[-1].append({"title": given["title"]})
            case "img":
                self.strips[-1][-1]["img"] = given["src"]

    def handle_data(self, data: str) -> None:
        if self.strips and self.tags[-1] in ("b", "small", "em") and data.strip():
            self.strips[-1][-1][self.tags[-1]] = data


def thumbnail(address: str) -> Image.Image:
    kind, data = address.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Wide and red."""
    Image.new("RGB", (900, 300), (200, 30, 30)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_queries_come_first_and_thumbnails_are_inside(tmp_path: Path, photo: Path) -> None:
    small = tmp_path / "small.png"
    Image.new("RGBA", (20, 40), (0, 0, 0, 0)).save(small)
    strips = [
        [StripPicture("query", "a.png", photo), StripPicture("1 · 0.9", "small.png", small)],
        [StripPicture("query", "s", small)],
    ]
    write_strips(tmp_path / "x.html", "Title", "about", iter(strips))
    page = Page(tmp_path / "x.html")
    assert [[(figure["b"], figure["small"]) for figure in strip] for strip in page.strips] == [
        [("query", "a.png"), ("1 · 0.9", "small.png")],
        [("query", "s")],
    ]
    first, second, third = (thumbnail(address) for address in page.addresses)
    assert first.size == (SIDE, round(SIDE / 3))
    assert second.size == third.size == (20, 40)  # never enlarged
    red, green, blue = first.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]  # a tuple for RGB
    assert (abs(red - 200) < 4, abs(green - 30) < 4, abs(blue - 30) < 4) == (True, True, True)
    assert second.convert("L").getpixel((5, 5)) == 255  # transparency over white


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path, photo: Path) -> None:
    write_strips(tmp_path / "x.html", "t", "a", [[StripPicture("query", "a", photo)]])
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert re.findall(r"https?:|//[a-z]|@import|url\(|<script", text) == []
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    "name", ['<script>alert("1")</script>.jpg', "a&b'.jpg", '" onload="x', "</small><h1>x"]
)
def test_names_are_escaped(tmp_path: Path, photo: Path, name: str) -> None:
    write_strips(
        tmp_path / "x.html",
        name,
        name,
        [[StripPicture(name, name, photo), StripPicture("1", name, tmp_path / "none")]],
    )
    page = Page(tmp_path / "x.html")
    assert {figure["title"] for figure in page.strips[0]} == {name}
    assert page.strips[0][0]["small"] == name
    assert page.strips[0][0]["b"] == name
    tags = {
        "html",
        "meta",
        "title",
        "style",
        "header",
        "h1",
        "p",
        "main",
        "section",
        "figure",
        "div",
        "img",
        "em",
    }
    assert set(page.tags) == tags | {"figcaption", "b", "small"}


def test_a_missing_image_has_a_named_place(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    pictures = [
        StripPicture("query", "gone.jpg", tmp_path / "gone.jpg"),
        StripPicture("1 · 0.5", "text.jpg", tmp_path / "text.jpg"),
    ]
    write_strips(tmp_path / "x.html", "t", "a", [pictures])
    gone, text = Page(tmp_path / "x.html").strips[0]
    assert (gone["em"], gone["small"], "img" in gone) == (
        "No such file or directory",
        "gone.jpg",
        False,
    )
    assert (text["em"].startswith("not an image"), text["small"]) == (True, "text.jpg")


def test_names_that_no_text_can_hold_are_written_all_the_same(tmp_path: Path, photo: Path) -> None:
    write_strips(tmp_path / "x.html", "t", "a", [[StripPicture("query", "caf\udce9", photo)]])
    assert Page(tmp_path / "x.html").strips[0][0]["small"] == "caf\\udce9"


def test_a_page_replaces_nothing_unless_told(tmp_path: Path) -> None:
    (tmp_path / "x.html").touch()
    with pytest.raises(
        OutputExists, match=r"x\.html' exists\. Name another place, or give overwrite=True\.$"
    ):
        check_page(tmp_path / "x.html", overwrite=False)
    check_page(tmp_path / "x.html", overwrite=True)
    check_page(tmp_path / "y.html", overwrite=False)
    with pytest.raises(OutputExists, match=r"' is a folder\. Name another place\.$"):
        check_page(tmp_path, overwrite=True)
    with pytest.raises(
        UsageError, match=r"cannot be written: there is no such folder\. Name another place\.$"
    ):
        check_page(tmp_path / "no" / "x.html", overwrite=False)
