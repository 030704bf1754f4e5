"""Which of several hosts this one is. It needs no TensorFlow, so that errors appear before its slow import."""

import os
from typing import NamedTuple

from ser_tf.documents import parse_json
from ser_tf.errors import UserError

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


class Place(NamedTuple):
    """The place of a host among all hosts of a training.

    Attributes:
        number: from 0.
        hosts: their number.
    """

    number: int = 0
    hosts: int = 1

    @classmethod
    def from_environment(cls) -> "Place":
        """The place that `TF_CONFIG` gives; a single host if it is not set or names one.

        Raises:
            UserError: it is malformed.
        """
        text = os.environ.get("TF_CONFIG", "{}")
        try:
            config = parse_json(text)
            cluster = config.get("cluster", {})
            if sum(map(len, cluster.values())) < 2:
                return cls()
            (kind, workers), *others = cluster.items()
            task = config["task"]
            if others or {kind, task["type"]} != {"worker"} or not isinstance(workers, list):
                raise ValueError
            return cls(range(len(workers)).index(task["index"]), len(workers))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"TF_CONFIG: expected such as {EXAMPLE}. Received: {text}") from error
