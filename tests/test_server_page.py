"""The server's page in a real browser, whose microphone plays a file."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import chromium
import numpy as np
import pytest
import soundfile
from test_server import RATE_HZ, tone, voice_like

from benchmarks.server import started

pytest.importorskip("uvicorn")

PROGRAM = (str(Path(__file__).with_name("stand_in.py")),)
ELSEWHERE = "emotions.test"
"""A name that the browser takes for another machine's."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that abstains below 0.7."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with started("--risk", 0.7, "--names", ELSEWHERE, program=PROGRAM) as (url, _):
            yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    soundfile.write(folder / "spoken.wav", voice_like(0.8), RATE_HZ)
    soundfile.write(folder / "soft.flac", tone(1, 0.2), RATE_HZ)
    quiet = np.zeros(RATE_HZ)
    soundfile.write(
        folder / "long.wav", np.concatenate([quiet, voice_like(0.8), quiet, voice_like(0.2), quiet]), RATE_HZ
    )
    soundfile.write(folder / "telephone.au", tone(1, 0.8), RATE_HZ, subtype="ULAW")
    (folder / "notes.wav").write_text("no recording")
    return folder


@pytest.fixture(scope="module")
def browser(folder, tmp_path_factory) -> Iterator[chromium.Page]:
    """A browser whose microphone plays `spoken.wav`, and which asks nobody whether it may be used."""
    found = chromium.find()
    if found is None:
        pytest.skip(chromium.MISSING)
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'spoken.wav'}",
        "--autoplay-policy=no-user-gesture-required",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    )
    with chromium.page(found, tmp_path_factory.mktemp("profile"), *options) as page:
        yield page


@pytest.fixture
def page(browser, url) -> chromium.Page:
    browser.console.clear()
    browser.requests.clear()
    browser.open(url, width=1280)
    return browser


def choose(page: chromium.Page, *files: Path) -> None:
    """Give files to the page as its file dialogue does, and wait for their answers."""
    before = page.evaluate("document.querySelectorAll('article').length")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])
    answered(page, before + len(files))


def answered(page: chromium.Page, count: int) -> None:
    page.until(f"document.querySelectorAll('article').length == {count} && !document.querySelector('.working')")


def text(page: chromium.Page, selector: str) -> str:
    return page.evaluate(f"document.querySelector('{selector}').innerText")


def press(page: chromium.Page, key: str, code: int, character: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=character)


