"""The page in headless Chromium, against the real server on the packaged model and an index of two small documents."""

import time

import pytest
from selenium.webdriver.common.keys import Keys

QUESTION = "What does temperature do to the next-token distribution?"

pytestmark = pytest.mark.slow


def test_chat_streams_and_opens_a_citation(page):
    page.open()
    page.ask(QUESTION)
    seen = set()
    while page.all(".answer.streaming"):
        seen.add(page.one(".prose").text)
        time.sleep(0.02)
    assert len(seen) > 2, "the reply came in one piece"
    assert page.one(".answer.done .prose").text

    page.all(".sources button")[0].click()
    assert page.one(".side .passage blockquote").text
    assert page.one(".side .passage dl").text
    assert page.driver.switch_to.active_element == page.one(".side"), "the passage takes the focus"
    page.press(Keys.ESCAPE)
    assert not page.all(".side")


def test_inspector_shows_every_part(page):
    page.open()
    page.one("#tokens").click()
    page.ask(QUESTION)
    page.wait(".answer.done .token")
    tokens = page.all(".surprise .token")
    assert len(tokens) > 3
    assert "%" in tokens[2].get_attribute("title")

    tokens[2].click()
    page.wait(".part.lens")
    assert "%" in page.one(".facts").text
    assert page.all(".part.choice .stages tbody tr.chosen")
    assert len(page.all(".part.choice .stages thead th")) > 1
    assert len(page.all(".part.lens .layers tbody tr")) == 30  # layers of the packaged model
    assert page.all(".part.attention .heat .token")
    assert page.all(".part.behind")
    for part in ("choice", "attention", "lens"):
        page.wait(f".part.{part} .chart svg")

    layer, head = page.all(".part.attention select")
    before = heat(page)
    layer.send_keys("3")
    head.send_keys("2")
    assert heat(page) != before

    page.press(Keys.ARROW_RIGHT, on=tokens[2])
    page.wait('.surprise .token:nth-child(4)[aria-pressed="true"]')
    page.wait('.inspector[aria-busy="false"]')
    page.all(".heat .token")[5].click()  # one of the prompt
    page.wait('.inspector[aria-busy="false"]')
    page.press(Keys.ESCAPE)
    assert not page.all(".side")


def heat(page):
    return [token.get_attribute("style") for token in page.all(".heat .token")[-20:]]


def test_without_tokens_nothing_is_inspected(page):
    page.open()
    page.ask(QUESTION)
    page.wait(".answer.done")
    assert not page.all(".token")
    calls = page.driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert not [call for call in calls if call.endswith(("/v1/inspect", "/echarts.js"))]


def test_stop_keeps_what_was_written_and_new_chat_forgets(page):
    page.open(max_tokens=400)
    page.one("#grounded").click()
    page.ask("Tell me a very long story about a lighthouse.")
    page.wait(".answer.streaming")
    while not page.one(".prose").text:
        time.sleep(0.02)
    page.one("#stop").click()
    page.wait(".answer.stopped")
    assert page.one(".answer.stopped .prose").text
    page.one("#new-chat").click()
    assert page.all(".welcome")


def test_languages_switch_and_are_remembered(page):
    page.open()
    assert page.one(".welcome h1").text == "Ask, then look inside."
    page.one("#language").click()
    assert page.one(".welcome h1").text == "先提问，再看内部。"
    page.driver.refresh()
    assert page.one(".welcome h1").text == "先提问，再看内部。"
    assert page.driver.execute_script("return document.documentElement.lang") == "zh-CN"
    page.one("#settings").click()
    assert "温度" in page.one(".side .settings").text


def test_gallery_shows_the_labs(page):
    page.open("#/labs")
    page.wait(".card")
    assert page.one(".card .verdict").text == "supported"
    assert "expected: supported" in page.one(".card footer").text
    page.wait(".card .plot img")
    page.one("#language").click()
    assert page.one(".card h2").text == "温度"
    page.one(".card summary").click()
    assert "entropy_bits" in page.one(".card .numbers").text


def test_narrow_page_does_not_scroll_sideways(page):
    page.resize(390, 844)
    for address in ("", "#/labs"):
        page.open(address)
        page.wait(".welcome, .card")
        width, window = page.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert width <= window


def test_refused_request_is_explained(page):
    page.open()
    page.one("#grounded").click()
    page.one("#settings").click()
    page.one("#set-temperature").send_keys("1000000")
    page.ask("Hello")
    assert "temperature" in page.wait(".answer.failed .notice.error").text
    assert "400" in page.log()


def test_key_is_asked_for_and_used(locked_page):
    page = locked_page
    page.open()
    page.wait("dialog[open]")
    page.one("dialog input").send_keys(page.server.key)
    page.one("dialog .primary").click()
    page.wait(".status.ready")
    page.ask("Hello")
    page.wait(".answer.done")
    assert "401" in page.log()


def test_server_that_went_away_is_said(locked_page):
    page = locked_page
    page.open()
    page.driver.execute_script("localStorage.setItem('cutaway.key', JSON.stringify(arguments[0]))", page.server.key)
    page.driver.refresh()
    page.wait(".status.ready")
    page.server.stop()
    page.ask("Hello")
    assert "reached" in page.wait(".answer.failed .notice.error").text
    page.log()


def test_markdown_is_safe_cited_and_marked(page):
    page.open()
    text = "- Heat **spreads** it.\n- Cats fly. [7] <img src=x onerror=alert(1)><script>alert(1)</script>[a](javascript:alert(1))"
    spans = [(text.index("Heat"), "Heat **spreads** it.", [2], True), (text.index("- Cats"), "- Cats fly.", [], False)]
    sentences = [
        {"start": start, "end": start + len(said), "passages": passages, "supported": supported}
        for start, said, passages, supported in spans
    ]
    found = page.driver.execute_async_script(
        "const [text, sentences, done] = arguments; const box = document.createElement('div');"
        "import('/markdown.js').then(({rendered}) => { box.append(rendered(text, sentences, [2])); done(box.innerHTML); });",
        text,
        sentences,
    )
    assert (
        '<strong>spreads</strong> it.&nbsp;<button class="citation" type="button" data-citation="2">2</button>' in found
    )
    assert '<mark class="unsupported">Cats fly.</mark> [7]' in found
    assert "<img" not in found
    assert "<script" not in found
    assert "javascript:" not in found
