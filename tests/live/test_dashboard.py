"""The shipped Grafana dashboard asks for nothing that the metrics page has not."""

import json
import re
import subprocess

from harness import BIN, PATIENCE, ROOT, Subscriber, stream_whole

DASHBOARD = ROOT / "daemon" / "grafana" / "sidewinder.json"
PROMETHEUS_LABELS = {"instance", "job"}  # put there by whoever scrapes
SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
NAME = re.compile(r'\b((?:sidewinder|process)_\w+)(?:\{([^}]*)\})?')
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r'\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)')


def page(text):
    """Metric names, each with the label names and values it has."""
    known = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels = SAMPLE.match(line).groups()
        entry = known.setdefault(name, {})
        for label, value in LABEL.findall(labels or ""):
            entry.setdefault(label, set()).add(value)
    return known


def gpu_series():
    command = [BIN / "gpu_metrics_page", BIN / "libfake_nvml.so", "0000:01:00.0"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return {name: labels for name, labels in page(text).items() if name.startswith("sidewinder_gpu_")}


def expressions(dashboard):
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def problems(known, expression, legend):
    metrics = NAME.findall(expression)
    if not metrics:
        yield "asks for no metric"
    labels = set(PROMETHEUS_LABELS)
    for name, matchers in metrics:
        if name not in known:
            yield f"{name} is not there"
        labels |= set(known.get(name, {}))
        for label, value in MATCHER.findall(matchers):
            if label in PROMETHEUS_LABELS:
                continue
            if value not in known.get(name, {}).get(label, set()):
                yield f'{name} has no {label}="{value}"'
    for group in GROUPED.findall(expression):
        for label in filter(None, (part.strip() for part in group.split(","))):
            if label not in labels:
                yield f"no metric of it has a label {label}"
    for label in re.findall(r"\{\{(\w+)\}\}", legend):
        if label not in labels:
            yield f"the legend's {label} is no label"


def test_every_query_is_answered(start, quilter):
    daemon = start()
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "d", quilter)
    text = daemon.get("/metrics")[1]
    known = page(text)
    # What GPUs do is on the page where they serve. Here none does; its panels are held against the page that the
    # daemon's own code makes of a stand-in for the driver (metrics_test.cpp has its values).
    gpus = gpu_series()
    assert gpus and not gpus.keys() & known.keys()
    known |= gpus
    dashboard = json.loads(DASHBOARD.read_text())
    wrong = [(title, expression, problem) for title, expression, legend in expressions(dashboard)
             for problem in problems(known, expression, legend)]
    assert not wrong
    # And every metric but those of the page itself is shown somewhere.
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for _, expression, _ in expressions(dashboard)
             for name, _ in NAME.findall(expression)}
    there = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    assert there <= asked, there - asked
    # The parts of the lag are parts of it.
    stages = known["sidewinder_stage_seconds_count"]["stage"]
    assert stages == {"wait", "step", "readout", "queue", "publish"}


def test_the_check_can_fail():
    known = page('a_total 1\nsidewinder_x_bucket{le="1",kind="a"} 3\n')
    assert not [*problems(known, 'rate(sidewinder_x_bucket{kind="a"}[1m])', "{{kind}}")]
    for expression, legend in (("sidewinder_y", ""), ('sidewinder_x_bucket{kind="b"}', ""), ("up", ""),
                               ("sum by (stage) (sidewinder_x_bucket)", ""), ("sidewinder_x_bucket", "{{stage}}")):
        assert [*problems(known, expression, legend)], expression
