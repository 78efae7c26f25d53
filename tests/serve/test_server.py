"""What the server does beside answering: keys, limits, disconnects, failures, metrics, the page, the gallery, stopping."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from cutaway.infer.engine import EngineConfig
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

CHAT = "/v1/chat/completions"
LONG = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "logit_bias": {"257": -100, "258": -100},
}
SHORT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def slow(app, seconds: float) -> None:
    """Make every step of an application's engine take at least so long."""
    engine, step = app.state.service.engine, app.state.service.engine.step

    def slower():
        time.sleep(seconds)
        return step()

    engine.step = slower


@pytest.fixture(scope="module")
def locked(loaded, serving):
    with serving(create_app(ServeConfig(api_key="sesame"), loaded), key="sesame") as running:
        yield running


class TestKey:
    def test_every_route_wants_it(self, locked):
        with locked.http as http:
            spec = http.get("/openapi.json", headers={"Authorization": "Bearer sesame"}).json()
            routes = [(method, path) for path, methods in spec["paths"].items() for method in methods]
            assert len(routes) >= 12
            for method, path in [*routes, ("get", "/openapi.json"), ("get", "/v1/anything"), ("post", "/elsewhere")]:
                if path in ("/health", "/ready"):
                    continue
                for wrong in (
                    {},
                    {"Authorization": "Bearer sesam"},
                    {"Authorization": "sesame"},
                    {"Authorization": "Bearer"},
                ):
                    answer = http.request(method, path, headers=wrong)
                    assert answer.status_code == 401, path
                    assert answer.json()["error"]["code"] == "invalid_api_key"

    def test_the_page_and_the_pulse_do_not(self, locked):
        with locked.http as http:
            for path in ("/", "/index.html", "/app.js", "/health", "/ready"):
                assert http.get(path).status_code == 200, path

    def test_the_client_with_it(self, locked):
        assert locked.client.models.list().data
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong", max_retries=0).models.list()


class TestBusy:
    @pytest.fixture
    def small(self, loaded, serving):
        app = create_app(ServeConfig(engine=EngineConfig(max_batch=1), max_waiting=1), loaded)
        slow(app, 0.02)
        with serving(app) as running:
            yield running

    def test_a_full_queue_says_when_to_come_again(self, small):
        with small.http as http, http.stream("POST", CHAT, json=LONG), http.stream("POST", CHAT, json=LONG):
            answer = http.post(CHAT, json=SHORT)
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
            assert (http.get("/ready").status_code, http.get("/ready").json()) == (503, {"status": "full"})
            assert http.get("/health").status_code == 200

    def test_leaving_a_stream_frees_the_slot(self, small, eventually):
        worker = small.app.state.service.worker
        with small.http as http:
            with http.stream("POST", CHAT, json=LONG) as stream:
                lines = stream.iter_lines()
                next(lines)
                eventually(lambda: worker.load.running == 1)
            eventually(lambda: worker.load.running == 0)
            assert http.post(CHAT, json=SHORT).status_code == 200

    def test_leaving_a_whole_reply_frees_the_slot(self, small, eventually):
        worker = small.app.state.service.worker
        with small.http as http, pytest.raises(httpx.ReadTimeout):
            http.post(CHAT, json={**LONG, "stream": False}, timeout=0.3)
        eventually(lambda: worker.load.running == 0)
        assert (
            small.app.state.service.metrics.registry.get_sample_value("cutaway_replies_total", {"reason": "length"})
            is None
        )

    def test_inspection_runs_between_steps(self, small):
        with small.http as http, http.stream("POST", CHAT, json=LONG) as stream:
            lines = stream.iter_lines()
            next(lines)
            assert http.post("/v1/inspect", json={"ids": [1, 2, 3], "position": 2}).status_code == 200
            assert small.app.state.service.worker.load.running == 1


def test_a_silent_stream_gives_signs_of_life(loaded, serving):
    app = create_app(ServeConfig(ping=0.05), loaded)
    slow(app, 0.3)
    with (
        serving(app) as running,
        running.http as http,
        http.stream("POST", CHAT, json={**SHORT, "stream": True}) as stream,
    ):
        lines = list(stream.iter_lines())
    assert sum(line.startswith(": ping") for line in lines) >= 2
    assert lines[-2:] == ["data: [DONE]", ""]


