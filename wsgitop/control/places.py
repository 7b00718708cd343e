"""How many clients there are, of whom, and whether there is room for one more. Pure."""

from __future__ import annotations

from collections import Counter


class Places:
    """The places of all clients: ``most`` in all, ``most_of_others`` of users who are not the owner,
    ``most_per_user`` of each of those. What others can take is less than there is, so that they cannot keep
    the owner out.
    """

    def __init__(self, *, most: int, most_of_others: int, most_per_user: int) -> None:
        self._most = most
        self._most_of_others = most_of_others
        self._most_per_user = most_per_user
        self._owners = 0
        self._others: Counter[int] = Counter()

    @property
    def taken(self) -> int:
        """By everybody."""
        return self._owners + self._others.total()

    def take(self, uid: int, *, is_owner: bool) -> str:
        """A place for one more client of user ``uid``: '' if it has one now, else why it has none."""
        if not is_owner and self._others[uid] >= self._most_per_user:
            return f"{self._most_per_user} clients of user id {uid} are connected already"
        if not is_owner and self._others.total() >= self._most_of_others:
            return f"{self._most_of_others} clients of other users are connected already"
        if self.taken >= self._most:
            return f"{self._most} clients are connected already"
        if is_owner:
            self._owners += 1
        else:
            self._others[uid] += 1
        return ""

    def give_back(self, uid: int, *, is_owner: bool) -> None:
        """A client that had a place is gone."""
        if is_owner:
            self._owners -= 1
            return
        self._others[uid] -= 1
        if not self._others[uid]:
            del self._others[uid]
