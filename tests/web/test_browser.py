"""The page in headless Chromium, against the real server on the packaged model and an index of two small documents."""

import json
import signal
import time
import urllib.request

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
    assert page.one(".side .passage mark").text in page.one(".prose").text, "a quotation is marked where it comes from"
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

    page.one(".surprise .citation").click()
    assert page.one(".side .passage mark").text
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


def test_the_model_is_looked_at(page):
    page.open("#/model")
    page.wait(".status.ready")
    page.one("#looked-at").clear()
    page.press("Paris is the capital of France.", on=page.one("#looked-at"))
    page.press(Keys.ENTER)
    page.wait(".model .card .chart svg path")
    assert len(page.all(".found tbody tr")) == 150  # five kinds of module in each of 30 layers
    assert page.one(".found th").text == "layer"
    page.one("#language").click()
    assert page.all(".found tbody tr:first-child td")[1].text == "残差流"
    page.one("#language").click()

    page.press("Grad", on=page.one("#view"))
    page.press(Keys.TAB)
    assert page.driver.switch_to.active_element == page.one("#looked-at")
    page.press(Keys.ENTER)
    page.wait('.model[aria-busy="false"] .chart[aria-label^="Gradients"] svg path')
    assert len(page.all(".found tbody tr")) == 30
    page.one("#language").click()
    assert (page.one(".model h1").text, page.one(".model h2").text) == ("模型", "梯度")
    assert page.one(".found th").text == "层"
    page.resize(390, 844)
    assert page.driver.execute_script("return document.querySelector('.model .chart').offsetWidth <= innerWidth")

    page.one("#language").click()
    page.one("#looked-at").send_keys("word " * 70)
    page.one(".looking button").click()
    assert "at most 64 tokens" in page.wait(".model .notice.error").text
    assert "400" in page.log()


def test_a_model_that_sees_is_looked_at_on_an_image(seeing_page, tmp_path):
    from PIL import Image

    page = seeing_page
    Image.new("RGB", (9, 7), "red").save(tmp_path / "red.png")
    page.open("#/model")
    page.wait("#seen").send_keys(str(tmp_path / "red.png"))
    page.one("#looked-at").clear()
    page.press("ab", on=page.one("#looked-at"))
    page.press("Grad", on=page.one("#view"))
    page.one(".looking button").click()
    page.wait('.chart[aria-label^="Gradients"] svg path')
    assert len(page.all(".found tbody tr")) == 2
    assert "image 0" in page.driver.execute_script("return document.querySelector('.model').textContent")


def test_narrow_page_does_not_scroll_sideways(page):
    page.resize(390, 844)
    for address in ("", "#/labs", "#/model"):
        page.open(address)
        page.wait(".welcome, .card, .looking")
        width, window = page.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert width <= window


def test_narrow_answer_and_panel_do_not_scroll_sideways(page):
    page.resize(390, 844)
    page.open()
    page.one("#tokens").click()
    page.ask(QUESTION)
    page.wait(".answer.done .token")
    page.all(".surprise .token")[1].click()
    page.wait(".part.lens .chart svg")
    boxes = ".turns, .side .content, .scroll"
    wide = "return [...document.querySelectorAll(arguments[0])].filter(e => e.scrollWidth > e.clientWidth).map(e => e.className)"
    assert page.driver.execute_script(wide, boxes) == []
    assert page.driver.switch_to.active_element == page.one(".side"), "covered tokens keep no focus"
    assert page.one(".main").get_attribute("inert"), "what is covered takes none"
    page.press(Keys.ESCAPE)
    page.wait(".surprise .token:nth-child(2):focus")


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
    page.press(Keys.ESCAPE)
    both_languages(page, ".notice.caution", "answers only with its API key", "需要 API 密钥才会回答")
    page.one('[aria-label="API key"]').click()
    page.one("dialog[open] input").send_keys("wrong")
    page.one("dialog .primary").click()
    assert "not accept" in page.wait("dialog[open] .error").text
    page.one("dialog input").clear()
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
    spans = [(text.index("Heat"), "Heat **spreads** it.", [2], True), (text.index("- Cats"), "- Cats fly.", [3], False)]
    sentences = [
        {"start": start, "end": start + len(said), "passages": passages, "supported": supported}
        for start, said, passages, supported in spans
    ]
    found = page.driver.execute_async_script(
        "const [text, sentences, done] = arguments; const box = document.createElement('div');"
        "import('/markdown.js').then(({rendered}) => { box.append(rendered(text, sentences)); done(box.innerHTML); });",
        text,
        sentences,
    )
    button = '<button class="citation" type="button" data-citation="2" data-sentence="0">2</button>'
    assert f"<strong>spreads</strong> it.&nbsp;{button}" in found
    assert '<mark class="unsupported">Cats fly.</mark>&nbsp;<button' in found
    assert 'data-citation="3" data-sentence="1">3?</button> [7]' in found
    assert "<img" not in found
    assert "<script" not in found
    assert "javascript:" not in found


