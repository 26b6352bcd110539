"""The topics that were refused, crashed or closed by the server, and are not joined again yet."""


class Unjoined:
    """What is said of them stays short, however many they are."""

    def __init__(self) -> None:
        self._topics: dict[str, str] = {}

    def add(self, topic: str, reason: str) -> None:
        """Note that a topic is not joined any more, and why."""
        self._topics[topic] = reason

    def remove(self, topic: str) -> None:
        """Forget a topic: it is joined, or nobody wants it."""
        self._topics.pop(topic, None)

    def clear(self) -> None:
        """Forget all of them: without a connection none is joined."""
        self._topics.clear()

    @property
    def reason(self) -> str:
        """Say it in words; empty if there is none."""
        if not self._topics:
            return ""
        topic, reason = next(iter(self._topics.items()))
        if len(self._topics) == 1:
            return f"{topic!r} is not joined: {reason}"
        return f"{len(self._topics)} topics are not joined, {topic!r} among them: {reason}"