def focused(page: chromium.Page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.className")


def test_the_microphone_is_heard(page):
    page.evaluate("document.querySelector('#microphone').focus()")
    press(page, "Enter", 13, "\r")  # by the keyboard
    page.until("document.body.classList.contains('recording')")
    assert text(page, "#microphone-label") == "Stop"
    page.until("document.querySelector('#clock').textContent == '0:03'")
    assert page.evaluate("document.querySelector('#live').width") > 0
    press(page, "Enter", 13, "\r")
    answered(page, 1)
    assert text(page, "h2") == "Recording 1"
    # The loudness that the stand-in tells is that of the file: 0.8, whatever the browser's resampling does to a buzz.
    assert text(page, ".verdict strong") == "angry"
    heard = page.evaluate("document.querySelector('.shares div:nth-child(3) .number').innerText")
    assert 70 < int(heard.removesuffix(" %")) < 90
    assert page.evaluate("document.querySelector('#status').textContent").startswith("Recording 1: angry, ")
    assert page.evaluate("document.querySelector('audio').duration") > 2.9  # it can be heard
    assert page.console == []


def test_files_are_named_and_one_bad_one_spoils_no_other(page, folder):
    choose(page, folder / "soft.flac", folder / "notes.wav")
    bad, good = page.evaluate("[...document.querySelectorAll('article')].map(card => card.innerText)")
    assert "expected a recording" in bad
    assert page.evaluate("document.querySelector('article .problem').getAttribute('role')") == "alert"
    # A loudness of 0.2 leaves calm 0.6, which is below 0.7.
    assert "unsure (calm)" in good
    shares = page.evaluate("[...document.querySelectorAll('.shares .number')].map(one => one.innerText)")
    assert shares == ["60 %", "20 %", "20 %"]
    page.until("!document.getAnimations().length")
    widths = page.evaluate(
        "[...document.querySelectorAll('.shares .bar')].map(bar =>"
        " bar.firstElementChild.getBoundingClientRect().width / bar.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([0.6, 0.2, 0.2], abs=0.01)


def test_dropped_files_are_taken(page, folder):
    page.evaluate(
        "const data = new DataTransfer();"
        "data.items.add(new File([new Uint8Array(9)], 'dropped.wav'));"
        "const event = (name) => new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });"
        "document.body.dispatchEvent(event('dragover'))"
    )
    assert page.evaluate("document.body.className") == "dropping"
    page.evaluate("document.body.dispatchEvent(event('drop'))")
    answered(page, 1)
    assert text(page, "h2") == "dropped.wav"
    assert page.evaluate("document.body.className") == ""


def test_a_long_recording_plays_and_moves(page, folder):
    choose(page, folder / "long.wav")
    assert text(page, ".facts") == "0:13, 2 utterances"
    told = page.evaluate("[...document.querySelectorAll('.boxes b')].map(box => box.innerText)")
    assert told == ["angry\n80 %", "(calm)\n60 %"]
    assert page.evaluate("document.querySelector('.list [aria-current] .name').innerText") == "angry"
    # The second utterance is at about 7 s; its button goes there.
    page.evaluate("document.querySelectorAll('.list button')[1].click()")
    page.until("document.querySelector('audio').currentTime > 6.5")
    assert page.evaluate("document.querySelector('.list [aria-current] .name').innerText") == "unsure (calm)"
    assert text(page, ".verdict strong") == "unsure (calm)"
    place = "parseFloat(document.querySelector('.head').style.left)"
    before = page.evaluate(place)
    assert before == pytest.approx(100 * 7 / 13, abs=4)
    page.evaluate("document.querySelector('.play').focus()")
    press(page, " ", 32, " ")
    page.until(f"{place} > {before} + 4")  # half a second has been played
    assert page.evaluate("document.querySelector('.play').getAttribute('aria-label')") == "Pause"
    press(page, " ", 32, " ")
    page.until("document.querySelector('audio').paused")
    page.until("document.querySelector('.play').getAttribute('aria-label') == 'Play'")
    # The slider goes by keys, as every slider does.
    page.evaluate("document.querySelector('.player input').focus()")
    press(page, "Home", 36)
    page.until("document.querySelector('audio').currentTime == 0")
    assert text(page, ".verdict strong") == "angry"
    assert page.console == []


def test_on_a_phone_the_timeline_moves_below_its_head(page, url, folder):
    page.open(url, width=380)
    choose(page, folder / "long.wav")
    page.evaluate("document.querySelectorAll('.list button')[1].click()")
    page.until("document.querySelector('.strip').scrollLeft > 0")
    strip, head = page.evaluate(
        "['.strip', '.head'].map(one => document.querySelector(one).getBoundingClientRect())"
        ".map(box => box.left + box.width / 2)"
    )
    assert head == pytest.approx(strip, abs=2)


def test_what_the_browser_cannot_play_is_named_all_the_same(page, folder):
    choose(page, folder / "telephone.au")
    page.until("document.querySelector('.play').disabled")
    assert text(page, ".verdict strong") == "angry"
    assert "cannot play" in text(page, ".unplayable")


def test_a_card_can_be_removed(page, folder):
    choose(page, folder / "soft.flac")
    page.evaluate("document.querySelector('.remove').click()")
    assert page.evaluate("document.querySelectorAll('article').length") == 0
    assert focused(page) == "microphone"


def test_nothing_is_asked_of_others_and_nothing_is_stored(page, url, folder):
    choose(page, folder / "soft.flac", folder / "long.wav")
    places = {urlsplit(asked.removeprefix("blob:")).netloc for asked in page.requests}
    assert places == {urlsplit(url).netloc}
    stored = "[localStorage.length, sessionStorage.length, document.cookie.length]"
    assert page.evaluate(stored) == [0, 0, 0]
    assert page.console == []


def test_elsewhere_the_page_says_why_there_is_no_microphone(page, url, folder):
    page.open(f"http://{ELSEWHERE}:{urlsplit(url).port}/", width=1280)
    assert page.evaluate("document.querySelector('#record').hidden")
    notice = text(page, "#no-microphone")
    assert "only to pages from localhost or over HTTPS" in notice
    assert f"http://{ELSEWHERE}" in notice
    choose(page, folder / "soft.flac")  # files work
    assert "unsure (calm)" in text(page, ".verdict")


def test_every_control_has_a_name_and_is_reached_by_keys(page, folder):
    choose(page, folder / "long.wav")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node for node in nodes if node.get("role", {}).get("value") in ("button", "slider", "DisclosureTriangle")
    ]
    names = [node["name"]["value"] for node in controls]
    assert all(names)
    assert {"Record", "Choose files", "Play", "Position", "Remove long.wav"} <= set(names)
    assert any(re.fullmatch(r"0:0[67] to 0:1[23]: unsure \(calm\), 60 %", name) for name in names)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        press(page, "Tab", 9)
        reached.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.id"))
    assert reached[:2] == ["microphone", "files"]
    assert {"Remove long.wav", "Play", "Position"} <= set(reached)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [380, 1280])
def test_it_fits_and_can_be_read(page, url, folder, width, dark):
    page.open(url, width=width, dark=dark)
    choose(page, folder / "long.wav", folder / "soft.flac", folder / "notes.wav")
    wide, visible = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= visible
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('body *')].filter(one => one.innerText && one.offsetParent)"
        ".map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 11
    for selector, on in (("p.facts", "article"), (".number", "article"), ("footer p", "body"), ("#microphone", None)):
        assert contrast(page, selector, on) >= 4.5


def contrast(page: chromium.Page, selector: str, on: str | None) -> float:
    """WCAG's ratio of the luminances of a text and of what it stands on."""
    colours = page.evaluate(
        f"[getComputedStyle(document.querySelector('{selector}')).color,"
        f" getComputedStyle(document.querySelector('{on or selector}')).backgroundColor]"
    )
    levels = []
    for colour in colours:
        shares = np.array([float(part) for part in colour[4:-1].split(",")][:3]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        levels.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(levels) / min(levels)
