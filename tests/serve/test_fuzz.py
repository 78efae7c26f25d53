"""Whatever is sent, the server answers with a status below 500 and an error in the one shape."""

import json
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase, max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": st.text(max_size=9)})
)
BODIES = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": st.text(max_size=9) | st.lists(st.integers(-5, 300), max_size=5)},
    "/v1/responses": {"input": st.text(max_size=9)},
    "/v1/rerank": {"query": st.text(max_size=9), "documents": st.lists(st.text(max_size=9), max_size=3)},
    "/v1/tokenize": {"text": st.text()},
    "/tokenize": {"prompt": st.text()},
    "/detokenize": {"tokens": st.lists(st.integers(-5, 300), max_size=5)},
    "/v1/inspect": {"ids": st.lists(st.integers(-1, 300), max_size=5), "position": st.integers(-2, 6)},
    "/v1/embeddings": {"input": st.text(max_size=9)},
}


@st.composite
def requests(draw, fields: dict[str, list[str]]):
    """A route with a body that is nearly right: some of its fields, one or two of them with any value at all."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = draw(st.fixed_dictionaries({"model": st.just("tiny"), **BODIES[path]}))
    for name in ("max_tokens", "max_output_tokens"):
        if name in fields[path]:
            body[name] = draw(st.integers(1, 3))
    for name in draw(st.lists(st.sampled_from([*fields[path], "tools", "other"]), max_size=2)):
        body[name] = draw(VALUES | st.floats(0, 2) | st.integers(0, 5))
    return path, body


def test_no_request_is_a_server_error(http, server):
    schemas = http.get("/openapi.json").json()
    fields = {}
    for path in BODIES:
        content = schemas["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        fields[path] = sorted(schemas["components"]["schemas"][content["$ref"].rsplit("/", 1)[1]]["properties"])

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(requests(fields))
    def check(request):
        path, body = request
        # Not httpx's own JSON: it refuses NaN, which clients do send.
        answer = http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (answer.text, body)
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    check()
    assert server.app.state.service.worker.alive