@pytest.fixture(scope="module")
def strict(loaded, serving):
    config = ServeConfig(max_n=4, max_tokens=5, max_stop=2, max_stop_chars=10, max_logit_bias=3)
    with serving(create_app(config, loaded)) as running:
        yield running


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"n": 5}, "n"),
            ({"max_tokens": 6}, "max_tokens"),
            ({"stop": ["a", "b", "c"]}, "stop"),
            ({"stop": "x" * 11}, "stop"),
            ({"logit_bias": {str(id): 1 for id in range(4)}}, "logit_bias"),
        ],
    )
    def test_more_is_refused(self, strict, body, param):
        with strict.http as http:
            answer = http.post(CHAT, json={**SHORT, **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    def test_what_is_not_asked_for_ends_at_the_limit(self, strict):
        with strict.http as http:
            reply = http.post(CHAT, json={**LONG, "stream": False}).json()
            answer = http.post("/v1/completions", json={"model": "tiny", "prompt": ["a"] * 5, "max_tokens": 1})
        assert (reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"]) == (5, "length")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


def test_a_failing_step_fails_what_runs_and_the_server_goes_on(loaded, serving, eventually):
    app = create_app(ServeConfig(), loaded)
    engine, step = app.state.service.engine, app.state.service.engine.step
    with serving(app) as running, running.http as http:
        engine.step = lambda: 1 / 0
        answer = http.post(CHAT, json=SHORT)
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["error"]["message"]
        lines = http.post(CHAT, json=LONG).text.split("data: ")
        assert "ZeroDivisionError" in json.loads(lines[-1])["error"]["message"]
        assert engine.idle
        engine.step = step
        assert http.post(CHAT, json=SHORT).status_code == 200
        cancel, engine.cancel = engine.cancel, lambda id: cancel(id) / 0
        with running.client as client:
            stream = client.chat.completions.create(**LONG)
            eventually(lambda: not engine.idle)
            stream.close()
        eventually(lambda: engine.idle)
        assert http.post(CHAT, json=SHORT).status_code == 200
        engine.cancel = cancel
        assert http.post(CHAT, json=SHORT).status_code == 200
        assert engine.idle


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8000", "127.9.9.9", "a.localhost."]
)
def test_a_loopback_server_answers_to_loopback_names(http, host):
    assert http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.0.1", "0.0.0.0", ""]
)
def test_and_to_no_others(http, host):
    for path in ("/", "/health", "/v1/models", "/nothing"):
        answer = http.get(path, headers={"Host": host})
        assert answer.status_code == 421, path
        assert "allowed_hosts" in answer.json()["error"]["message"]


def test_names_can_be_allowed(loaded, serving):
    with serving(create_app(ServeConfig(allowed_hosts=("my.box",)), loaded)) as running, running.http as http:
        assert http.get("/v1/models", headers={"Host": "my.box:8000"}).status_code == 200
        assert http.get("/v1/models", headers={"Host": "other.box"}).status_code == 421
        assert http.get("/v1/models").status_code == 200
    with serving(create_app(ServeConfig(host="0.0.0.0"), loaded)) as running, running.http as http:
        assert http.get("/v1/models", headers={"Host": "any.box"}).status_code == 200


class TestLog:
    def lines(self, caplog) -> list[dict]:
        return [json.loads(record.message) for record in caplog.records if record.name == "cutaway.requests"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_line_tells_what_happened_and_not_what_was_written(self, http, caplog, eventually, stream):
        caplog.set_level("INFO", "cutaway.requests")
        messages = [{"role": "user", "content": "my secret"}]
        body = {**LONG, "n": 2, "max_tokens": 2, "stream": stream, "messages": messages}
        answer = http.post(CHAT, json=body, headers={"X-Request-Id": "r-1"})
        assert answer.headers["X-Request-Id"] == "r-1"
        eventually(lambda: len(self.lines(caplog)) == 1)
        [line] = self.lines(caplog)
        assert (line["id"], line["method"], line["route"], line["status"]) == ("r-1", "POST", CHAT, 200)
        assert (line["completion_tokens"], line["finish"], line["model"]) == (4, ["length"] * 2, "tiny")
        assert line["seconds"] >= line["first_token_seconds"] >= 0
        assert "secret" not in caplog.text

    def test_what_is_refused_has_a_line_too(self, http, caplog, eventually):
        caplog.set_level("INFO", "cutaway.requests")
        answer = http.post(CHAT, json={**SHORT, "temperature": -1}, headers={"X-Request-Id": "no word\x7f"})
        eventually(lambda: len(self.lines(caplog)) == 1)
        assert self.lines(caplog)[0]["status"] == 400
        assert self.lines(caplog)[0]["id"] == answer.headers["X-Request-Id"] != "no word"

    def test_texts_where_they_are_wanted(self, loaded, serving, caplog, eventually):
        caplog.set_level("INFO", "cutaway.requests")
        with serving(create_app(ServeConfig(log_texts=True), loaded)) as running, running.http as http:
            reply = http.post(CHAT, json=SHORT).json()["choices"][0]["message"]["content"]
        [line] = self.lines(caplog)
        assert "<|im_start|>user\nHi" in line["prompts"][0]
        assert line["replies"] == [reply]


def test_the_dashboard_shows_series_that_exist(http):
    """Every series of examples/grafana.json is told by a server that has answered something."""
    http.post(CHAT, json={**SHORT, "response_format": {"type": "json_object"}})
    text = http.get("/metrics").text
    told = set(re.findall(r"^(cutaway_\w+)", text, re.MULTILINE))
    dashboard = json.loads((Path(__file__).parents[2] / "examples" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    wanted = {name for query in queries for name in re.findall(r"cutaway_\w+", query)}
    assert wanted <= told

    def families(names: set[str]) -> set[str]:
        return {re.sub("_(bucket|sum|count|created|total)$", "", name) for name in names}

    assert families(told) == families(wanted), "nothing that is told is not shown"
    assert all(panel["title"] and panel["targets"] for panel in dashboard["panels"])


def test_metrics(http):
    http.post(CHAT, json=SHORT)
    text = http.get("/metrics").text
    for name in (
        'cutaway_requests_total{route="/v1/chat/completions",status="200"}',
        "cutaway_request_seconds_count",
        "cutaway_first_token_seconds_count",
        "cutaway_token_seconds_count",
        "cutaway_tool_calls_total",
        'cutaway_tokens_total{kind="prompt"}',
        'cutaway_tokens_total{kind="reply"}',
        'cutaway_replies_total{reason="length"}',
        "cutaway_running",
        "cutaway_waiting",
        "cutaway_cache_used",
    ):
        assert re.search(rf"^{re.escape(name)}.* [\d.e+-]+$", text, re.MULTILINE), name


def test_health(http):
    assert http.get("/health").json() == {"status": "alive"}
    assert http.get("/ready").json() == {"status": "ready"}


def test_the_page_keeps_to_itself_and_is_asked_again(http):
    answer = http.get("/")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-cache"
    assert http.get("/", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert "javascript" in http.get("/app.js").headers["Content-Type"]


def test_the_gallery_reads_a_folder(loaded, serving, tmp_path):
    assert_empty = create_app(ServeConfig(labs=tmp_path), loaded)
    with serving(assert_empty) as running, running.http as http:
        assert http.get("/v1/labs").json() == {"labs": []}
        record = {"id": 5, "title": {"en": "Beams"}, "plots": ["lab05.svg"]}
        (tmp_path / "report.json").write_text(json.dumps([record]))
        (tmp_path / "lab05.svg").write_text("<svg/>")
        [lab] = http.get("/v1/labs").json()["labs"]
        assert lab == {**record, "plots": ["/v1/labs/lab05.svg"]} == http.get("/v1/labs/5").json()
        plot = http.get(lab["plots"][0])
        assert (plot.text, plot.headers["Content-Type"]) == ("<svg/>", "image/svg+xml")
        assert http.get("/v1/labs/report.json").status_code == 404
        for damage in ("{", "[{}]", "{}x"):
            (tmp_path / "report.json").write_text(damage)
            refused = http.get("/v1/labs")
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "labs")


class TestProcess:
    """`cutaway serve` in a process of its own."""

    @pytest.fixture
    def process(self, model_folder):
        command = [sys.executable, "-m", "cutaway", "serve", str(model_folder), "--port", "0", "engine.max_batch=2"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            line = process.stdout.readline()
            process.url = re.search(r"http://\S+", line)[0]
            yield process
            process.kill()

    def test_a_signal_drains_and_then_it_is_gone(self, process):
        """What runs ends whole, what comes meanwhile is told to come again, and the process leaves in peace."""
        choices, tokens, chunks, begun = 16, 120, [], threading.Event()  # two at a time: seconds, whatever the machine

        def read():
            body = {**LONG, "n": choices, "max_tokens": tokens, "stream_options": {"include_usage": True}}
            with httpx.stream("POST", process.url + CHAT, json=body, trust_env=False, timeout=60) as stream:
                for line in stream.iter_lines():
                    if line.startswith("data: "):
                        chunks.append(line.removeprefix("data: "))
                        begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(20)
        process.send_signal(signal.SIGTERM)
        with httpx.Client(base_url=process.url, trust_env=False) as http:
            limit = time.monotonic() + 10
            while (ready := http.get("/ready")).status_code == 200:  # until the signal has arrived
                assert time.monotonic() < limit
            assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
            refused = http.post(CHAT, json=SHORT)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "unavailable_error")
        assert int(refused.headers["Retry-After"]) >= 1
        reader.join(60)
        assert process.wait(10) == 0
        assert chunks.pop() == "[DONE]"
        told = [json.loads(chunk) for chunk in chunks]
        ended = [choice["finish_reason"] for chunk in told for choice in chunk["choices"] if choice["finish_reason"]]
        assert ended == ["length"] * choices
        assert told[-1]["usage"]["completion_tokens"] == choices * tokens

    def test_a_taken_port_is_told(self, process, model_folder):
        port = process.url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "cutaway", "serve", str(model_folder), "--port", port]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert "port" in second.stderr
        assert "Traceback" not in second.stderr


def test_a_draining_server_refuses_what_is_new(loaded, serving):
    app = create_app(ServeConfig(), loaded)
    with serving(app) as running, running.http as http:
        app.state.traffic.draining = True
        assert http.post(CHAT, json=SHORT).status_code == 503
        assert http.get("/ready").json() == {"status": "stopping"}
        assert http.get("/ready").status_code == 503
        assert http.get("/health").status_code == 200
