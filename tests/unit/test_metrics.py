"""What is counted of requests, added up and written for Prometheus."""

import pytest

from agproxy.entries import Entry
from agproxy.metrics import (
    COUNTED,
    DURATIONS,
    FAMILIES,
    OPEN_METRICS,
    TEXT,
    Counters,
    content_type,
    counted,
    merge,
    render,
)


def entry(**more):
    values = {"id": "r", "at": 1.0, "method": "POST", "path": "/", "protocol": "openai_chat", "status": 200}
    return Entry(**(values | more))


def served(model="gemini-2.5-flash", **more):
    return entry(**({"model": model, "account": "a", "attempts": 1} | more))


def text_of(*entries, kind=TEXT):
    counters = Counters()
    for one in entries:
        counters.observe(one)
    return render(counters.data(), kind).decode()


def value_of(text, sample):
    (line,) = [line for line in text.splitlines() if line.rpartition(" ")[0] == sample]
    return float(line.rpartition(" ")[2])


def test_requests_are_counted_by_protocol_model_and_status():
    text = text_of(served(), served(), served(status=499), entry(protocol="", status=400))

    labels = 'protocol="openai_chat",model="gemini-2.5-flash"'
    assert value_of(text, f'agproxy_requests_total{{{labels},code="200"}}') == 2
    assert value_of(text, f'agproxy_requests_total{{{labels},code="499"}}') == 1
    assert value_of(text, 'agproxy_requests_total{protocol="",model="",code="400"}') == 1


def test_tokens_are_counted_by_kind():
    use = {"prompt_tokens": 10, "output_tokens": 7, "cached_tokens": 4, "reasoning_tokens": 2}
    text = text_of(served(**use), served(**use))

    for kind, number in (("input", 20), ("output", 14), ("cached", 8), ("reasoning", 4)):
        sample = f'agproxy_tokens_total{{protocol="openai_chat",model="gemini-2.5-flash",type="{kind}"}}'
        assert value_of(text, sample) == number


def test_a_duration_is_in_each_bucket_from_its_own_on():
    text = text_of(served(total_seconds=0.32, first_byte_seconds=0.321), served(total_seconds=1e6))

    labels = 'protocol="openai_chat",model="gemini-2.5-flash"'
    for name, bounds in (("request_duration", (0.16, 0.32)), ("time_to_first_byte", (0.32, 0.64))):
        found = [value_of(text, f'agproxy_{name}_seconds_bucket{{{labels},le="{bound}"}}') for bound in bounds]
        assert found == [0, 1]
    assert value_of(text, f'agproxy_request_duration_seconds_bucket{{{labels},le="600"}}') == 1
    assert value_of(text, f'agproxy_request_duration_seconds_bucket{{{labels},le="+Inf"}}') == 2
    assert value_of(text, f"agproxy_request_duration_seconds_count{{{labels}}}") == 2
    assert value_of(text, f"agproxy_request_duration_seconds_sum{{{labels}}}") == 1e6 + 0.32
    assert value_of(text, f"agproxy_time_to_first_byte_seconds_count{{{labels}}}") == 1


def test_attempts_are_counted_by_account_and_outcome():
    text = text_of(
        served(account="c", attempts=3, outcomes=("a=429", "b=x=503")),
        served(account="a", attempts=1, outcomes=("a=429",), status=429),
        served(account="c", attempts=1, status=499),
    )

    for account, outcome, number in (("a", "429", 2), ("b=x", "503", 1), ("c", "ok", 1), ("c", "cut", 1)):
        sample = f'agproxy_upstream_attempts_total{{account="{account}",outcome="{outcome}"}}'
        assert value_of(text, sample) == number


def test_names_that_clients_make_up_do_not_make_the_table_grow():
    made_up = [served(f"made-up-{number}", status=404) for number in range(1000)]
    unasked = [entry(model=f"unasked-{number}", status=503) for number in range(1000)]
    real = [served(f"gemini-{number}") for number in range(1000)]
    text = text_of(*made_up, *unasked, *real)

    requests = [line for line in text.splitlines() if line.startswith("agproxy_requests_total{")]
    assert len(requests) == 203  # 200 of real ones, and "other" with three statuses
    for code, number in (("404", 1000), ("503", 1000), ("200", 800)):
        sample = f'agproxy_requests_total{{protocol="openai_chat",model="other",code="{code}"}}'
        assert value_of(text, sample) == number


def test_a_model_that_is_only_ever_overloaded_keeps_its_name():
    assert 'model="gemini-9"' in text_of(served("gemini-9", status=503, outcomes=("a=503",)))


def test_labels_are_escaped():
    text = text_of(served('a"b\\c\nd\udc80'))

    assert 'model="a\\"b\\\\c\\nd\\udc80"' in text
    assert len([line for line in text.splitlines() if line.startswith("agproxy_requests_total{")]) == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPEN_METRICS),
    ],
)
def test_the_format_is_what_the_scraper_asks_for(accept, kind):
    assert content_type(accept) == kind


def test_names_follow_the_rules_of_prometheus():
    """Those of `promtool check metrics`: counters end in _total, nothing else does, units are base units."""
    for name, family in FAMILIES.items():
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_ms", "_milliseconds", "_kb")), name
        assert name.startswith(("agproxy_", "process_"))
        assert family.help.endswith(".")
        assert "le" not in family.labels
        assert "\n" not in family.help
        assert "\\" not in family.help
    assert list(DURATIONS) == sorted(set(DURATIONS))


# --- several processes


def test_gauges_are_added_or_the_most_or_the_least_as_they_mean():
    one = {"agproxy_workers": [[[], 1]], "agproxy_accounts": [[["ready"], 3]], "process_start_time_seconds": [[[], 5]]}
    other = {
        "agproxy_workers": [[[], 1]],
        "agproxy_accounts": [[["ready"], 2]],
        "process_start_time_seconds": [[[], 4]],
    }

    assert merge([one, other]) == {
        "agproxy_workers": [[[], 2]],
        "agproxy_accounts": [[["ready"], 3]],
        "process_start_time_seconds": [[[], 4]],
    }
    assert counted(one | {"agproxy_wait_seconds_total": [[[], 1]]}) == {"agproxy_wait_seconds_total": [[[], 1]]}


def test_a_family_of_another_version_is_left_out():
    assert merge([{"agproxy_of_tomorrow": [[[], 1]]}]) == {}


# --- as Prometheus reads it


@pytest.mark.parametrize("kind", [TEXT, OPEN_METRICS])
def test_prometheus_own_parser_reads_it(kind):
    prometheus = pytest.importorskip("prometheus_client")
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
    from prometheus_client.parser import text_string_to_metric_families as read_text

    assert prometheus
    read = read_open if kind == OPEN_METRICS else read_text
    entries = [served('odd "name"\\\n'), served(prompt_tokens=5, first_byte_seconds=0.1, total_seconds=3.5)]
    families = {family.name: family for family in read(text_of(*entries, kind=kind))}

    requests = {tuple(s.labels.values()): s.value for s in families["agproxy_requests"].samples}
    assert requests == {
        ("openai_chat", "gemini-2.5-flash", "200"): 1,
        ("openai_chat", 'odd "name"\\\n', "200"): 1,
    }
    assert families["agproxy_requests"].type == "counter"
    durations = families["agproxy_request_duration_seconds"]
    assert durations.type == "histogram"
    assert sum(s.value for s in durations.samples if s.name.endswith("_count")) == 2
    assert {f"{name}_total" for name in families if families[name].type == "counter"} <= COUNTED
