"""Parse metrics as Prometheus does and print their families as one JSON object.

    parse_metrics.py text|openmetrics < METRICS

Prints {FAMILY: {"type": TYPE, "help": TEXT, "samples": {NAME: [LABEL]}}}. What does not parse ends it with an error.
"""

import json
import sys

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

PARSERS = {"text": parser.text_string_to_metric_families, "openmetrics": openmetrics.text_string_to_metric_families}

families = {}
for family in PARSERS[sys.argv[1]](sys.stdin.read()):
    samples = {sample.name: sorted(sample.labels) for sample in family.samples}
    families[family.name] = {"type": family.type, "help": family.documentation, "samples": samples}
print(json.dumps(families))
