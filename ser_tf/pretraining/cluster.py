"""Which of several hosts this one is, without TensorFlow: what does not fit is said before it is imported."""

import os
from typing import NamedTuple

from ser_tf.documents import parse_json
from ser_tf.errors import UserError

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


class Place(NamedTuple):
    """A host among others.

    Attributes:
        number: from 0.
        hosts: how many there are.
    """

    number: int = 0
    hosts: int = 1

    @classmethod
    def told(cls) -> "Place":
        """What `TF_CONFIG` says; one host alone where it is not set or names one.

        Raises:
            UserError: it is damaged.
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