def test_spans_are_of_characters(page):
    """Python counts an emoji as one, JavaScript as two."""
    page.open()
    places = [{"passage": 1, "source": "a.md", "start": 107, "end": 112}]
    sentences = [{"start": 0, "end": 5, "evidence": places}, {"start": 6, "end": 17, "evidence": []}]
    passages = [{"number": 1, "start": 100, "text": "Oh 🙂 so\nit is."}]
    event = {"choices": [], "cutaway": {"text": "Hi 🙂. Cats sleep.", "sentences": sentences, "passages": passages}}
    found = page.driver.execute_async_script(
        "const [event, done] = arguments; Promise.all([import('/reply.js'), import('/passage.js')]).then(([reply, passage]) => {"
        "const {text, sentences, passages} = reply.read(reply.EMPTY, event);"
        "const shown = passage.flowing(passages[0].text);"
        "const places = passage.placesIn(passages[0], [sentences[0], sentences[0]]);"
        "const cut = (text) => ({start, end}) => text.slice(start, end);"
        "done([...sentences.map(cut(text)), ...places.map(cut(shown))]); });",
        event,
    )
    assert found == ["Hi 🙂.", "Cats sleep.", "\nit i"]


def test_a_character_of_several_tokens_is_readable(page):
    page.open(max_tokens=8)
    page.one("#grounded").click()
    page.one("#tokens").click()
    page.ask("温度有什么影响？")
    page.wait(".answer.done .token")
    page.all(".surprise .token")[1].click()
    page.wait(".part.attention .heat")
    assert "温" in page.one(".heat").text.replace("·", "")
    assert "\N{REPLACEMENT CHARACTER}" not in page.one("body").text


def test_the_documents_hold_no_answer(page):
    page.open()
    page.ask("Who won the football world cup in 2014?")
    both_languages(page, ".nocover", "no answer", "没有答案")


class TestRefused:
    """What the page says when the server does not answer, and what to do then."""

    def test_a_question_too_long(self, small_page):
        page = small_page
        page.open()
        page.ask("word " * 1100)
        both_languages(page, ".notice.error", "Shorten the question", "缩短问题")
        assert not page.all(".again"), "the same question would be refused again"
        page.one(".edit").click()
        assert page.one("#question").get_attribute("value") == ("word " * 1100).strip()
        assert page.driver.switch_to.active_element == page.one("#question")
        assert not page.all(".turn")
        assert "400" in page.log()

    def test_a_full_queue_and_then_a_stop(self, small_page):
        page = small_page
        page.open()
        page.wait(".status.ready")
        with long_reply(page.server) as stream:
            page.ask("Hello")
            both_languages(page, ".notice.error", "Ask again in 2 seconds", "2 秒以后再问")
            assert "429" in page.log()
            stream.close()
        wait_until_idle(page.server)
        page.one(".again").click()
        page.wait(".answer.done")
        assert len(page.all(".turn")) == 1

        with long_reply(page.server):
            page.server.process.send_signal(signal.SIGTERM)
            page.ask("And now?")
            both_languages(page, ".turn:last-child .notice.error", "stopping", "正在停止")
            assert "503" in page.log()

    def test_a_server_that_dies_while_it_answers(self, page, start_server):
        page.server = server = start_server()
        page.open(max_tokens=400)
        page.ask("Tell me a very long story about a lighthouse.")
        page.wait(".answer.streaming .prose p")
        server.process.kill()
        server.process.wait()
        both_languages(page, ".answer.failed .notice.error", "broke off", "中断")
        assert page.one(".answer.failed .prose").text, "what was written stays"
        page.log()


def both_languages(page, selector: str, english: str, chinese: str) -> None:
    assert english in page.wait(selector).text
    page.one("#language").click()
    assert chinese in page.one(selector).text
    page.one("#language").click()


def long_reply(server):
    """A reply that is being streamed, in a row that nobody else gets."""
    body = {
        "model": server_model(server),
        "messages": [{"role": "user", "content": "Count."}],
        "stream": True,
        "logit_bias": {"2": -100},
    }
    request = urllib.request.Request(
        server.url + "v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    stream = urllib.request.urlopen(request, timeout=60)
    stream.readline()
    return stream


def server_model(server) -> str:
    with urllib.request.urlopen(server.url + "v1/models") as answer:
        return json.load(answer)["data"][0]["id"]


def wait_until_idle(server) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with urllib.request.urlopen(server.url + "metrics") as answer:
            if b"\ncutaway_running 0.0\n" in answer.read():
                return
        time.sleep(0.05)
    raise AssertionError("the server is still busy")
